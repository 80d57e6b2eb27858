//! What callers send, checked before anything is done with it.

use std::collections::HashMap;

use crate::ManagerError;

/// Longest name, in bytes: what CSI allows a string.
const NAME_LEN_MAX: usize = 128;
/// Most bytes of keys and values of a map: what CSI allows a map.
const METADATA_SIZE_MAX: usize = 4 << 10;

/// Refuses a name that cannot be kept.
pub(crate) fn check_name(name: &str) -> Result<(), ManagerError> {
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.chars().any(char::is_control) {
        return Err(ManagerError::InvalidArgument(format!(
            "a name has 1 to {NAME_LEN_MAX} bytes and no control characters"
        )));
    }
    Ok(())
}

/// Refuses metadata that is too much to keep.
pub(crate) fn check_metadata(metadata: &HashMap<String, String>) -> Result<(), ManagerError> {
    let size: usize = metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
    if size > METADATA_SIZE_MAX {
        return Err(ManagerError::InvalidArgument(format!(
            "the metadata has {size} bytes; {METADATA_SIZE_MAX} is the most"
        )));
    }
    Ok(())
}

/// What both names and pages need of sizes: the size to make, from what is required, allowed and rounded up to.
///
/// # Errors
/// `OutOfRange` when nothing between `required` and `limit` (0: none) fits.
pub(crate) fn fit_size(required: u64, limit: u64, granularity: u64) -> Result<u64, ManagerError> {
    let size = required
        .checked_next_multiple_of(granularity.max(1))
        .filter(|size| i64::try_from(*size).is_ok())
        .ok_or_else(|| ManagerError::OutOfRange(format!("{required} bytes are too many")))?;
    if limit != 0 && size > limit {
        return Err(ManagerError::OutOfRange(format!(
            "{required} bytes become {size} by rounding up to {granularity}, more than the limit of {limit}"
        )));
    }
    Ok(size)
}

/// Whether a size is what a request asks for. Without a limit only what was required, rounded up, is; with one whatever is between.
pub(crate) fn is_asked_size(size: u64, required: u64, limit: u64, granularity: u64) -> bool {
    match limit {
        _ if size < required => false,
        0 => size == required || fit_size(required, 0, granularity).is_ok_and(|fits| size == fits),
        limit => size <= limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_another_size_is_not_what_was_asked_for() {
        for (size, required, limit, is_asked) in [
            (8192, 8192, 0, true),
            (8192, 5000, 0, true),
            (8192, 4096, 0, false),
            (8192, 8193, 0, false),
            // One that was not made here need not be round.
            (5000, 5000, 0, true),
            (8192, 1, 9000, true),
            (8192, 1, 8191, false),
            (8192, 9000, 10_000, false),
        ] {
            let found = is_asked_size(size, required, limit, 4096);
            assert_eq!(found, is_asked, "{size} {required} {limit}");
        }
    }

    #[test]
    fn sizes_fit_between_required_and_limit() {
        assert_eq!(fit_size(1, 0, 4096).unwrap(), 4096);
        assert_eq!(fit_size(4096, 4096, 4096).unwrap(), 4096);
        assert_eq!(fit_size(5, 10, 1).unwrap(), 5);
        assert_eq!(fit_size(5, 0, 0).unwrap(), 5);
        assert!(matches!(
            fit_size(1, 4095, 4096),
            Err(ManagerError::OutOfRange(_))
        ));
        assert!(matches!(
            fit_size(u64::MAX, 0, 4096),
            Err(ManagerError::OutOfRange(_))
        ));
        assert!(matches!(
            fit_size(1 << 63, 0, 1),
            Err(ManagerError::OutOfRange(_))
        ));
    }

    #[test]
    fn names_are_checked() {
        assert!(check_name("snapshot-1 ü").is_ok());
        for bad in ["", "a\nb", &"x".repeat(129)] {
            assert!(check_name(bad).is_err());
        }
        let big = [("k".to_owned(), "v".repeat(5000))].into();
        assert!(check_metadata(&big).is_err());
    }
}
