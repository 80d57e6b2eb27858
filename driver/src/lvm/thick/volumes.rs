//! Making, growing and removing volumes.
//!
//! New extents hold what was there before. So a volume is made inactive and marked as being made, filled, and only then
//! shown; what it grows by is a logical volume of its own until it is zeroed. A crash leaves the mark or the helper, and
//! with it the certainty that nobody has seen those bytes.

use std::sync::Arc;

use super::{
    super::{
        commands,
        names::{Marks, Tags, copied_lv, volume_lv, wiped_lv},
        ours::VolumeView,
        report::Lv,
    },
    commands as thick,
    content::{Copied, Target},
    group::{Group, vanished},
    view::View,
};
use crate::{DriverError, VolumeId, VolumeInfo, name::Name, origin::Origin};

/// What a new volume is copied from, opened.
struct Source {
    copied: Copied,
    /// The snapshot that is read: its content is lost if it overflows meanwhile.
    snapshot: String,
    /// Made for this only.
    temporary: bool,
}

impl Group {
    pub(super) async fn create_volume(
        &self,
        id: VolumeId,
        size: u64,
        origin: Origin,
    ) -> Result<VolumeInfo, DriverError> {
        let turn = self.turns.take(&id).await;
        let lock = self.lock().await?;
        let mut view = self.look().await?;
        let size = view.round_up(size)?;
        if view.all_volumes().all(|volume| *volume.id != id) {
            self.make(&view, &id, size, &origin).await?;
            view = self.look().await?;
        }
        let volume = view.all_volumes().find(|volume| *volume.id == id);
        let volume = volume.ok_or_else(|| vanished(&volume_lv(&id)))?;
        refuse_other(&volume, size, &origin)?;
        if !volume.lv.marks.creating {
            return Ok(volume.info());
        }
        let family = family_of(&view, &origin);
        let family = family.as_deref();
        let target = match self.open(volume.lv, &id).await {
            Ok(target) => target,
            // Another process is making it: nothing of that is ours to undo.
            Err(error @ DriverError::InUse { .. }) => return Err(error),
            Err(error) => return Err(self.undo(&id, family, error).await),
        };
        let source = match self.open_source(&view, &id, &origin).await {
            Ok(source) => source,
            Err(error) => {
                drop(target);
                return Err(self.undo(&id, family, error).await);
            }
        };
        // Takes as long as the size asks for: others may work meanwhile.
        drop(lock);
        let (copied, snapshot) = match source {
            Some(source) => (
                Some(source.copied),
                Some((source.snapshot, source.temporary)),
            ),
            None => (None, None),
        };
        let filled = target.fill(copied, turn.stop.clone()).await;
        let _lock = self.lock().await?;
        // Only now: a second process must not find it neither held nor shown.
        drop(target);
        let done = async {
            if !filled? {
                return Err(DriverError::InUse {
                    what: format!("volume {id}"),
                    by: "a deletion that came while it was made".into(),
                });
            }
            if let Some((snapshot, temporary)) = &snapshot {
                self.refuse_void(snapshot).await?;
                if *temporary {
                    commands::remove(self.vg(), snapshot).await?;
                }
            }
            self.show(&id, family).await
        };
        match done.await {
            Ok(info) => Ok(info),
            Err(error) => Err(self.undo(&id, family, error).await),
        }
    }

    /// Makes the logical volume, marked: nothing of it is shown yet.
    async fn make(
        &self,
        view: &View,
        id: &VolumeId,
        size: u64,
        origin: &Origin,
    ) -> Result<(), DriverError> {
        let name = volume_lv(id);
        self.refuse_foreign(view, &name)?;
        let source = match origin {
            Origin::Empty => None,
            Origin::Snapshot(id) => {
                let found = view.cut(id).map(|(_, cow)| cow.content_bytes);
                Some(found.ok_or_else(|| Name::Snapshot(id.clone()).not_found())?)
            }
            Origin::Volume(id) => {
                let found = view.volume(id).map(|volume| volume.lv.size_bytes);
                Some(found.ok_or_else(|| Name::Volume(id.clone()).not_found())?)
            }
        };
        if let Some(source) = source.filter(|source| *source > size) {
            return Err(DriverError::OutOfRange(format!(
                "{size} bytes are less than the {source} bytes of the source"
            )));
        }
        view.admit(self.vg(), size)?;
        view.0.metadata.admit(self.vg())?;
        let tags = Tags::Volume {
            id: id.clone(),
            origin: origin.clone(),
            made_bytes: size,
        };
        let tags = self.hints.tags_of(id.as_str(), &tags);
        thick::create(self.vg(), &name, size, &tags).await
    }

