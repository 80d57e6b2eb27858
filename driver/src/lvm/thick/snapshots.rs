//! Cutting, checking and removing classic snapshots, and what their exception tables tell.

use super::{
    super::{
        commands,
        cow::{self, Changed},
        dm,
        names::{Tags, snapshot_lv},
        report::Lv,
    },
    commands::{self as thick, COW_CHUNK_BYTES},
    content::Copied,
    group::{Group, origin_of, vanished},
    view::View,
};
use crate::{
    ByteRange, DriverError, SnapshotId, SnapshotInfo, VolumeId, model, name::Name, ranges::Ranges,
};

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
            view.0.metadata.admit(self.vg())?;
            let tags = Tags::Snapshot {
                id: id.clone(),
                volume: volume.clone(),
                created_at_us: model::now_us(),
            };
            let origin = &origin.lv.name;
            let tags = self.hints.tags_of(id.as_str(), &tags);
            let made = thick::create_snapshot(self.vg(), origin, &name, room, &tags).await;
            self.watched();
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
        let what = format!("snapshot {id}");
        let Some(lv) = self.closed(&Name::Snapshot(id)).await? else {
            return Ok(());
        };
        self.look().await?.0.refuse_taking_along(&lv, &what)?;
        commands::remove(self.vg(), &lv.name).await?;
        match &lv.cow {
            Some(cow) if lv.active => self.rest(&cow.origin).await,
            _ => Ok(()),
        }
    }

    /// Whether the snapshot still holds what was cut.
    pub(super) async fn check_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let find = |view: &View| {
            let found = view.snapshot(id).map(|found| found.lv.clone());
            found.ok_or_else(|| Name::Snapshot(id.clone()).not_found())
        };
        let is_void = |lv: &Lv| lv.cow.as_ref().and_then(|cow| cow.is_void);
        let snapshot = find(&self.look().await?)?;
        if let Some(is_void) = is_void(&snapshot) {
            return refuse_void(&snapshot.name, is_void);
        }
        // The kernel alone knows, and only while it is active.
        let _lock = self.lock().await?;
        let snapshot = find(&self.look().await?)?;
        let origin = origin_of(&snapshot);
        self.activate(origin).await?;
        let checked = self.refuse_void(&snapshot.name).await;
        let rested = self.rest(origin).await;
        checked.and(rested)
    }

    /// Refuses an active classic snapshot that has lost its content.
    pub(super) async fn refuse_void(&self, name: &str) -> Result<(), DriverError> {
        let view = self.look().await?;
        let lv = view.any(name).ok_or_else(|| vanished(name))?;
        let is_void = lv.cow.as_ref().and_then(|cow| cow.is_void);
        refuse_void(name, is_void.unwrap_or(true))
    }

    /// What may differ between two snapshots of a volume: what changed since the earlier one was cut.
    ///
    /// The tables are read outside the lock, which takes as long as they are large; that both snapshots are held open keeps
    /// them from being removed or deactivated meanwhile.
    pub(super) async fn changed_ranges(
        &self,
        base: SnapshotId,
        snapshot: SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let lock = self.lock().await?;
        let view = self.look().await?;
        let find = |id: &SnapshotId| {
            let (found, cow) = view
                .cut(id)
                .ok_or_else(|| Name::Snapshot(id.clone()).not_found())?;
            Ok::<_, DriverError>((found.lv.clone(), cow.clone()))
        };
        let (base, snapshot) = (find(&base)?, find(&snapshot)?);
        if base.0.name == snapshot.0.name {
            return Ok(Some(Vec::new()));
        }
        let (origin, after) = (base.1.origin, snapshot.1.content_bytes);
        if origin != snapshot.1.origin {
            return Ok(None);
        }
        // Which was cut first is not asked of a clock, which may have been set back: the later one's table says nothing that
        // the earlier one's does not.
        let common = base.1.content_bytes.min(after);
        let lvs = [base.0, snapshot.0];
        self.activate(&origin).await?;
        let held = self.hold_valid(&lvs).await;
        drop(lock);
        let read = match held {
            Ok(held) => {
                let read = self.read_tables(&lvs, common).await;
                drop(held);
                read
            }
            Err(error) => Err(error),
        };
        let _lock = self.lock().await?;
        let rested = self.rest(&origin).await;
        let mut ranges = Ranges::within(after);
        read?.into_ranges(&mut ranges);
        rested?;
        // If it grew in between, all that was added is new.
        ranges
            .add(common, after)
            .expect("it comes after all that both have");
        Ok(Some(ranges.finish()))
    }

    /// Opens active snapshots that hold what was cut.
    async fn hold_valid(&self, lvs: &[Lv; 2]) -> Result<Vec<Copied>, DriverError> {
        let mut held = Vec::new();
        for lv in lvs {
            self.refuse_void(&lv.name).await?;
            held.push(Copied::open(self.device(&lv.name), 0)?);
        }
        Ok(held)
    }

    /// Reads the tables of two snapshots, in what both have.
    async fn read_tables(&self, lvs: &[Lv; 2], common: u64) -> Result<Changed, DriverError> {
        let mut changed = Changed::within(common);
        for lv in lvs {
            let path = format!("/dev/mapper/{}", dm::name(self.vg(), &lv.name, "-cow"));
            changed = cow::read(path.into(), lv.size_bytes, changed).await?;
        }
        // What was read before an overflow is whole; after it the table tells nothing.
        for lv in lvs {
            self.refuse_void(&lv.name).await?;
        }
        Ok(changed)
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
