//! Finding zeroes quickly.

/// Compared with, page by page: it stays in the first-level cache, and `==` on slices is `memcmp`.
static ZEROES: [u8; 4096] = [0; 4096];

/// Whether all bytes are zero. Stops at the first page that is not.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(ZEROES.len())
        .all(|page| *page == ZEROES[..page.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_byte_counts() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zero(&bytes));
        assert!(is_zero(&[]));
        for at in [0, 1, 4095, 4096, 9_999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "byte {at}");
            bytes[at] = 0;
        }
    }
}
