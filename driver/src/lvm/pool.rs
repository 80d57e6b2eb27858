//! The operations on one thin pool, each a look, a decision and at most a few commands.
//!
//! Those that change something rely on the volume group's lock being held by the caller.

use std::time::Duration;

use super::{
    adopt,
    commands::{self, Permission},
    hints::Hints,
    names::{Tags, snapshot_lv, volume_lv},
    replace,
    report::Lv,
    thin::LvmThinConfig,
    view::View,
};
use crate::{
    AccessMode, ConnectionInfo, DriverError, LocalConnection, SnapshotId, SnapshotInfo, VolumeId,
    VolumeInfo, model, name::Name, origin::Origin,
};

/// How often a device is looked at that somebody has open.
const CLOSE_POLL: Duration = Duration::from_millis(100);

/// The operations themselves; those that change something run under the lock.
#[derive(Debug)]
pub(super) struct Pool {
    config: LvmThinConfig,
    pub(super) hints: Hints,
}

impl Pool {
    pub(super) fn new(config: LvmThinConfig) -> Self {
        Self {
            config,
            hints: Hints::default(),
        }
    }

    pub(super) fn config(&self) -> &LvmThinConfig {
        &self.config
    }

    /// Which logical volumes are this pool's.
    pub(super) fn place(&self) -> adopt::Place<'_> {
        adopt::Place {
            vg: &self.config.vg,
            thin_pool: Some(&self.config.pool),
        }
    }

    pub(super) async fn look(&self) -> Result<View, DriverError> {
        let report = commands::full_report(&self.config.vg).await?;
        View::new(&self.config, report)
    }

    /// Looks, with the pool active so that it tells how full it is.
    pub(super) async fn look_inside(&self) -> Result<View, DriverError> {
        let view = self.look().await?;
        if view.knows_usage() {
            return Ok(view);
        }
        commands::activate(&self.config.vg, &self.config.pool).await?;
        self.look().await
    }

    pub(super) async fn check(&self) -> Result<(), DriverError> {
        let (vg, pool) = (&self.config.vg, &self.config.pool);
        let report = commands::full_report(vg).await?;
        let missing = !report.lvs.iter().any(|lv| lv.name == *pool);
        if let (true, Some(size)) = (missing, self.config.pool_size_bytes) {
            tracing::info!(vg, pool, size_bytes = size, "making the thin pool");
            let extents = size.checked_next_multiple_of(report.extent_bytes);
            let size = extents.filter(|size| *size > 0).ok_or_else(|| {
                DriverError::InvalidArgument(format!("a pool cannot have {size} bytes"))
            })?;
            commands::create_pool(vg, pool, size).await?;
        }
        let view = self.look_inside().await?;
        for lv in view.suspended() {
            tracing::warn!(
                vg,
                lv = lv.name,
                "left suspended by a command that was killed, resuming"
            );
            commands::refresh(vg, &lv.name).await?;
        }
        let zeroes = view.zeroes();
        if let Err(error) = self.finish_replacements(view, None).await {
            tracing::warn!(vg, %error, "a volume has its new content; what it held before cannot be removed yet");
        }
        if zeroes {
            return self.clear_stale().await;
        }
        Err(DriverError::Host(format!(
            "thin pool {vg}/{pool} hands out blocks with old data in them; run `lvchange --zero y {vg}/{pool}`"
        )))
    }

    pub(super) async fn create_volume(
        &self,
        id: VolumeId,
        size: u64,
        origin: Origin,
    ) -> Result<VolumeInfo, DriverError> {
        let vg = &self.config.vg;
        let name = volume_lv(&id);
        let mut view = self.look_inside().await?;
        let size = view.round_up(size)?;
        if view.volume(&id).is_none() {
            self.make_volume(&view, &id, size, &origin).await?;
            view = self.look().await?;
        }
        let volume = view.volume(&id).ok_or_else(|| vanished(&name))?;
        let differs = if *volume.origin != origin {
            Some("it has another source".to_owned())
        } else if volume.made_bytes != size && volume.lv.size_bytes != size {
            Some(format!("it has {} bytes", volume.lv.size_bytes))
        } else {
            None
        };
        if let Some(difference) = differs {
            return Err(DriverError::AlreadyExists {
                what: format!("volume {id}"),
                difference,
            });
        }
        // A thin snapshot is as large as its source at first; also after a crash just there.
        if volume.lv.size_bytes < size {
            commands::extend(vg, &name, size).await?;
            view = self.look().await?;
        }
        Ok(view.volume(&id).ok_or_else(|| vanished(&name))?.info())
    }

    async fn make_volume(
        &self,
        view: &View,
        id: &VolumeId,
        size: u64,
        origin: &Origin,
    ) -> Result<(), DriverError> {
        let (vg, pool) = (&self.config.vg, &self.config.pool);
        let name = volume_lv(id);
        self.refuse_foreign(view, &name)?;
        let source = match origin {
            Origin::Empty => None,
            Origin::Snapshot(id) => Some(Name::Snapshot(id.clone())),
            Origin::Volume(id) => Some(Name::Volume(id.clone())),
        };
        let source = match &source {
            Some(name) => Some(view.find(name).ok_or_else(|| name.not_found())?),
            None => None,
        };
        if let Some(source) = source.filter(|source| source.size_bytes > size) {
            return Err(DriverError::OutOfRange(format!(
                "{size} bytes are less than the {} bytes of the source",
                source.size_bytes
            )));
        }
        view.admit(&self.config, size)?;
        view.admit_another(&self.config)?;
        let tags = Tags::Volume {
            id: id.clone(),
            origin: origin.clone(),
            made_bytes: size,
        };
        let tags = self.hints.tags_of(id.as_str(), &tags);
        let made = match source {
            None => commands::create_thin(vg, pool, &name, size, &tags).await,
            Some(lv) => {
                commands::create_snapshot(vg, &lv.name, &name, Permission::ReadWrite, &tags).await
            }
        };
        self.settle(made, &Name::Volume(id.clone())).await
    }

    pub(super) async fn create_snapshot(
        &self,
        id: SnapshotId,
        volume: VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        let lv_name = snapshot_lv(&id);
        let mut view = self.look_inside().await?;
        if view.snapshot(&id).is_none() {
            self.refuse_foreign(&view, &lv_name)?;
            let source = Name::Volume(volume.clone());
            let origin = view.find(&source).ok_or_else(|| source.not_found())?;
            view.admit(&self.config, 0)?;
            view.admit_another(&self.config)?;
            let tags = Tags::Snapshot {
                id: id.clone(),
                volume: volume.clone(),
                created_at_us: model::now_us(),
            };
            let tags = self.hints.tags_of(id.as_str(), &tags);
            let vg = &self.config.vg;
            let read_only = Permission::ReadOnly;
            let made =
                commands::create_snapshot(vg, &origin.name, &lv_name, read_only, &tags).await;
            self.settle(made, &Name::Snapshot(id.clone())).await?;
            view = self.look().await?;
        }
        let snapshot = view.snapshot(&id).ok_or_else(|| vanished(&lv_name))?;
        if *snapshot.volume == volume {
            return Ok(snapshot.info());
        }
        Err(DriverError::AlreadyExists {
            what: format!("snapshot {id}"),
            difference: format!("it is of volume {}", snapshot.volume),
        })
    }

    pub(super) async fn extend_volume(
        &self,
        id: &VolumeId,
        size: u64,
    ) -> Result<VolumeInfo, DriverError> {
        let name = Name::Volume(id.clone());
        let view = self.look_inside().await?;
        let size = view.round_up(size)?;
        let volume = view.volume(id).ok_or_else(|| name.not_found())?;
        if volume.lv.size_bytes >= size {
            return Ok(volume.info());
        }
        view.admit(&self.config, size - volume.lv.size_bytes)?;
        commands::extend(&self.config.vg, &volume.lv.name, size).await?;
        let view = self.look().await?;
        Ok(view.volume(id).ok_or_else(|| name.not_found())?.info())
    }

    pub(super) async fn delete(&self, name: &Name) -> Result<(), DriverError> {
        let mut view = self.look().await?;
        if let Name::Volume(id) = name {
            view = self.finish_replacements(view, Some(id)).await?;
        }
        if let Some(lv) = view.find(name) {
            // Somebody else's, made from ours: LVM would take them along.
            view.refuse_taking_along(lv, name)?;
        }
        match self.unexport(name).await? {
            Some(lv) => commands::remove(&self.config.vg, &lv.name).await,
            None => Ok(()),
        }
    }

    pub(super) async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        let view = self.look().await?;
        let lv = view.find(&name).ok_or_else(|| name.not_found())?;
        view.refuse_taking_along(lv, &name)
    }

    pub(super) async fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let (name, other) = (Name::Volume(id.clone()), Name::Volume(with.clone()));
        // What an earlier call left, also one of these two.
        let view = self.look().await?;
        let view = self.finish_replacements(view, Some(id)).await?;
        let old = view.volume(id).ok_or_else(|| name.not_found())?;
        if old.lv.marks.replaced.as_ref() == Some(with) {
            return Ok(old.info());
        }
        let new = view.volume(with).ok_or_else(|| other.not_found())?;
        replace::check(view.report(), (old.lv, id), (new.lv, with))?;
        for name in [&name, &other] {
            self.unexport(name).await?;
        }
        replace::step(&self.config.vg, old.lv, new.lv, id).await?;
        let view = self.look().await?;
        let view = self.finish_replacements(view, Some(id)).await?;
        Ok(view.volume(id).ok_or_else(|| name.not_found())?.info())
    }

    /// What is left to do where a volume has taken another one's place; of all volumes, or of one.
    async fn finish_replacements(
        &self,
        view: View,
        id: Option<&VolumeId>,
    ) -> Result<View, DriverError> {
        let of = replace::Of {
            pool: Some(&self.config.pool),
            volume: id,
        };
        if !replace::is_left(view.report(), of) {
            return Ok(view);
        }
        replace::finish(&self.config.vg, view.report(), of).await?;
        self.look().await
    }

    /// Activates; also what a repeated call or a reboot in between needs.
    pub(super) async fn export(&self, name: &Name) -> Result<Lv, DriverError> {
        let mut view = self.look().await?;
        if let Name::Volume(id) = name
            && let Some(lv) = view.find(name)
            && adopt::take_name(&self.config.vg, lv, id).await
        {
            view = self.look().await?;
        }
        let lv = view.find(name).ok_or_else(|| name.not_found())?;
        if matches!(name, Name::Snapshot(_)) && !lv.read_only {
            return Err(DriverError::Unexpected {
                doing: format!("exporting {name}"),
                answer: format!("{} is writable, its content may have changed", lv.name),
            });
        }
        if !lv.active {
            commands::activate(&self.config.vg, &lv.name).await?;
        }
        Ok(lv.clone())
    }

    pub(super) async fn connection(
        &self,
        name: &Name,
        access_mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        let lv = self.export(name).await?;
        Ok(ConnectionInfo::Local(LocalConnection {
            device_path: format!("/dev/{}/{}", self.config.vg, lv.name).into(),
            access_mode,
            size_bytes: lv.size_bytes,
        }))
    }

    /// There is nothing to take away on the same host, but a device that is still open is worth saying.
    pub(super) async fn terminate(&self, name: &Name, force: bool) -> Result<(), DriverError> {
        if force {
            return Ok(());
        }
        self.closed(name).await.map(drop)
    }

    /// Deactivates; the logical volume, or `None` if there is none.
    pub(super) async fn unexport(&self, name: &Name) -> Result<Option<Lv>, DriverError> {
        let Some(lv) = self.closed(name).await? else {
            return Ok(None);
        };
        if lv.active {
            let done = commands::deactivate(&self.config.vg, &lv.name).await;
            done.map_err(|error| match error {
                DriverError::InUse { by, .. } => DriverError::InUse {
                    what: name.to_string(),
                    by,
                },
                error => error,
            })?;
        }
        Ok(Some(lv))
    }

    /// The logical volume, once nobody has it open; `None` if there is none.
    async fn closed(&self, name: &Name) -> Result<Option<Lv>, DriverError> {
        let started = tokio::time::Instant::now();
        loop {
            let view = self.look().await?;
            let Some(lv) = view.find(name) else {
                return Ok(None);
            };
            let Some(by) = lv.opened_by() else {
                return Ok(Some(lv.clone()));
            };
            if started.elapsed() >= self.config.close_patience {
                return Err(DriverError::InUse {
                    what: name.to_string(),
                    by,
                });
            }
            tokio::time::sleep(CLOSE_POLL).await;
        }
    }

    /// A name that is taken by something that is not ours, or ours in another pool.
    fn refuse_foreign(&self, view: &View, name: &str) -> Result<(), DriverError> {
        if view.any(name).is_none() {
            return Ok(());
        }
        Err(DriverError::AlreadyExists {
            what: format!("logical volume {}/{name}", self.config.vg),
            difference: "it was made by somebody else".into(),
        })
    }

    /// What counts after a creating command is whether the thing is there: LVM may fail after it did its work.
    async fn settle(&self, made: Result<(), DriverError>, name: &Name) -> Result<(), DriverError> {
        match made {
            Ok(()) => Ok(()),
            Err(error) => match self.look().await?.find(name) {
                Some(_) => {
                    tracing::warn!(%name, %error, "LVM reported a failure, but it is there");
                    Ok(())
                }
                None => Err(error),
            },
        }
    }
}

fn vanished(name: &str) -> DriverError {
    DriverError::Unexpected {
        doing: "reading LVM's report after a change".into(),
        answer: format!("{name} is not in it"),
    }
}
