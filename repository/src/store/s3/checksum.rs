//! CRC32C and MD5 as S3 writes them in headers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

use crate::store::PartReceipt;

/// CRC32C (Castagnoli) of some bytes.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC32C of two runs of bytes, one after the other, from the CRC32C of each and the length of the second.
#[must_use]
pub fn combine_crc32c(first: u32, second: u32, second_bytes: u64) -> u32 {
    let combined = crc_fast::checksum_combine(
        CrcAlgorithm::Crc32Iscsi,
        u64::from(first),
        u64::from(second),
        second_bytes,
    );
    u32::try_from(combined).expect("a 32-bit CRC has 32 bits")
}

/// `x-amz-checksum-crc32c`.
pub(super) fn header(crc32c: u32) -> String {
    STANDARD.encode(crc32c.to_be_bytes())
}

/// The sum in `x-amz-checksum-crc32c`; `None` for that of a multipart object which is one of its parts' sums.
pub(super) fn parse(header: &str) -> Option<u32> {
    let bytes = STANDARD.decode(header).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// `Content-MD5`.
pub(super) fn md5_header(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

/// Header of a whole multipart object.
pub(super) fn full_object(parts: &[PartReceipt]) -> String {
    let whole = parts.iter().fold(0, |sum, part| {
        combine_crc32c(sum, part.crc32c, part.size_bytes)
    });
    header(whole)
}

/// Header of a multipart object that has only a checksum of its parts' checksums.
pub(super) fn composite(parts: &[PartReceipt]) -> String {
    let sums: Vec<u8> = parts
        .iter()
        .flat_map(|part| part.crc32c.to_be_bytes())
        .collect();
    format!("{}-{}", header(crc32c(&sums)), parts.len())
}

/// Whether a checksum that the store states for a multipart object is the one of these parts. Forms that are not
/// known say nothing.
pub(super) fn contradicts(stated: &str, parts: &[PartReceipt]) -> bool {
    match stated.split_once('-') {
        Some(_) => stated != composite(parts),
        None => stated != full_object(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_castagnoli_and_combines() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(
            combine_crc32c(crc32c(b"1234"), crc32c(b"56789"), 5),
            0xe306_9283
        );
        assert_eq!(combine_crc32c(0, crc32c(b"x"), 1), crc32c(b"x"));
        assert_eq!(parse(&header(0xe306_9283)), Some(0xe306_9283));
        assert_eq!(parse(&format!("{}-2", header(1))), None);
        assert_eq!(header(0xe306_9283), "4waSgw==");
    }

    #[test]
    fn stated_sums_are_compared_in_their_form() {
        let part = |number, bytes: &[u8]| PartReceipt {
            number,
            size_bytes: bytes.len() as u64,
            etag: "\"e\"".to_owned(),
            crc32c: crc32c(bytes),
        };
        let parts = [part(1, b"1234"), part(2, b"56789")];
        assert!(!contradicts("4waSgw==", &parts));
        assert!(!contradicts(&composite(&parts), &parts));
        assert!(contradicts("AAAAAA==", &parts));
        assert!(contradicts("AAAAAA==-2", &parts));
    }
}
