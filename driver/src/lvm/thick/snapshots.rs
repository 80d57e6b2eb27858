//! Cutting, checking and removing classic snapshots, and what their exception tables tell.

use super::{
    super::{
        commands,
        cow::{self, Table},
        names::{Tags, snapshot_lv},
    },
    Name,
    commands::{self as thick, COW_CHUNK_BYTES},
    group::{Group, vanished},
    view::{SnapshotView, View},
};
use crate::{ByteRange, DriverError, SnapshotId, SnapshotInfo, VolumeId, model, ranges::Ranges};

impl Group {
    pub(super) async fn create_snapshot(
        &self,
        id: SnapshotId,
        volume: VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        let _lock = self.lock().await?;
        let name = snapshot_lv(&id);
        let mut view = self.look().await?;
        if view.snapshot(&id).is_none() {
            self.refuse_foreign(&view, &name)?;
            let origin = view.volume(&volume);
            let origin = origin.ok_or_else(|| Name::Volume(volume.clone()).not_found())?;
            let room = self.cow_bytes(&view, origin.lv.size_bytes)?;
            let tags = Tags::Snapshot {
                id: id.clone(),
                volume: volume.clone(),
                created_at_us: model::now_us(),
            };
            let origin = &origin.lv.name;
            let made = thick::create_snapshot(self.vg(), origin, &name, room, &tags.to_lvm()).await;
            view = self.look().await?;
            // What counts is whether it is there: LVM may fail after it did its work.
            if let (Err(error), None) = (made, view.snapshot(&id)) {
                return Err(error);
            }
        }
        let snapshot = view.snapshot(&id).ok_or_else(|| vanished(&name))?;
        if *snapshot.volume == volume {
            return Ok(snapshot.info());
        }
        Err(DriverError::AlreadyExists {
            what: format!("snapshot {id}"),
            difference: format!("it is of volume {}", snapshot.volume),
        })
    }

    /// Room for changes of a new snapshot: a share of the volume, never more than a whole copy needs.
    pub(super) fn cow_bytes(&self, view: &View, content_bytes: u64) -> Result<u64, DriverError> {
        let config = &self.config;
        let share = content_bytes / 100 * config.snapshot_percent;
        let most = whole_copy_bytes(content_bytes);
        let extent = view.0.extent_bytes;
        let least = config
            .snapshot_least_bytes
            .min(most)
            .next_multiple_of(extent);
        let wish = share.max(least).min(most).next_multiple_of(extent);
        let room = wish.min(view.0.free_bytes);
        if room < least {
            return Err(DriverError::ResourceExhausted(format!(
                "a snapshot of {content_bytes} bytes needs at least {least} bytes for what changes after the cut, and volume \
                 group {} has {} bytes free; add room to it, or delete snapshots",
                config.vg, view.0.free_bytes
            )));
        }
        Ok(room)
    }

    pub(super) async fn delete_snapshot(&self, id: SnapshotId) -> Result<(), DriverError> {
        let _lock = self.lock().await?;
        let Some(lv) = self.closed(&Name::Snapshot(id)).await? else {
            return Ok(());
        };
        commands::remove(self.vg(), &lv.name).await?;
        match &lv.cow {
            Some(cow) if lv.active => self.rest(&cow.origin).await,
            _ => Ok(()),
        }
    }

