//! How many cases a property is tried with.

/// The name of proptest's own variable.
const VARIABLE: &str = "PROPTEST_CASES";

/// As many as the test itself asks for, or as `PROPTEST_CASES` does if those are more. A number in a test's own configuration would
/// hide the variable otherwise.
///
/// # Panics
/// If the variable is no number.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own setting, read in this one place"
)]
pub fn at_least(own: u32) -> u32 {
    more(own, std::env::var(VARIABLE).ok().as_deref())
}

fn more(own: u32, asked: Option<&str>) -> u32 {
    match asked.map(str::parse::<u32>) {
        None => own,
        Some(Ok(asked)) => own.max(asked),
        Some(Err(error)) => panic!("{VARIABLE}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_number_counts() {
        assert_eq!(more(24, None), 24);
        assert_eq!(more(24, Some("7")), 24);
        assert_eq!(more(24, Some("2000")), 2000);
    }
}