    /// Activates and opens what is filled.
    async fn open(&self, lv: &Lv, id: &VolumeId) -> Result<Arc<Target>, DriverError> {
        commands::activate(self.vg(), &lv.name).await?;
        let what = format!("volume {id}");
        Target::open(self.device(&lv.name), lv.size_bytes, &what)
    }

    /// Activates and opens what a volume is filled from.
    async fn open_source(
        &self,
        view: &View,
        id: &VolumeId,
        origin: &Origin,
    ) -> Result<Option<Source>, DriverError> {
        let (snapshot, size_bytes, temporary) = match origin {
            Origin::Empty => return Ok(None),
            Origin::Snapshot(id) => {
                let found = view.cut(id);
                let (found, cow) = found.ok_or_else(|| Name::Snapshot(id.clone()).not_found())?;
                self.activate(&cow.origin).await?;
                (found.lv.name.clone(), cow.content_bytes, false)
            }
            Origin::Volume(source) => {
                let found = view.volume(source);
                let found = found.ok_or_else(|| Name::Volume(source.clone()).not_found())?;
                let name = copied_lv(id);
                if view
                    .any(&name)
                    .is_some_and(|lv| lv.marks.helps.as_ref() == Some(id))
                {
                    commands::remove(self.vg(), &name).await?;
                }
                let room = self.cow_bytes(view, found.lv.size_bytes)?;
                let tags = [Marks::helps(id)];
                let origin = &found.lv.name;
                thick::create_snapshot(self.vg(), origin, &name, room, &tags).await?;
                self.activate(origin).await?;
                (name, found.lv.size_bytes, true)
            }
        };
        self.refuse_void(&snapshot).await?;
        Ok(Some(Source {
            copied: Copied::open(self.device(&snapshot), size_bytes)?,
            snapshot,
            temporary,
        }))
    }

    /// Everything is on the disk: the mark goes, and with it the doubt.
    async fn show(&self, id: &VolumeId, family: Option<&str>) -> Result<VolumeInfo, DriverError> {
        let name = volume_lv(id);
        self.rest(&name).await?;
        if let Some(origin) = family {
            self.rest(origin).await?;
        }
        thick::mark(self.vg(), &name, Marks::CREATING, false).await?;
        let view = self.look().await?;
        let volume = view.volume(id).ok_or_else(|| vanished(&name))?;
        Ok(volume.info())
    }

    /// Removes what was begun, each part for itself; what resists is removed by the next call or start.
    async fn undo(&self, id: &VolumeId, family: Option<&str>, error: DriverError) -> DriverError {
        let rested = match family {
            Some(origin) => self.rest(origin).await,
            None => Ok(()),
        };
        let helped = self.remove_helpers(id).await;
        let removed = self.remove_unfinished(id).await;
        for undo in [rested, helped, removed]
            .into_iter()
            .filter_map(Result::err)
        {
            tracing::warn!(volume = %id, %undo, "what was begun could not be removed yet");
        }
        error
    }

    async fn remove_unfinished(&self, id: &VolumeId) -> Result<(), DriverError> {
        let view = self.look().await?;
        let unfinished = view.all_volumes().find(|volume| volume.id == id);
        let Some(volume) = unfinished.filter(|volume| volume.lv.marks.creating) else {
            return Ok(());
        };
        self.rest(&volume.lv.name).await?;
        commands::remove(self.vg(), &volume.lv.name).await
    }