    /// Whether the snapshot still holds what was cut.
    pub(super) async fn check_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let view = self.look().await?;
        let snapshot = view.snapshot(id);
        let snapshot = snapshot.ok_or_else(|| Name::Snapshot(id.clone()).not_found())?;
        if let Some(is_void) = snapshot.cow.is_void {
            return refuse_void(&snapshot.lv.name, is_void);
        }
        // The kernel alone knows, and only while it is active.
        let _lock = self.lock().await?;
        let origin = &snapshot.cow.origin;
        commands::activate(self.vg(), origin).await?;
        let checked = self.refuse_void(&snapshot.lv.name).await;
        self.rest(origin).await?;
        checked
    }

    /// Refuses an active classic snapshot that has lost its content.
    pub(super) async fn refuse_void(&self, name: &str) -> Result<(), DriverError> {
        let view = self.look().await?;
        let lv = view.any(name).ok_or_else(|| vanished(name))?;
        let is_void = lv.cow.as_ref().and_then(|cow| cow.is_void);
        refuse_void(name, is_void.unwrap_or(true))
    }

    /// What may differ between two snapshots of a volume: what changed since the earlier one was cut.
    pub(super) async fn changed_ranges(
        &self,
        base: SnapshotId,
        snapshot: SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let _lock = self.lock().await?;
        let view = self.look().await?;
        let find = |id: &SnapshotId| -> Result<SnapshotView<'_>, DriverError> {
            let found = view.snapshot(id);
            found.ok_or_else(|| Name::Snapshot(id.clone()).not_found())
        };
        let (base, snapshot) = (find(&base)?, find(&snapshot)?);
        if base.id == snapshot.id {
            return Ok(Some(Vec::new()));
        }
        if base.cow.origin != snapshot.cow.origin {
            return Ok(None);
        }
        commands::activate(self.vg(), &base.cow.origin).await?;
        let read = async {
            let base = self.read_table(&base).await?;
            Ok::<_, DriverError>((base, self.read_table(&snapshot).await?))
        };
        let read = read.await;
        self.rest(&base.cow.origin).await?;
        let (of_base, of_snapshot) = read?;
        let common = base.cow.content_bytes.min(snapshot.cow.content_bytes);
        // Which was cut first is not asked of a clock, which may have been set back: the later one's table says nothing that
        // the earlier one's does not.
        let mut changed = of_base.ranges(common);
        changed.extend(of_snapshot.ranges(common));
        changed.sort_by_key(|range| range.offset_bytes);
        let mut ranges = Ranges::within(snapshot.cow.content_bytes);
        for range in changed {
            let end = range.offset_bytes + range.length_bytes;
            ranges
                .add(range.offset_bytes, end)
                .expect("they were sorted");
        }
        // If it grew in between, all that was added is new.
        ranges
            .add(common, snapshot.cow.content_bytes)
            .expect("it comes after all that both have");
        Ok(Some(ranges.finish()))
    }

    async fn read_table(&self, snapshot: &SnapshotView<'_>) -> Result<Table, DriverError> {
        let name = &snapshot.lv.name;
        self.refuse_void(name).await?;
        let path = format!("/dev/mapper/{}-cow", dm_name(self.vg(), name));
        let cow_bytes = snapshot.lv.size_bytes;
        let table = cow::read(path.into(), cow_bytes).await?;
        // What was read before an overflow is whole; after it the table tells nothing.
        self.refuse_void(name).await?;
        Ok(table)
    }
}

/// What a snapshot needs at most: every unit of its origin, the areas of the table of them, and the header. LVM makes none
/// that is larger.
pub(super) fn whole_copy_bytes(content_bytes: u64) -> u64 {
    let units = content_bytes.div_ceil(COW_CHUNK_BYTES);
    let areas = units.div_ceil(COW_CHUNK_BYTES / 16);
    units
        .saturating_add(areas + 1)
        .saturating_mul(COW_CHUNK_BYTES)
}

/// Device-mapper's name for a logical volume: hyphens are doubled.
pub(super) fn dm_name(vg: &str, lv: &str) -> String {
    format!("{}-{}", vg.replace('-', "--"), lv.replace('-', "--"))
}

fn refuse_void(name: &str, is_void: bool) -> Result<(), DriverError> {
    if !is_void {
        return Ok(());
    }
    Err(DriverError::Void {
        what: format!("snapshot {name}"),
        why: "more of its volume changed than it had room for; delete it, add room to the volume group, and cut a new one"
            .into(),
    })
}
