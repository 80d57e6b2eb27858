//! What one report says of the thick volumes and classic snapshots of a volume group.

use super::super::{
    ours::{SnapshotView, VolumeView},
    report::{Cow, Lv, Report},
};
use crate::{Capacity, DriverError, SnapshotId, VolumeId, name::Name, sizes::Bytes};

/// A volume group as it was a moment ago.
#[derive(Debug)]
pub(super) struct View(pub(super) Report);

impl View {
    /// Our volumes, those being made included.
    pub(super) fn all_volumes(&self) -> impl Iterator<Item = VolumeView<'_>> {
        let plain = self.0.lvs.iter();
        let plain = plain.filter(|lv| lv.pool.is_none() && lv.cow.is_none());
        plain.filter_map(VolumeView::of)
    }

    pub(super) fn volumes(&self) -> impl Iterator<Item = VolumeView<'_>> {
        self.all_volumes()
            .filter(|volume| !volume.lv.marks.creating)
    }

    /// Each with what LVM says of it as a classic snapshot.
    fn cuts(&self) -> impl Iterator<Item = (SnapshotView<'_>, &Cow)> {
        let lvs = self.0.lvs.iter();
        lvs.filter_map(|lv| Some((SnapshotView::of(lv)?, lv.cow.as_ref()?)))
    }

    pub(super) fn snapshots(&self) -> impl Iterator<Item = SnapshotView<'_>> {
        self.cuts().map(|(snapshot, _)| snapshot)
    }

    pub(super) fn cut(&self, id: &SnapshotId) -> Option<(SnapshotView<'_>, &Cow)> {
        self.cuts().find(|(snapshot, _)| snapshot.id == id)
    }

    pub(super) fn volume(&self, id: &VolumeId) -> Option<VolumeView<'_>> {
        self.volumes().find(|volume| volume.id == id)
    }

    pub(super) fn snapshot(&self, id: &SnapshotId) -> Option<SnapshotView<'_>> {
        self.snapshots().find(|snapshot| snapshot.id == id)
    }

    pub(super) fn find(&self, name: &Name) -> Option<&Lv> {
        match name {
            Name::Volume(id) => self.volume(id).map(|volume| volume.lv),
            Name::Snapshot(id) => self.snapshot(id).map(|snapshot| snapshot.lv),
        }
    }

    /// The logical volume of this name, whoever made it.
    pub(super) fn any(&self, name: &str) -> Option<&Lv> {
        self.0.lvs.iter().find(|lv| lv.name == name)
    }

    /// Every classic snapshot of a logical volume, whoever made it.
    pub(super) fn snapshots_of(&self, origin: &str) -> impl Iterator<Item = &Lv> {
        let is_of = move |lv: &&Lv| lv.cow.as_ref().is_some_and(|cow| cow.origin == origin);
        self.0.lvs.iter().filter(is_of)
    }

    /// A logical volume and its snapshots: the kernel knows them active together or not at all.
    pub(super) fn family(&self, origin: &str) -> impl Iterator<Item = &Lv> {
        self.any(origin)
            .into_iter()
            .chain(self.snapshots_of(origin))
    }

    /// What helps to make volumes.
    pub(super) fn helpers(&self) -> impl Iterator<Item = (&Lv, &VolumeId)> {
        let helper = |lv| -> Option<(&Lv, &VolumeId)> {
            let lv: &Lv = lv;
            Some((lv, lv.marks.helps.as_ref()?))
        };
        self.0.lvs.iter().filter_map(helper)
    }

    /// The size that a volume gets: whole extents.
    pub(super) fn round_up(&self, size_bytes: u64) -> Result<u64, DriverError> {
        if size_bytes == 0 {
            return Err(DriverError::InvalidArgument(
                "a volume has at least one byte".into(),
            ));
        }
        size_bytes
            .checked_next_multiple_of(self.0.extent_bytes)
            .ok_or_else(|| DriverError::OutOfRange(format!("{size_bytes} bytes are too many")))
    }

    /// Refuses what the volume group has no room for.
    pub(super) fn admit(&self, vg: &str, more_bytes: u64) -> Result<(), DriverError> {
        let Report {
            size_bytes,
            free_bytes,
            ..
        } = self.0;
        if more_bytes > size_bytes {
            return Err(DriverError::OutOfRange(format!(
                "{} are more than volume group {vg} of {} can ever hold",
                Bytes(more_bytes),
                Bytes(size_bytes)
            )));
        }
        if more_bytes > free_bytes {
            return Err(DriverError::ResourceExhausted(format!(
                "volume group {vg} of {} has {} free, {} more do not fit",
                Bytes(size_bytes),
                Bytes(free_bytes),
                Bytes(more_bytes)
            )));
        }
        Ok(())
    }

    pub(super) fn capacity(&self) -> Capacity {
        Capacity {
            available_bytes: self.0.free_bytes,
            total_bytes: self.0.size_bytes,
            maximum_volume_bytes: self.0.free_bytes,
            granularity_bytes: self.0.extent_bytes,
        }
    }
}
