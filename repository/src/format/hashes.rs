//! Derivations and hashes (section 4 of the specification).

use std::fmt;

use super::FormatError;

/// Bytes of a hash.
pub(super) const HASH_SIZE: usize = 32;

/// What a derived key or an unkeyed hash is for: each has a BLAKE3 context of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    KeyId,
    MarkerMac,
    ChunkHash,
    PageHash,
    ManifestHash,
    RecordHash,
    PackKey,
    RecordKey,
    SlotSecret,
    SlotCheck,
    SlotKek,
}

impl Purpose {
    /// The complete context.
    pub(super) const fn context(self) -> &'static str {
        match self {
            Self::KeyId => "stockpot 2026 format 1 key id",
            Self::MarkerMac => "stockpot 2026 format 1 marker mac",
            Self::ChunkHash => "stockpot 2026 format 1 chunk hash",
            Self::PageHash => "stockpot 2026 format 1 page hash",
            Self::ManifestHash => "stockpot 2026 format 1 manifest hash",
            Self::RecordHash => "stockpot 2026 format 1 record hash",
            Self::PackKey => "stockpot 2026 format 1 pack key",
            Self::RecordKey => "stockpot 2026 format 1 record key",
            Self::SlotSecret => "stockpot 2026 format 1 slot secret",
            Self::SlotCheck => "stockpot 2026 format 1 slot check",
            Self::SlotKek => "stockpot 2026 format 1 slot kek",
        }
    }

    /// BLAKE3's `derive_key` over the parts, joined.
    pub(super) fn derive(self, parts: &[&[u8]]) -> [u8; HASH_SIZE] {
        let mut hasher = blake3::Hasher::new_derive_key(self.context());
        for part in parts {
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

/// A hash of plain bytes: of a chunk, a page or a manifest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; HASH_SIZE]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl std::str::FromStr for Hash {
    type Err = FormatError;
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let mut bytes = [0; HASH_SIZE];
        if text.bytes().any(|b| b.is_ascii_uppercase())
            || hex::decode_to_slice(text, &mut bytes).is_err()
        {
            return Err(FormatError::malformed(
                "hash",
                "it is not 64 hexadecimal digits in lower case",
            ));
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Hash {
    type Error = FormatError;
    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The hash of one purpose in one repository: keyed when sealed.
#[derive(Clone)]
pub(super) struct HashMode(blake3::Hasher);

impl HashMode {
    pub(super) fn new(purpose: Purpose, repository_key: Option<&[u8; 32]>) -> Self {
        Self(match repository_key {
            Some(key) => {
                let derived = zeroize::Zeroizing::new(purpose.derive(&[key]));
                blake3::Hasher::new_keyed(&derived)
            }
            None => blake3::Hasher::new_derive_key(purpose.context()),
        })
    }

    pub(super) fn hash(&self, parts: &[&[u8]]) -> Hash {
        let mut hasher = self.0.clone();
        for part in parts {
            hasher.update(part);
        }
        Hash(*hasher.finalize().as_bytes())
    }
}

/// Random bytes of the system's generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N], FormatError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| FormatError::Library {
        what: "drawing random bytes",
    })?;
    Ok(bytes)
}
