//! The checksums that S3 knows, as requests announce them and as objects keep them.
//!
//! Source: Amazon S3 user guide, "Checking object integrity": an object uploaded in parts has either a checksum of
//! its checksums (`COMPOSITE`, written with `-N` for N parts) or one over all of its bytes (`FULL_OBJECT`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};

/// A checksum algorithm of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CRC-32 as in zlib, 4 bytes.
    Crc32,
    /// CRC-32 Castagnoli, 4 bytes.
    Crc32c,
    /// CRC-64 of the NVMe specification, 8 bytes.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
}

impl Algorithm {
    /// Every algorithm, in the order in which S3 documents them.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// The name used in XML and in `x-amz-checksum-algorithm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The algorithm called `name` (letter case does not matter).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The header that carries a value of this algorithm, in lower case.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// Length of a value, in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Whether S3 offers `FULL_OBJECT` for uploads in parts (the CRCs only: they can be combined).
    #[must_use]
    pub const fn allows_full_object(self) -> bool {
        matches!(self, Self::Crc32 | Self::Crc32c | Self::Crc64Nvme)
    }

    /// The value over `segments` read one after the other.
    #[must_use]
    pub fn compute<'a>(self, segments: impl IntoIterator<Item = &'a Bytes>) -> Vec<u8> {
        fn run<'a, C: s3s::crypto::Checksum<Output = O>, O: AsRef<[u8]>>(
            segments: impl IntoIterator<Item = &'a Bytes>,
        ) -> Vec<u8> {
            let mut state = C::new();
            for segment in segments {
                state.update(segment);
            }
            state.finalize().as_ref().to_vec()
        }
        match self {
            Self::Crc32 => run::<Crc32, _>(segments),
            Self::Crc32c => run::<Crc32c, _>(segments),
            Self::Crc64Nvme => run::<Crc64Nvme, _>(segments),
            Self::Sha1 => run::<Sha1, _>(segments),
            Self::Sha256 => run::<Sha256, _>(segments),
        }
    }

    /// Reads a value from its base64 form; `None` if it is not one of this algorithm.
    #[must_use]
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        let value = STANDARD.decode(text).ok()?;
        (value.len() == self.length()).then_some(value)
    }
}

/// What the checksum of an object covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// All bytes of the object.
    FullObject,
    /// The checksums of this many parts.
    Composite(usize),
}

/// The checksum kept with an object or a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// What it covers.
    pub coverage: Coverage,
    /// The raw value.
    pub value: Vec<u8>,
}

impl Checksum {
    /// The value as S3 writes it: base64, followed by `-N` where it is made of the checksums of N parts.
    #[must_use]
    pub fn encoded(&self) -> String {
        let text = STANDARD.encode(&self.value);
        match self.coverage {
            Coverage::FullObject => text,
            Coverage::Composite(parts) => format!("{text}-{parts}"),
        }
    }
}

/// The MD5 of `segments` read one after the other.
#[must_use]
pub(crate) fn md5<'a>(segments: impl IntoIterator<Item = &'a Bytes>) -> [u8; 16] {
    let mut state = s3s::crypto::Md5::new();
    for segment in segments {
        state.update(segment);
    }
    state.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_catalogue() {
        let input = [Bytes::from_static(b"1234"), Bytes::from_static(b"56789")];
        assert_eq!(hex::encode(Algorithm::Crc32.compute(&input)), "cbf43926");
        assert_eq!(hex::encode(Algorithm::Crc32c.compute(&input)), "e3069283");
        assert_eq!(
            hex::encode(Algorithm::Crc64Nvme.compute(&input)),
            "ae8b14860a799888"
        );
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.compute(&input).len(), algorithm.length());
            assert_eq!(
                Algorithm::from_name(&algorithm.name().to_lowercase()),
                Some(algorithm)
            );
        }
    }

    #[test]
    fn values_are_read_and_written_in_base64() {
        let value = vec![0xe3, 0x06, 0x92, 0x83];
        let mut checksum = Checksum {
            algorithm: Algorithm::Crc32c,
            coverage: Coverage::FullObject,
            value: value.clone(),
        };
        assert_eq!(checksum.encoded(), "4waSgw==");
        assert_eq!(Algorithm::Crc32c.decode("4waSgw=="), Some(value));
        assert_eq!(Algorithm::Sha256.decode("4waSgw=="), None);
        assert_eq!(Algorithm::Crc32c.decode("?"), None);
        checksum.coverage = Coverage::Composite(3);
        assert_eq!(checksum.encoded(), "4waSgw==-3");
    }
}