    async fn remove_helpers(&self, id: &VolumeId) -> Result<(), DriverError> {
        for (lv, _) in self.look().await?.helpers().filter(|(_, of)| *of == id) {
            let origin = lv.cow.as_ref().map(|cow| cow.origin.clone());
            // What a volume is to grow by may have been wiped for it.
            commands::remove_undiscarded(self.vg(), &lv.name).await?;
            if let Some(origin) = origin {
                self.rest(&origin).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn delete_volume(&self, id: VolumeId) -> Result<(), DriverError> {
        let _turn = self.turns.take_over(&id).await;
        let _lock = self.lock().await?;
        self.remove_helpers(&id).await?;
        self.remove_unfinished(&id).await?;
        let view = self.look().await?;
        let view = self.finish_replacements(view, Some(&id)).await?;
        let Some(volume) = view.volume(&id) else {
            return Ok(());
        };
        view.0
            .refuse_taking_along(volume.lv, &format!("volume {id}"))?;
        match self.unexport(&Name::Volume(id)).await? {
            Some(lv) => commands::remove(self.vg(), &lv.name).await,
            None => Ok(()),
        }
    }

    pub(super) async fn extend_volume(
        &self,
        id: VolumeId,
        size: u64,
    ) -> Result<VolumeInfo, DriverError> {
        let turn = self.turns.take(&id).await;
        let lock = self.lock().await?;
        self.remove_helpers(&id).await?;
        let view = self.look().await?;
        let size = view.round_up(size)?;
        let name = Name::Volume(id.clone());
        let volume = view.volume(&id).ok_or_else(|| name.not_found())?;
        let more = size.saturating_sub(volume.lv.size_bytes);
        if more == 0 {
            return Ok(volume.info());
        }
        refuse_growing(&view, &volume)?;
        view.admit(self.vg(), more)?;
        let room = wiped_lv(&id);
        self.refuse_foreign(&view, &room)?;
        thick::create_room(self.vg(), &room, more, &Marks::helps(&id)).await?;
        let target = Target::open(self.device(&room), more, &format!("volume {id}"));
        drop(lock);
        let (wiped, target) = match target {
            Ok(target) => (target.fill(None, turn.stop.clone()).await, Some(target)),
            Err(error) => (Err(error), None),
        };
        let _lock = self.lock().await?;
        // Only now: a second process must not take it for forgotten, and put another one in its place.
        drop(target);
        self.join(&id, size, wiped).await
    }

    /// Turns the wiped room into the end of the volume: the same extents, named one by one.
    async fn join(
        &self,
        id: &VolumeId,
        size: u64,
        wiped: Result<bool, DriverError>,
    ) -> Result<VolumeInfo, DriverError> {
        let name = Name::Volume(id.clone());
        let extents = match wiped {
            Ok(true) => thick::extents(self.vg(), &wiped_lv(id)).await,
            Ok(false) => Err(DriverError::InUse {
                what: name.to_string(),
                by: "a deletion that came while it grew".into(),
            }),
            Err(error) => Err(error),
        };
        self.rest(&wiped_lv(id)).await?;
        self.remove_helpers(id).await?;
        let extents = extents?;
        let view = self.look().await?;
        let volume = view.volume(id).ok_or_else(|| name.not_found())?;
        refuse_growing(&view, &volume)?;
        let lv = volume.lv;
        thick::extend_onto(self.vg(), &lv.name, lv.is_striped, size, &extents).await?;
        let view = self.look().await?;
        Ok(view.volume(id).ok_or_else(|| name.not_found())?.info())
    }
}

/// The family that a copy is read from, which has to rest afterwards.
fn family_of(view: &View, origin: &Origin) -> Option<String> {
    match origin {
        Origin::Empty => None,
        Origin::Snapshot(id) => Some(view.cut(id)?.1.origin.clone()),
        Origin::Volume(id) => Some(view.volume(id)?.lv.name.clone()),
    }
}

/// The volume that is there has to be the one that was asked for.
fn refuse_other(volume: &VolumeView<'_>, size: u64, origin: &Origin) -> Result<(), DriverError> {
    let difference = if volume.origin != origin {
        "it has another source".to_owned()
    } else if volume.made_bytes != size && volume.lv.size_bytes != size {
        format!("it has {} bytes", volume.lv.size_bytes)
    } else {
        return Ok(());
    };
    Err(DriverError::AlreadyExists {
        what: format!("volume {}", volume.id),
        difference,
    })
}

/// LVM grows the origin of a classic snapshot only while it is not active.
fn refuse_growing(view: &View, volume: &VolumeView<'_>) -> Result<(), DriverError> {
    let snapshots = snapshots_of(view, volume);
    if snapshots.is_empty() || !volume.lv.active {
        return Ok(());
    }
    Err(DriverError::InUse {
        what: format!("volume {}", volume.id),
        by: format!(
            "{}: LVM grows a volume with snapshots only while it is detached; detach it, or delete those",
            snapshots.join(", ")
        ),
    })
}

/// Its snapshots in words, whoever made them.
fn snapshots_of(view: &View, volume: &VolumeView<'_>) -> Vec<String> {
    let of_it = view.snapshots_of(&volume.lv.name);
    of_it
        .map(|lv| match view.snapshots().find(|s| s.lv.name == lv.name) {
            Some(snapshot) => format!("snapshot {}", snapshot.id),
            None => format!("logical volume {}", lv.name),
        })
        .collect()
}
