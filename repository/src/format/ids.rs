//! Names: repository, run, volume, snapshot, pack, and the object keys made of them.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    FormatError,
    bytes::{Fields, put_text},
    hashes::random,
};

/// Key of the marker.
pub const MARKER_KEY: &str = "repository.json";
/// What the keys of all key slots start with.
pub const SLOTS_PREFIX: &str = "keys/";
/// What the keys of all packs start with.
pub const PACKS_PREFIX: &str = "packs/";
/// What the keys of all manifests and tombstones start with.
pub const SNAPSHOTS_PREFIX: &str = "snapshots/";
/// What the keys of all intents start with.
pub const INTENTS_PREFIX: &str = "intents/";
/// What the keys of all condemned lists start with.
pub const CONDEMNED_PREFIX: &str = "condemned/";
/// What the keys of all marks start with.
pub const MARKS_PREFIX: &str = "marks/";
/// What the keys of all lists of snapshots that a prune saw start with.
pub const SEEN_PREFIX: &str = "seen/";

const ID_RULE: &str = "1 to 63 of a-z, 0-9 and -, starting with a letter";
const HEX_RULE: &str = "32 hexadecimal digits in lower case";

fn shorten(value: &str) -> String {
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

/// The name of a pack. Names sort by volume, snapshot, run, number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackName {
    /// Volume that the pack was written for.
    pub volume: VolumeId,
    /// Snapshot that the pack was written for.
    pub snapshot: SnapshotId,
    /// The attempt that wrote it.
    pub run: Run,
    /// Number within the run, from 0.
    pub number: u32,
}

impl PackName {
    /// `packs/<volume>/<snapshot>/<run>-<n>`.
    #[must_use]
    pub fn object_key(&self) -> String {
        format!(
            "{PACKS_PREFIX}{}/{}/{}-{}",
            self.volume, self.snapshot, self.run, self.number
        )
    }

    /// Reads an object key back.
    ///
    /// # Errors
    /// [`FormatError::Id`] if it is not exactly a pack's key.
    pub fn parse(object_key: &str) -> Result<Self, FormatError> {
        let bad = || FormatError::Id {
            what: "pack key",
            value: shorten(object_key),
            rule: "packs/<volume id>/<snapshot id>/<run>-<number>",
        };
        let rest = object_key.strip_prefix(PACKS_PREFIX).ok_or_else(bad)?;
        let mut parts = rest.split('/');
        let (Some(volume), Some(snapshot), Some(last), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let (run, number) = last.split_once('-').ok_or_else(bad)?;
        let name = Self {
            volume: VolumeId::new(volume)?,
            snapshot: SnapshotId::new(snapshot)?,
            run: run.parse()?,
            number: number.parse().map_err(|_| bad())?,
        };
        // Refuses "007" and "+7", which parse as numbers too.
        if name.object_key() != object_key {
            return Err(bad());
        }
        Ok(name)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, self.volume.as_str());
        put_text(out, self.snapshot.as_str());
        out.extend_from_slice(&self.run.0);
        out.extend_from_slice(&self.number.to_le_bytes());
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            volume: VolumeId::new(fields.text()?)?,
            snapshot: SnapshotId::new(fields.text()?)?,
            run: Run(fields.array()?),
            number: fields.u32()?,
        })
    }
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object_key())
    }
}

impl TryFrom<String> for PackName {
    type Error = FormatError;
    fn try_from(text: String) -> Result<Self, FormatError> {
        Self::parse(&text)
    }
}

impl From<PackName> for String {
    fn from(name: PackName) -> Self {
        name.object_key()
    }
}

/// What the keys of all packs that uploads of a snapshot put start with: `packs/<volume>/<snapshot>/`.
#[must_use]
pub fn packs_of(volume: &VolumeId, snapshot: &SnapshotId) -> String {
    format!("{PACKS_PREFIX}{volume}/{snapshot}/")
}

/// `snapshots/<volume>/<snapshot>.json`.
#[must_use]
pub fn snapshot_key(volume: &VolumeId, snapshot: &SnapshotId) -> String {
    format!("{SNAPSHOTS_PREFIX}{volume}/{snapshot}.json")
}

