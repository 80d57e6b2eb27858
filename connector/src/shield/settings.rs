//! Reading one setting out of LVM's configuration (lvm.conf(5)), as far as that needs no more than its words.

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Text, or a list of texts.
    Texts(Vec<String>),
    /// A number, or whatever else.
    Word(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// A setting's last value. `devices/name = …`, a line in the section, and a section in one line are all good.
pub(super) fn value(text: &str, name: &str) -> Option<Value> {
    let tokens = tokens(text);
    let is_it = |token: &Token| match token {
        Token::Word(word) => word.rsplit('/').next() == Some(name),
        _ => false,
    };
    let mut found = None;
    for (at, pair) in tokens.windows(2).enumerate() {
        if is_it(&pair[0]) && pair[1] == Token::Sign('=') {
            found = value_at(&tokens[at + 2..]).or(found);
        }
    }
    found
}

fn value_at(tokens: &[Token]) -> Option<Value> {
    match tokens.first()? {
        Token::Text(text) => Some(Value::Texts(vec![text.clone()])),
        Token::Word(word) => Some(Value::Word(word.clone())),
        Token::Sign('[') => {
            let items = tokens[1..].iter();
            let items = items.take_while(|token| **token != Token::Sign(']'));
            let texts = items.filter_map(|token| match token {
                Token::Text(text) => Some(text.clone()),
                _ => None,
            });
            Some(Value::Texts(texts.collect()))
        }
        Token::Sign(_) => None,
    }
}

/// Words, texts in either kind of quotes, and signs; comments go to the end of their line.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' | '\'' => {
                let mut quoted = String::new();
                while let Some(inner) = chars.next().filter(|inner| *inner != c) {
                    // Only these two are taken for what follows; in an expression the backslash has a meaning of its own.
                    let escaped = (inner == '\\' && c == '"')
                        .then(|| chars.next_if(|next| ['"', '\\'].contains(next)))
                        .flatten();
                    quoted.push(escaped.unwrap_or(inner));
                }
                tokens.push(Token::Text(quoted));
            }
            '[' | ']' | '{' | '}' | '=' | ',' => tokens.push(Token::Sign(c)),
            _ if c.is_whitespace() => {}
            _ => {
                let mut word = String::from(c);
                let is_word = |c: &char| !c.is_whitespace() && !"#\"'[]{}=,".contains(*c);
                while let Some(more) = chars.next_if(is_word) {
                    word.push(more);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_wherever_they_stand() {
        let texts = |all: &[&str]| Value::Texts(all.iter().map(|&text| text.to_owned()).collect());
        let name = "global_filter";
        for (text, expected) in [
            ("devices/global_filter=\"r|.*|\"", &["r|.*|"][..]),
            ("devices { global_filter = 'r|\\.|' }", &["r|\\.|"]),
            (
                "devices {\n# global_filter = [ \"a|x|\" ]\n\tglobal_filter = [ # all\n \"a|[s]d|\",\n \"r|\\\"\\.#|\" ]\n}",
                &["a|[s]d|", "r|\"\\.#|"],
            ),
            ("global_filter=[]\nmy_global_filter=\"x\"", &[]),
            ("global_filter=\"a\"\nglobal_filter=\"b\"", &["b"]),
        ] {
            assert_eq!(value(text, name), Some(texts(expected)), "{text}");
        }
        for none in [
            "",
            "# global_filter=\"a\"",
            "global_filter",
            "x=\"global_filter\"",
            "global_filter=}",
        ] {
            assert_eq!(value(none, name), None, "{none}");
        }
        let number = value("devices { scan_lvs=0 }", "scan_lvs");
        assert_eq!(number, Some(Value::Word("0".to_owned())));
    }
}
