//! Making, growing and removing volumes.
//!
//! New extents hold what was there before. So a volume is made inactive and marked as being made, filled, and only then
//! shown; what it grows by is a logical volume of its own until it is zeroed. A crash leaves the mark or the helper, and
//! with it the certainty that nobody has seen those bytes.

use super::{
    super::{
        commands,
        names::{Marks, Tags, copied_lv, volume_lv, wiped_lv},
    },
    Name, commands as thick,
    content::{Copied, Target},
    group::{Group, vanished},
    turns::Held,
    view::{View, VolumeView},
};
use crate::{DriverError, VolumeId, VolumeInfo, origin::Origin};

/// What a new volume is copied from, opened.
struct Source {
    copied: Copied,
    /// The family that has to rest afterwards.
    origin: String,
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
        let prepared = self.prepare(&view, &volume, &origin).await;
        let (target, source) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.undo(&id, None, error).await),
        };
        // Takes as long as the size asks for: others may work meanwhile.
        drop(lock);
        let (copied, family) = match source {
            Some(Source {
                copied,
                origin,
                snapshot,
                temporary,
            }) => (Some(copied), Some((origin, snapshot, temporary))),
            None => (None, None),
        };
        let filled = target.fill(copied, turn.cancelled.clone()).await;
        let _lock = self.lock().await?;
        let filled = match (filled, &family) {
            (Ok(false), _) => Err(DriverError::InUse {
                what: format!("volume {id}"),
                by: "a deletion that came while it was made".into(),
            }),
            (Err(error), _) => Err(error),
            (Ok(true), Some((_, snapshot, _))) => self.refuse_void(snapshot).await,
            (Ok(true), None) => Ok(()),
        };
        let temporary = family.as_ref().filter(|(_, _, temporary)| *temporary);
        if let Some((_, snapshot, _)) = temporary {
            commands::remove(self.vg(), snapshot).await?;
        }
        let family = family.as_ref().map(|(origin, ..)| origin.as_str());
        if let Err(error) = filled {
            return Err(self.undo(&id, family, error).await);
        }
        self.show(&id, family).await
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
                let found = view.snapshot(id).map(|s| s.cow.content_bytes);
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
        let tags = Tags::Volume {
            id: id.clone(),
            origin: origin.clone(),
            made_bytes: size,
        };
        thick::create(self.vg(), &name, size, &tags).await
    }

    /// Activates and opens what is filled and what it is filled from.
    async fn prepare(
        &self,
        view: &View,
        volume: &VolumeView<'_>,
        origin: &Origin,
    ) -> Result<(Target, Option<Source>), DriverError> {
        let source = match origin {
            Origin::Empty => None,
            Origin::Snapshot(id) => {
                let found = view.snapshot(id);
                let found = found.ok_or_else(|| Name::Snapshot(id.clone()).not_found())?;
                commands::activate(self.vg(), &found.cow.origin).await?;
                let (origin, name) = (found.cow.origin.clone(), found.lv.name.clone());
                Some(
                    self.source(origin, name, found.cow.content_bytes, false)
                        .await?,
                )
            }
            Origin::Volume(id) => {
                let found = view.volume(id);
                let found = found.ok_or_else(|| Name::Volume(id.clone()).not_found())?;
                let name = copied_lv(volume.id);
                if view
                    .any(&name)
                    .is_some_and(|lv| lv.marks.helps.as_ref() == Some(volume.id))
                {
                    commands::remove(self.vg(), &name).await?;
                }
                let room = self.cow_bytes(view, found.lv.size_bytes)?;
                let tags = [Marks::helps(volume.id)];
                let origin = found.lv.name.clone();
                thick::create_snapshot(self.vg(), &origin, &name, room, &tags).await?;
                commands::activate(self.vg(), &origin).await?;
                Some(self.source(origin, name, found.lv.size_bytes, true).await?)
            }
        };
        commands::activate(self.vg(), &volume.lv.name).await?;
        let what = format!("volume {}", volume.id);
        let path = self.device(&volume.lv.name);
        let target = Target::open(path, volume.lv.size_bytes, &what)?;
        Ok((target, source))
    }

    async fn source(
        &self,
        origin: String,
        snapshot: String,
        size_bytes: u64,
        temporary: bool,
    ) -> Result<Source, DriverError> {
        self.refuse_void(&snapshot).await?;
        Ok(Source {
            copied: Copied::open(self.device(&snapshot), size_bytes)?,
            origin,
            snapshot,
            temporary,
        })
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

    /// Removes what was begun; what resists is removed by the next call or start.
    async fn undo(&self, id: &VolumeId, family: Option<&str>, error: DriverError) -> DriverError {
        let undoing = async {
            if let Some(origin) = family {
                self.rest(origin).await?;
            }
            self.remove_helpers(id).await?;
            self.remove_unfinished(id).await
        };
        if let Err(undo) = undoing.await {
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
            commands::remove(self.vg(), &lv.name).await?;
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
        let Some(volume) = view.volume(&id) else {
            return Ok(());
        };
        // LVM would take them along.
        let snapshots = snapshots_of(&view, &volume);
        if !snapshots.is_empty() {
            return Err(DriverError::InUse {
                what: format!("volume {id}"),
                by: format!("{}: delete those first", snapshots.join(", ")),
            });
        }
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
        let wiped = match target {
            Ok(target) => target.fill(None, turn.cancelled.clone()).await,
            Err(error) => Err(error),
        };
        let _lock = self.lock().await?;
        self.join(&id, size, wiped, &turn).await
    }

    /// Turns the wiped room into the end of the volume: the same extents, named one by one.
    async fn join(
        &self,
        id: &VolumeId,
        size: u64,
        wiped: Result<bool, DriverError>,
        _turn: &Held,
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
        thick::extend_onto(self.vg(), &volume.lv.name, size, &extents).await?;
        let view = self.look().await?;
        Ok(view.volume(id).ok_or_else(|| name.not_found())?.info())
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
