//! CRC32C (Castagnoli): of frames, footers and records, of the parts of a pack, and of whole packs from those.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC32C of some bytes.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC32C of the parts, joined.
pub(super) fn crc32c_of(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    narrow(digest.finalize())
}

/// The CRC32C of two runs of bytes, one after the other, from the CRC32C of each and the length of the second.
#[must_use]
pub fn combine_crc32c(first: u32, second: u32, second_bytes: u64) -> u32 {
    narrow(crc_fast::checksum_combine(
        CrcAlgorithm::Crc32Iscsi,
        u64::from(first),
        u64::from(second),
        second_bytes,
    ))
}

fn narrow(crc: u64) -> u32 {
    u32::try_from(crc).expect("a CRC32C has 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_castagnoli_and_combines() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c_of(&[b"1234", b"56789"]), 0xe306_9283);
        assert_eq!(crc32c_of(&[]), 0);
        assert_eq!(
            combine_crc32c(crc32c(b"1234"), crc32c(b"56789"), 5),
            0xe306_9283
        );
        assert_eq!(combine_crc32c(0, crc32c(b"x"), 1), crc32c(b"x"));
    }
}
