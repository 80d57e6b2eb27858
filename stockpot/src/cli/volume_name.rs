//! Names that people give to volumes. The driver takes more: orchestrators may use any characters in theirs.

/// Refuses what a shell, a path or an option could be confused by.
pub(super) fn parse_volume_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('-') {
        return Err(
            "a name has at least one character, and does not begin with a hyphen".to_owned(),
        );
    }
    match text.chars().find(|c| *c == '/' || c.is_control()) {
        Some('/') => Err("a name has no slash".to_owned()),
        Some(_) => Err("a name has no control characters".to_owned()),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_command_line() {
        for good in ["data", "web-1", "vg0.data", "mail server", "größe"] {
            assert_eq!(parse_volume_name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "-x",
            "--force",
            "a/b",
            "/",
            "a\nb",
            "a\tb",
            "a\u{1b}[2J",
        ] {
            assert!(parse_volume_name(bad).is_err(), "{bad:?}");
        }
    }
}
