//! What all operations on a volume group share: looking, activating, being closed, resting.
//!
//! A classic snapshot and its origin are active together or not at all, so "exported" is a tag of each, and a family is
//! deactivated when nobody has an export or an open device of it any more.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    super::{
        adopt, commands,
        hints::Hints,
        lock::{self, LockGuard},
        names::Marks,
        report::Lv,
    },
    LvmThickConfig, commands as thick,
    turns::Turns,
    view::View,
    watch::Watch,
};
use crate::{AccessMode, ConnectionInfo, DriverError, LocalConnection, name::Name};

/// How often a device is looked at that somebody has open.
const CLOSE_POLL: Duration = Duration::from_millis(100);

/// One volume group; what changes something takes its lock.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) config: LvmThickConfig,
    pub(super) turns: Turns,
    pub(super) watch: Watch,
    pub(super) hints: Hints,
    /// For the watch, which must not keep the group alive.
    me: Weak<Group>,
}

impl Group {
    pub(super) fn new(config: LvmThickConfig) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            config,
            turns: Turns::default(),
            watch: Watch::default(),
            hints: Hints::default(),
            me: me.clone(),
        })
    }

    pub(super) fn vg(&self) -> &str {
        &self.config.vg
    }

    /// Which logical volumes are its own.
    pub(super) fn place(&self) -> adopt::Place<'_> {
        adopt::Place {
            vg: self.vg(),
            thin_pool: None,
        }
    }

    pub(super) async fn lock(&self) -> Result<LockGuard, DriverError> {
        lock::acquire(&self.config.lock_directory, self.vg()).await
    }

    pub(super) async fn look(&self) -> Result<View, DriverError> {
        commands::full_report(self.vg()).await.map(View)
    }

    pub(super) fn device(&self, lv: &str) -> PathBuf {
        format!("/dev/{}/{lv}", self.vg()).into()
    }

    /// Activates a family; from now on its snapshots can overflow, so they are watched.
    pub(super) async fn activate(&self, origin: &str) -> Result<(), DriverError> {
        commands::activate(self.vg(), origin).await?;
        self.watched();
        Ok(())
    }

    /// Makes sure that active snapshots are watched; to be called under the lock.
    pub(super) fn watched(&self) {
        self.watch.ensure(&self.me);
    }

    /// Finishes or removes what a crash left: helpers, half-made volumes, devices that hold their I/O back, families that
    /// nobody needs active.
    pub(super) async fn check(&self) -> Result<(), DriverError> {
        let _lock = self.lock().await?;
        self.watched();
        let view = self.look().await?;
        let vg = self.vg();
        let ours = |lv: &&Lv| lv.tags.is_some() || lv.marks.helps.is_some();
        for lv in view.0.lvs.iter().filter(ours).filter(|lv| lv.suspended) {
            tracing::warn!(
                vg,
                lv = lv.name,
                "left suspended by a command that was killed, resuming"
            );
            commands::refresh(vg, &lv.name).await?;
        }
        for (lv, volume) in view.helpers() {
            if self.turns.is_free(volume) && !lv.open {
                tracing::warn!(vg, lv = lv.name, "removing what a broken-off call left");
                commands::remove_undiscarded(vg, &lv.name).await?;
            }
        }
        for volume in view.all_volumes() {
            let lv = volume.lv;
            if lv.marks.creating && self.turns.is_free(volume.id) && !lv.open {
                tracing::warn!(
                    vg,
                    lv = lv.name,
                    "removing a volume that was never finished"
                );
                self.deactivate(lv).await?;
                commands::remove(vg, &lv.name).await?;
            } else if lv.active && !(lv.open && lv.marks.former.is_some()) {
                // One that was adopted while it was mounted stays so.
                self.rest(&lv.name).await?;
            }
        }
        let view = self.look().await?;
        if let Err(error) = self.finish_replacements(view, None).await {
            tracing::warn!(vg, %error, "a volume has its new content; what it held before cannot be removed yet");
        }
        Ok(())
    }

    /// Activates a family; also what a repeated call or a reboot in between needs.
    pub(super) async fn export(&self, name: &Name) -> Result<Lv, DriverError> {
        let mut view = self.look().await?;
        if let Name::Volume(id) = name
            && let Some(lv) = view.find(name)
            && adopt::take_name(self.vg(), lv, id).await
        {
            view = self.look().await?;
        }
        let lv = view.find(name).ok_or_else(|| name.not_found())?;
        if lv.cow.is_some() && !lv.read_only {
            return Err(DriverError::Unexpected {
                doing: format!("exporting {name}"),
                answer: format!("{} is writable, its content may have changed", lv.name),
            });
        }
        if !lv.marks.exported {
            thick::mark(self.vg(), &lv.name, Marks::EXPORTED, true).await?;
        }
        if lv.active {
            self.watched();
        } else {
            self.activate(origin_of(lv)).await?;
        }
        Ok(lv.clone())
    }

    pub(super) async fn connection(
        &self,
        name: &Name,
        access_mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        let lv = self.export(name).await?;
        let content_bytes = lv.cow.as_ref().map(|cow| cow.content_bytes);
        Ok(ConnectionInfo::Local(LocalConnection {
            device_path: self.device(&lv.name),
            access_mode,
            size_bytes: content_bytes.unwrap_or(lv.size_bytes),
        }))
    }

    /// There is nothing to take away on the same host, but a device that is still open is worth saying.
    pub(super) async fn terminate(&self, name: &Name, force: bool) -> Result<(), DriverError> {
        if force {
            return Ok(());
        }
        self.closed(name).await.map(drop)
    }

    /// Takes the export back; the logical volume, or `None` if there is none.
    pub(super) async fn unexport(&self, name: &Name) -> Result<Option<Lv>, DriverError> {
        let Some(lv) = self.closed(name).await? else {
            return Ok(None);
        };
        if lv.marks.exported {
            thick::mark(self.vg(), &lv.name, Marks::EXPORTED, false).await?;
        }
        if lv.active {
            self.rest(origin_of(&lv)).await?;
        }
        Ok(Some(lv))
    }

    /// Deactivates a family that nobody has an export or an open device of.
    pub(super) async fn rest(&self, origin: &str) -> Result<(), DriverError> {
        let started = tokio::time::Instant::now();
        loop {
            let view = self.look().await?;
            let Some(lv) = view.any(origin).filter(|lv| lv.active) else {
                return Ok(());
            };
            if view.family(origin).any(|lv| lv.marks.exported) {
                return Ok(());
            }
            if !view.family(origin).any(|lv| lv.open) {
                return self.deactivate(lv).await;
            }
            if started.elapsed() >= self.config.close_patience {
                tracing::debug!(origin, "stays active: somebody has it open");
                return Ok(());
            }
            tokio::time::sleep(CLOSE_POLL).await;
        }
    }

    pub(super) async fn deactivate(&self, lv: &Lv) -> Result<(), DriverError> {
        if !lv.active {
            return Ok(());
        }
        commands::deactivate(self.vg(), &lv.name).await
    }

    /// The logical volume, once nobody has it open; `None` if there is none.
    pub(super) async fn closed(&self, name: &Name) -> Result<Option<Lv>, DriverError> {
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

    /// A name that is taken by something that is not ours.
    pub(super) fn refuse_foreign(&self, view: &View, name: &str) -> Result<(), DriverError> {
        if view.any(name).is_none() {
            return Ok(());
        }
        Err(DriverError::AlreadyExists {
            what: format!("logical volume {}/{name}", self.vg()),
            difference: "it was made by somebody else".into(),
        })
    }
}

/// The origin of a classic snapshot, or the logical volume itself.
pub(super) fn origin_of(lv: &Lv) -> &str {
    lv.cow.as_ref().map_or(&lv.name, |cow| &cow.origin)
}

pub(super) fn vanished(name: &str) -> DriverError {
    DriverError::Unexpected {
        doing: "reading LVM's report after a change".into(),
        answer: format!("{name} is not in it"),
    }
}
