//! The marker `repository.json` (section 5 of the specification).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    FormatError,
    crypto::Sealer,
    ids::{KeyId, RepositoryId},
    limits::{
        FEATURES_MAX, FORMAT, SMALL_OBJECT_MAX, check_chunk_size, check_format, check_requires,
    },
    manifest::{check_text, now, tool},
};

const WHAT: &str = "repository marker";
const MAC_START: &str = ",\"mac\":\"";
const END: &str = "\"}\n";
const TAIL: usize = MAC_START.len() + 64 + END.len();

/// What a repository is. Written once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    stockpot: String,
    format: u32,
    /// The repository's id.
    pub id: RepositoryId,
    /// Size of all its chunks, bytes.
    pub chunk_size_bytes: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// What made it.
    pub tool: String,
    /// Whether packs and records are encrypted.
    pub sealed: bool,
    /// Public name of the repository key, when sealed.
    pub key_id: Option<KeyId>,
    /// Features that a reader must know.
    pub requires: Vec<String>,
    /// Features that a writer must know as well.
    pub requires_to_write: Vec<String>,
    /// What the endpoint could do when the repository was made, and the fallbacks chosen.
    pub endpoint: serde_json::Value,
}

#[derive(Deserialize)]
struct Foremost {
    #[serde(default)]
    stockpot: String,
    #[serde(default)]
    format: u32,
    #[serde(default)]
    requires: Vec<String>,
}

impl Marker {
    /// For a new repository: `sealer` has its id and, if it is to be sealed, its key.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the chunk size is not allowed.
    pub fn new(
        sealer: &Sealer,
        chunk_size_bytes: u32,
        endpoint: serde_json::Value,
    ) -> Result<Self, FormatError> {
        check_chunk_size(chunk_size_bytes.into())?;
        Ok(Self {
            stockpot: "repository".to_owned(),
            format: FORMAT,
            id: sealer.repository(),
            chunk_size_bytes,
            created_at: now(),
            tool: tool(),
            sealed: sealer.is_sealed(),
            key_id: sealer.is_sealed().then(|| sealer.key_id()),
            requires: Vec::new(),
            requires_to_write: Vec::new(),
            endpoint,
        })
    }

    /// The object.
    ///
    /// # Errors
    /// [`FormatError::Limit`] when the endpoint's report is too long.
    pub fn encode(&self, sealer: &Sealer) -> Result<Vec<u8>, FormatError> {
        let json = serde_json::to_string(self)
            .map_err(|source| FormatError::Json { what: WHAT, source })?;
        let head = json.strip_suffix('}').unwrap_or(&json);
        let mac = sealer.marker_mac(head.as_bytes());
        let object = format!("{head}{MAC_START}{mac}{END}");
        FormatError::check_limit(
            "the size of the repository marker",
            object.len() as u64,
            SMALL_OBJECT_MAX as u64,
        )?;
        Ok(object.into_bytes())
    }

    /// Reads a marker without believing it: [`Self::check_mac`] follows once the key is there. Formats and features
    /// that this version does not know are refused first.
    ///
    /// # Errors
    /// [`FormatError::Newer`], [`FormatError::Malformed`], [`FormatError::Json`], [`FormatError::Limit`].
    pub fn parse(object: &[u8]) -> Result<Self, FormatError> {
        let json = |source| FormatError::Json { what: WHAT, source };
        FormatError::check_limit(
            "the size of the repository marker",
            object.len() as u64,
            SMALL_OBJECT_MAX as u64,
        )?;
        let foremost: Foremost = serde_json::from_slice(object).map_err(json)?;
        if foremost.stockpot != "repository" {
            return Err(FormatError::malformed(
                WHAT,
                "this is not a marker of a Stockpot repository",
            ));
        }
        check_format("repository", foremost.format)?;
        check_requires("repository", &foremost.requires)?;
        let marker: Self = serde_json::from_slice(object).map_err(json)?;
        check_chunk_size(marker.chunk_size_bytes.into())?;
        check_text("the length of the tool's name", &marker.tool)?;
        let features = marker.requires_to_write.len();
        FormatError::check_limit(
            "the number of features",
            features as u64,
            FEATURES_MAX as u64,
        )?;
        if marker.sealed != marker.key_id.is_some() {
            return Err(FormatError::malformed(
                WHAT,
                "it is sealed without a key id, or has one without being sealed",
            ));
        }
        if !marker.endpoint.is_object() {
            return Err(FormatError::malformed(
                WHAT,
                "its endpoint is not an object",
            ));
        }
        Ok(marker)
    }

