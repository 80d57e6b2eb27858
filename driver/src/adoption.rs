//! Storage that was there before and becomes a volume, volumes that are let go, and what the storage itself knows of what it
//! holds: a catalog can be made again from that.

use crate::{SnapshotId, SnapshotInfo, VolumeId, VolumeInfo};

/// Something of this storage that somebody wants to have as a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoptable {
    /// Its exact size in bytes.
    pub size_bytes: u64,
    /// Whether it can become one.
    pub standing: Standing,
    /// What other programs have noted on it: it may be theirs.
    pub foreign_tags: Vec<String>,
}

/// Whether something can become a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Free,
    /// It is this volume of ours already.
    Ours(VolumeId),
    /// It cannot; why, and what to do, in words.
    Refused(String),
}

/// What a storage knows of what it holds, without any catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Every volume of ours, temporary ones included.
    pub volumes: Vec<RememberedVolume>,
    /// Every snapshot of ours.
    pub snapshots: Vec<RememberedSnapshot>,
}

/// A volume as its storage knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedVolume {
    /// What is listed.
    pub info: VolumeInfo,
    /// What its user calls it, where that was kept.
    pub name: Option<String>,
    /// Where its first content came from.
    pub source: RememberedSource,
}

/// Where a volume's first content came from, as far as its storage knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RememberedSource {
    /// It was made empty, or nobody knows.
    Empty,
    /// A snapshot.
    Snapshot(SnapshotId),
    /// Another volume.
    Volume(VolumeId),
    /// It was there before, under this name.
    Adopted(String),
}

/// A snapshot as its storage knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedSnapshot {
    /// What is listed.
    pub info: SnapshotInfo,
    /// What its user calls it, where that was kept.
    pub name: Option<String>,
}

impl From<VolumeInfo> for RememberedVolume {
    fn from(info: VolumeInfo) -> Self {
        Self {
            info,
            name: None,
            source: RememberedSource::Empty,
        }
    }
}

impl From<SnapshotInfo> for RememberedSnapshot {
    fn from(info: SnapshotInfo) -> Self {
        Self { info, name: None }
    }
}
