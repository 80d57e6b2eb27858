//! Our volumes and snapshots among the logical volumes of a report.

use super::{
    names::Tags,
    report::{Cow, Lv},
};
use crate::{
    RememberedSnapshot, RememberedSource, RememberedVolume, SnapshotId, SnapshotInfo, VolumeId,
    VolumeInfo, origin::Origin,
};

/// One of our volumes. A thick one is whole only without the mark that it is being made.
#[derive(Debug, Clone, Copy)]
pub(super) struct VolumeView<'a> {
    pub(super) lv: &'a Lv,
    pub(super) id: &'a VolumeId,
    pub(super) origin: &'a Origin,
    pub(super) made_bytes: u64,
}

impl<'a> VolumeView<'a> {
    /// `None` if it is no volume of ours.
    pub(super) fn of(lv: &'a Lv) -> Option<Self> {
        match lv.tags.as_ref()? {
            Tags::Volume {
                id,
                origin,
                made_bytes,
            } => Some(Self {
                lv,
                id,
                origin,
                made_bytes: *made_bytes,
            }),
            Tags::Snapshot { .. } => None,
        }
    }

    pub(super) fn info(self) -> VolumeInfo {
        VolumeInfo {
            id: self.id.clone(),
            size_bytes: self.lv.size_bytes,
        }
    }

    /// All that its tags say.
    pub(super) fn remembered(self) -> RememberedVolume {
        let marks = &self.lv.marks;
        RememberedVolume {
            info: self.info(),
            name: marks.name.clone(),
            source: match (&marks.former, self.origin) {
                (Some(former), _) => RememberedSource::Adopted(former.clone()),
                (None, Origin::Empty) => RememberedSource::Empty,
                (None, Origin::Snapshot(id)) => RememberedSource::Snapshot(id.clone()),
                (None, Origin::Volume(id)) => RememberedSource::Volume(id.clone()),
            },
        }
    }
}

/// One of our snapshots.
#[derive(Debug, Clone, Copy)]
pub(super) struct SnapshotView<'a> {
    pub(super) lv: &'a Lv,
    pub(super) id: &'a SnapshotId,
    pub(super) volume: &'a VolumeId,
    created_at_us: i64,
}

impl<'a> SnapshotView<'a> {
    /// `None` if it is no snapshot of ours.
    pub(super) fn of(lv: &'a Lv) -> Option<Self> {
        match lv.tags.as_ref()? {
            Tags::Snapshot {
                id,
                volume,
                created_at_us,
            } => Some(Self {
                lv,
                id,
                volume,
                created_at_us: *created_at_us,
            }),
            Tags::Volume { .. } => None,
        }
    }

    /// The size of what was cut: a classic snapshot's own size is that of its room for changes.
    fn content_bytes(self) -> u64 {
        let cow = self.lv.cow.as_ref();
        cow.map_or(self.lv.size_bytes, |cow: &Cow| cow.content_bytes)
    }

    pub(super) fn info(self) -> SnapshotInfo {
        SnapshotInfo {
            id: self.id.clone(),
            volume_id: self.volume.clone(),
            size_bytes: self.content_bytes(),
            created_at_us: self.created_at_us,
        }
    }

    /// All that its tags say.
    pub(super) fn remembered(self) -> RememberedSnapshot {
        RememberedSnapshot {
            info: self.info(),
            name: self.lv.marks.name.clone(),
        }
    }
}