    /// Checks the object that was parsed against its MAC. Only after that its content may be believed.
    ///
    /// # Errors
    /// [`FormatError::Damaged`]; [`FormatError::Sealing`] when a key is there and the marker says unsealed, or the reverse.
    pub fn check_mac(&self, sealer: &Sealer, object: &[u8]) -> Result<(), FormatError> {
        let word = |sealed| if sealed { "sealed" } else { "not sealed" };
        if self.sealed != sealer.is_sealed() {
            let (found, expected) = (word(self.sealed), word(sealer.is_sealed()));
            return Err(FormatError::Sealing {
                what: WHAT,
                found,
                expected,
            });
        }
        let damaged = FormatError::Damaged {
            what: WHAT,
            check: "authentication code",
        };
        if self.key_id.is_some_and(|id| id != sealer.key_id()) || self.id != sealer.repository() {
            return Err(damaged);
        }
        let Some(at) = object.len().checked_sub(TAIL) else {
            return Err(damaged);
        };
        let (head, tail) = object.split_at(at);
        let expected = format!("{MAC_START}{}{END}", sealer.marker_mac(head));
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), tail)
            .map_err(|_| damaged)
    }

    /// Refuses to write where a feature is asked of writers that this version does not know.
    ///
    /// # Errors
    /// [`FormatError::Newer`].
    pub fn check_writable(&self) -> Result<(), FormatError> {
        check_requires("repository, to be written to,", &self.requires_to_write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::sealer;
    use proptest::prelude::*;

    fn object(sealed: bool) -> Vec<u8> {
        let sealer = sealer(sealed);
        let marker = Marker::new(&sealer, 65_536, serde_json::json!({"note": "a\"b"})).unwrap();
        marker.encode(&sealer).unwrap()
    }

    fn read(sealed: bool, object: &[u8]) -> Result<Marker, FormatError> {
        let marker = Marker::parse(object)?;
        marker.check_mac(&sealer(sealed), object)?;
        Ok(marker)
    }

    proptest! {
        #[test]
        fn any_flipped_or_missing_byte_is_found(sealed: bool, at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = object(sealed);
            prop_assert!(read(sealed, &bytes).is_ok());
            let at = at.index(bytes.len());
            prop_assert!(read(sealed, &bytes[..at]).is_err());
            bytes[at] ^= 1 << bit;
            prop_assert!(read(sealed, &bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn sealed_and_unsealed_are_not_mixed_up() {
        for sealed in [false, true] {
            let error = read(!sealed, &object(sealed)).unwrap_err();
            assert!(matches!(error, FormatError::Sealing { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_newer_or_something_else_is_said() {
        let text = String::from_utf8(object(false)).unwrap();
        let newer = |from: &str, to: &str| Marker::parse(text.replacen(from, to, 1).as_bytes());
        let format = newer("\"format\":1", "\"format\":9").unwrap_err();
        assert!(format.to_string().contains("format 9"), "{format}");
        let feature = newer("\"requires\":[]", "\"requires\":[\"x\"]").unwrap_err();
        assert!(matches!(feature, FormatError::Newer { .. }));
        let write = newer("\"requires_to_write\":[]", "\"requires_to_write\":[\"x\"]").unwrap();
        assert!(write.check_writable().is_err());
        assert!(Marker::parse(b"{}").is_err());
        assert!(newer("65536", "65537").is_err());
    }
}
