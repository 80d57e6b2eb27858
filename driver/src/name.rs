//! A volume or a snapshot: what the calls that treat both alike are told.

use std::fmt;

use crate::{DriverError, SnapshotId, VolumeId};

/// Which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Volume(VolumeId),
    Snapshot(SnapshotId),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Volume(id) => write!(f, "volume {id}"),
            Name::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

impl Name {
    pub(crate) fn not_found(&self) -> DriverError {
        DriverError::NotFound {
            what: self.to_string(),
        }
    }
}
