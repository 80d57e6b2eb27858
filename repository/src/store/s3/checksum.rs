//! CRC32C and MD5 as S3 writes them in headers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};

use crate::{
    format::crc32c::{combine_crc32c, crc32c},
    store::PartReceipt,
};

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
    fn sums_are_written_as_s3_does() {
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
