//! Object keys: what a repository calls its objects, and which keys are none of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    FormatError,
    bytes::{Fields, put_text},
    ids::{ObjectId, Run, SnapshotId, VolumeId, shorten},
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

/// Whether a repository of this format gives this key to any of its objects. Nothing is said of what lies there.
#[must_use]
pub fn is_ours(object_key: &str) -> bool {
    if object_key == MARKER_KEY {
        return true;
    }
    let Some(slash) = object_key.find('/') else {
        return false;
    };
    let (folder, rest) = object_key.split_at(slash + 1);
    match folder {
        PACKS_PREFIX => PackName::parse(object_key).is_ok(),
        SNAPSHOTS_PREFIX => parse_snapshot_key(object_key).is_ok(),
        INTENTS_PREFIX => parse_intent_key(object_key).is_ok(),
        SLOTS_PREFIX | CONDEMNED_PREFIX | MARKS_PREFIX | SEEN_PREFIX => rest
            .strip_suffix(".json")
            .is_some_and(|id| ObjectId::new(id).is_ok()),
        _ => false,
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
    fn what_a_repository_names_is_ours_and_nothing_else() {
        let id = ObjectId::generate("x").unwrap();
        let (volume, snapshot) = (VolumeId::new("v").unwrap(), SnapshotId::new("s").unwrap());
        let pack = PackName {
            volume: volume.clone(),
            snapshot: snapshot.clone(),
            run: Run([7; 16]),
            number: 0,
        };
        for ours in [
            MARKER_KEY.to_owned(),
            pack.object_key(),
            snapshot_key(&volume, &snapshot),
            intent_key(&snapshot, Run([7; 16])),
            slot_key(&id),
            condemned_key(&id),
            marks_key(&id),
            seen_key(&id),
        ] {
            assert!(is_ours(&ours), "{ours}");
            let (longer, below, above) =
                (format!("{ours}x"), format!("{ours}/x"), format!("x/{ours}"));
            for bad in [&ours[1..], &ours[..ours.len() - 1], &longer, &below, &above] {
                assert!(!is_ours(bad), "{bad}");
            }
        }
        let long = "a".repeat(64);
        for bad in [
            String::new(),
            "/".to_owned(),
            "snapshots/v/s".to_owned(),
            "snapshots/v/s/t.json".to_owned(),
            format!("snapshots/v/{long}.json"),
            format!("keys/{long}.json"),
            "probe/x.json".to_owned(),
        ] {
            assert!(!is_ours(&bad), "{bad}");
        }
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