/// Reads the key of a manifest or tombstone back.
///
/// # Errors
/// [`FormatError::Id`].
pub fn parse_snapshot_key(object_key: &str) -> Result<(VolumeId, SnapshotId), FormatError> {
    let parts = object_key
        .strip_prefix(SNAPSHOTS_PREFIX)
        .and_then(|rest| rest.strip_suffix(".json"))
        .and_then(|rest| rest.split_once('/'));
    let Some((volume, snapshot)) = parts else {
        return Err(FormatError::Id {
            what: "snapshot key",
            value: shorten(object_key),
            rule: "snapshots/<volume id>/<snapshot id>.json",
        });
    };
    Ok((VolumeId::new(volume)?, SnapshotId::new(snapshot)?))
}

/// `intents/<snapshot>/<run>.json`: each attempt has an intent of its own, which no other overwrites.
#[must_use]
pub fn intent_key(snapshot: &SnapshotId, run: Run) -> String {
    format!("{INTENTS_PREFIX}{snapshot}/{run}.json")
}

/// What the keys of the intents of all attempts at a snapshot start with.
#[must_use]
pub fn intents_of(snapshot: &SnapshotId) -> String {
    format!("{INTENTS_PREFIX}{snapshot}/")
}

/// Reads the key of an intent back.
///
/// # Errors
/// [`FormatError::Id`].
pub fn parse_intent_key(object_key: &str) -> Result<(SnapshotId, Run), FormatError> {
    let parts = object_key
        .strip_prefix(INTENTS_PREFIX)
        .and_then(|rest| rest.strip_suffix(".json"))
        .and_then(|rest| rest.split_once('/'));
    let Some((snapshot, run)) = parts else {
        return Err(FormatError::Id {
            what: "intent key",
            value: shorten(object_key),
            rule: "intents/<snapshot id>/<run>.json",
        });
    };
    Ok((SnapshotId::new(snapshot)?, run.parse()?))
}

/// `condemned/<prune>.json`.
#[must_use]
pub fn condemned_key(prune: &ObjectId) -> String {
    format!("{CONDEMNED_PREFIX}{prune}.json")
}

/// `marks/<verify>.json`.
#[must_use]
pub fn marks_key(verify: &ObjectId) -> String {
    format!("{MARKS_PREFIX}{verify}.json")
}

/// `seen/<prune>.json`.
#[must_use]
pub fn seen_key(prune: &ObjectId) -> String {
    format!("{SEEN_PREFIX}{prune}.json")
}

/// `keys/<slot>.json`.
#[must_use]
pub fn slot_key(slot: &ObjectId) -> String {
    format!("{SLOTS_PREFIX}{slot}.json")
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

    #[test]
    fn pack_keys_come_back_and_nothing_else_does() {
        let name = PackName {
            volume: VolumeId::new("v").unwrap(),
            snapshot: SnapshotId::new("s").unwrap(),
            run: Run([7; 16]),
            number: 12,
        };
        let key = name.object_key();
        assert_eq!(key, format!("packs/v/s/{}-12", "07".repeat(16)));
        assert_eq!(PackName::parse(&key).unwrap(), name);
        for bad in [
            key.replace("-12", "-012"),
            key.replace("-12", "-+12"),
            key.replace("-12", "-4294967296"),
            key.replace("packs/", "pack/"),
            format!("{key}/x"),
            "packs/v/s".to_owned(),
        ] {
            assert!(PackName::parse(&bad).is_err(), "{bad}");
        }
        let (volume, snapshot) =
            parse_snapshot_key(&snapshot_key(&name.volume, &name.snapshot)).unwrap();
        assert_eq!((volume, snapshot), (name.volume, name.snapshot));
        assert!(parse_snapshot_key("snapshots/v/s/t.json").is_err());
        let snapshot = SnapshotId::new("s").unwrap();
        let key = intent_key(&snapshot, Run([7; 16]));
        assert!(key.starts_with(&intents_of(&snapshot)));
        assert_eq!(parse_intent_key(&key).unwrap(), (snapshot, Run([7; 16])));
        assert!(parse_intent_key("intents/s.json").is_err());
    }
}
