//! Text that came from elsewhere (a bucket, a driver), made safe to print: a terminal obeys control characters.

/// A text of one line: what a terminal would obey, line feeds too, is shown as an escape instead.
pub(crate) fn line(text: &str) -> String {
    escape(text, |_| false)
}

/// A text of several lines, of which all but the first are indented: none can pass for a line of ours.
pub(crate) fn lines(text: &str) -> String {
    escape(text, |c| c == '\n').replace('\n', "\n  ")
}

/// A text whose lines were put together here, of parts that may come from elsewhere.
pub(crate) fn own_lines(text: &str) -> String {
    escape(text, |c| c == '\n')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && !keep(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Control characters, and those that change the order in which others are shown.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_obeys() {
        assert_eq!(
            line("web \u{1b}[2J\n\u{9b}x\u{7f}é"),
            "web \\u{1b}[2J\\n\\u{9b}x\\u{7f}é"
        );
        assert_eq!(line("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(lines("a\r\nb"), "a\\r\n  b");
        assert_eq!(own_lines("a\n\u{7}b"), "a\n\\u{7}b");
    }
}
