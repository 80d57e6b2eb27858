//! Where a volume's first content came from, as drivers remember it beside the volume.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{SnapshotId, VolumeId};

/// Where a volume's first content came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Origin {
    /// It was made empty.
    Empty,
    /// A snapshot's content.
    Snapshot(SnapshotId),
    /// Another volume's content.
    Volume(VolumeId),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Empty => f.write_str("empty"),
            Origin::Snapshot(id) => write!(f, "snapshot/{id}"),
            Origin::Volume(id) => write!(f, "volume/{id}"),
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is no origin of a volume");
        match text.split_once('/') {
            None if text == "empty" => Ok(Origin::Empty),
            Some(("snapshot", id)) => id.parse().map(Origin::Snapshot).map_err(|_| unknown()),
            Some(("volume", id)) => id.parse().map(Origin::Volume).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}
