//! What others said, made fit for a record and a log.

/// Longest text of one command, or one error, in characters.
const PART_CHARS_MAX: usize = 240;
/// Longest text of a whole cut.
const TEXT_CHARS_MAX: usize = 1000;
/// How many of the last lines are told.
const LINES_MAX: usize = 3;

/// Without control characters, and not too long.
pub(super) fn shortened(text: &str) -> String {
    bounded(text, PART_CHARS_MAX)
}

/// The last lines of several texts, as one line.
pub(super) fn last_lines(texts: &[&str]) -> String {
    let lines: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let first = lines.len().saturating_sub(LINES_MAX);
    shortened(&lines[first..].join(" / "))
}

/// All that is to be told of a cut.
pub(super) fn joined(parts: &[String]) -> String {
    bounded(&parts.join("; "), TEXT_CHARS_MAX)
}

fn bounded(text: &str, chars_max: usize) -> String {
    let safe = |c: char| {
        // What a terminal obeys, and what changes the order in which others are shown.
        let is_bad = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if is_bad { '?' } else { c }
    };
    let mut chars = text.chars().map(safe);
    let mut kept: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_long_or_obeyed() {
        assert_eq!(shortened("a\u{1b}[2J\u{202e}b\n"), "a?[2J?b?");
        assert_eq!(shortened(&"é".repeat(500)).chars().count(), 241);
        assert_eq!(last_lines(&["1\n2\n\n3 ", "4\n"]), "2 / 3 / 4");
        assert_eq!(last_lines(&["", "\n"]), "");
        let long = vec!["x".repeat(300); 9];
        assert_eq!(joined(&long).chars().count(), 1001);
    }
}
