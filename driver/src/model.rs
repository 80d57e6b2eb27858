//! Ids, sizes, and what a volume and a snapshot are to a driver.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest id, in bytes: safe as a DNS label, an LV name with a prefix, and a part of an IQN.
pub const MAX_ID_LEN: usize = 63;

/// The text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {text:?}: an id has 1 to 63 of a-z, 0-9 and '-', and starts with a letter")]
pub struct InvalidId {
    text: String,
}

/// Checks `[a-z][a-z0-9-]{0,62}`.
fn check_id(text: &str) -> Result<(), InvalidId> {
    let ok = text.len() <= MAX_ID_LEN
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if ok {
        Ok(())
    } else {
        Err(InvalidId {
            text: text.chars().take(80).collect(),
        })
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
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
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check_id(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                check_id(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id_type! {
    /// A volume's id, `[a-z][a-z0-9-]{0,62}`, unique on its storage node for ever.
    VolumeId
}
id_type! {
    /// A snapshot's id, `[a-z][a-z0-9-]{0,62}`, used once for ever.
    SnapshotId
}

/// A run of bytes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub offset_bytes: u64,
    /// Number of bytes, not zero.
    pub length_bytes: u64,
}

/// A volume as its storage knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its id.
    pub id: VolumeId,
    /// Exact size of the block device in bytes; at least what was asked for.
    pub size_bytes: u64,
}

/// A snapshot as its storage knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// The volume it was cut from (which may be gone).
    pub volume_id: VolumeId,
    /// Exact size of the block device in bytes.
    pub size_bytes: u64,
    /// When it was cut, in microseconds since the Unix epoch. Stable over calls.
    pub created_at_us: i64,
}

/// Room in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes that volumes made now could hold in all.
    pub available_bytes: u64,
    /// Size of the whole pool in bytes.
    pub total_bytes: u64,
    /// Largest volume that a call can make, in bytes.
    pub maximum_volume_bytes: u64,
    /// A volume's size is a multiple of this, in bytes.
    pub granularity_bytes: u64,
}

/// How much is left of a pool that can run full while its volumes are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headroom {
    /// Less is left than the floor that was set: room has to be made.
    pub is_low: bool,
    /// How much of the data is used, in hundredths of a percent.
    pub data_used: u64,
    /// How much of the metadata is used, in hundredths of a percent.
    pub metadata_used: u64,
    /// The figures in words, and what to do.
    pub text: String,
}

impl Headroom {
    /// From here on writes wait or fail, or soon will: there is no time for anything slow.
    const URGENT: u64 = 9_800;

    /// Whether writes wait already, or are about to: the kernel fails what has waited for a minute.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.data_used.max(self.metadata_used) >= Self::URGENT
    }
}

/// The time in microseconds since the Unix epoch.
pub(crate) fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        for good in ["a", "vol-1", &"a".repeat(63)] {
            assert_eq!(good.parse::<VolumeId>().unwrap().as_str(), good);
        }
        for bad in ["", "1a", "-a", "A", "a_b", "a/b", "ü", &"a".repeat(64)] {
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad}");
        }
    }
}
