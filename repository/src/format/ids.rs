//! Ids: repository, run, volume, snapshot, and whatever else names an object. The keys made of them: [`object_keys`](super::object_keys).

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

pub use super::object_keys::{
    CONDEMNED_PREFIX, INTENTS_PREFIX, MARKER_KEY, MARKS_PREFIX, PACKS_PREFIX, PackName,
    SEEN_PREFIX, SLOTS_PREFIX, SNAPSHOTS_PREFIX, condemned_key, intent_key, intents_of, marks_key,
    packs_of, parse_intent_key, parse_snapshot_key, seen_key, slot_key, snapshot_key,
};
use super::{FormatError, hashes::random};

const ID_RULE: &str = "1 to 63 of a-z, 0-9 and -, starting with a letter";
const HEX_RULE: &str = "32 hexadecimal digits in lower case";

pub(super) fn shorten(value: &str) -> String {
    value.chars().take(80).collect()
}

fn check_id(what: &'static str, value: &str) -> Result<(), FormatError> {
    let bytes = value.as_bytes();
    let head = bytes.first().is_some_and(u8::is_ascii_lowercase);
    let tail = bytes
        .iter()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    if head && tail && bytes.len() <= 63 {
        return Ok(());
    }
    Err(FormatError::Id {
        what,
        value: shorten(value),
        rule: ID_RULE,
    })
}

/// An id of the form `[a-z][a-z0-9-]{0,62}`.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a text.
            ///
            /// # Errors
            /// [`FormatError::Id`].
            pub fn new(text: impl AsRef<str>) -> Result<Self, FormatError> {
                check_id($what, text.as_ref())?;
                Ok(Self(Arc::from(text.as_ref())))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = FormatError;
            fn from_str(text: &str) -> Result<Self, FormatError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = FormatError;
            fn try_from(text: String) -> Result<Self, FormatError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.to_string()
            }
        }
    };
}

text_id!(
    /// A volume's id.
    VolumeId,
    "volume id"
);
text_id!(
    /// A snapshot's id.
    SnapshotId,
    "snapshot id"
);
text_id!(
    /// The id of a key slot, a prune or a verify: whatever else names an object.
    ObjectId,
    "id"
);

impl SnapshotId {
    /// A new id for a snapshot with a copy in `repository`: `snap-<short id>-<ULID>`.
    #[must_use]
    pub fn generate(repository: &RepositoryId) -> Self {
        let ulid = ulid::Ulid::generate().to_string().to_ascii_lowercase();
        Self(Arc::from(format!("snap-{}-{ulid}", repository.short())))
    }
}

/// 128 bits, 32 hexadecimal digits.
macro_rules! bits_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Draws a new one.
            ///
            /// # Errors
            /// [`FormatError::Library`] when the system has no randomness.
            pub fn generate() -> Result<Self, FormatError> {
                Ok(Self(random()?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = FormatError;
            fn from_str(text: &str) -> Result<Self, FormatError> {
                let mut bits = [0; 16];
                let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
                match hex::decode_to_slice(text, &mut bits) {
                    Ok(()) if lower => Ok(Self(bits)),
                    _ => Err(FormatError::Id { what: $what, value: shorten(text), rule: HEX_RULE }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = FormatError;
            fn try_from(text: String) -> Result<Self, FormatError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

bits_id!(
    /// A repository's id.
    RepositoryId,
    "repository id"
);
bits_id!(
    /// One attempt to upload one snapshot. Never used twice, and so neither are the names of its packs.
    Run,
    "run"
);
bits_id!(
    /// One writing of one record: what tells two writers' records apart, and what its key comes from.
    Nonce,
    "nonce"
);
bits_id!(
    /// The public name of a repository key. All zero in an unsealed repository.
    KeyId,
    "key id"
);

impl ObjectId {
    /// A new id of the form `<word>-<ULID>`: later ones sort behind earlier ones.
    ///
    /// # Errors
    /// [`FormatError::Id`] for a word that no id starts with.
    pub fn generate(word: &str) -> Result<Self, FormatError> {
        let ulid = ulid::Ulid::generate().to_string().to_ascii_lowercase();
        Self::new(format!("{word}-{ulid}"))
    }
}

impl RepositoryId {
    /// The first 8 digits, which are part of snapshot ids.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        let longest = "a".repeat(63);
        for good in ["a", "vol-1", longest.as_str()] {
            assert_eq!(VolumeId::new(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "1a",
            "-a",
            "A",
            "a_b",
            "a/b",
            "a.b",
            "ä",
            too_long.as_str(),
        ] {
            assert!(SnapshotId::new(bad).is_err(), "{bad}");
        }
        let id = RepositoryId([0xab; 16]);
        assert_eq!(id.short(), "abababab");
        assert!(
            SnapshotId::generate(&id)
                .as_str()
                .starts_with("snap-abababab-0")
        );
        assert!("AB".repeat(16).parse::<Run>().is_err());
        assert!("ab".repeat(15).parse::<Run>().is_err());
    }
}
