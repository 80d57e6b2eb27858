//! The driver `lvm-thick`: plain logical volumes, and classic snapshots with room for what changes.
//!
//! For volume groups without a thin pool. What differs from thin pools, by the kernel's nature:
//!
//! - A volume takes its whole size, is zeroed when it is made, and copies are full copies.
//! - A snapshot has room for a share of its volume. That room is extended while it fills ([`mod@watch`]); when it runs out the
//!   snapshot is void ([`VolumeDriver::check_snapshot`]) and nothing of it may be used.
//! - A volume that has snapshots can neither be deleted nor, while it is attached, grown: `InUse` names them.
//! - A snapshot of a snapshot is made from a volume made from it.
//!
//! | module | what it is |
//! | --- | --- |
//! | `volumes`, `snapshots` | the operations |
//! | `replace` | a volume that takes another one's place |
//! | `group` | looking, activating, resting |
//! | `content` | zeroing and copying devices |
//! | `turns` | who works on which volume |
//! | `watch`, `room` | growing snapshots before they overflow |
//! | `view`, `commands` | what LVM says, and what it is told |

mod commands;
mod content;
mod group;
mod replace;
mod room;
mod snapshots;
mod turns;
mod view;
mod volumes;
mod watch;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

use self::group::Group;
use super::{
    LvName,
    names::is_lvm_name,
    ours::{SnapshotView, VolumeView},
};
use crate::{
    AccessMode, Adoptable, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError,
    Headroom, Remembered, SnapshotId, SnapshotInfo, VolumeDriver, VolumeId, VolumeInfo, in_use,
    name::Name, origin::Origin, task,
};

/// Which volume group, and how much room snapshots get.
#[derive(Debug, Clone)]
pub struct LvmThickConfig {
    /// The volume group; it must exist.
    pub vg: String,
    /// Room for changes of a new snapshot, in percent of its volume.
    pub snapshot_percent: u64,
    /// The least of it, in bytes; a volume smaller than this gets what a whole copy needs.
    pub snapshot_least_bytes: u64,
    /// A snapshot this full, in percent, is extended.
    pub extend_at_percent: u64,
    /// How often that is looked at.
    pub watch_every: Duration,
    /// How long a device that somebody has open is watched before it counts as in use: udev looks into every device that was
    /// just written.
    pub close_patience: Duration,
    /// Where the lock files lie that keep processes apart.
    pub lock_directory: PathBuf,
}

impl LvmThickConfig {
    /// A volume group with the usual room for snapshots.
    pub fn new(vg: impl Into<String>) -> Self {
        Self {
            vg: vg.into(),
            snapshot_percent: 20,
            snapshot_least_bytes: 64 << 20,
            extend_at_percent: 50,
            watch_every: Duration::from_secs(1),
            close_patience: in_use::PATIENCE,
            lock_directory: "/run/stockpot".into(),
        }
    }

    fn check(&self) -> Result<(), DriverError> {
        if !is_lvm_name(&self.vg) {
            return Err(DriverError::InvalidArgument(format!(
                "{:?} cannot be the name of a volume group: 1 to 52 of letters, digits, '_', '+', '.', '-'",
                self.vg
            )));
        }
        for percent in [self.snapshot_percent, self.extend_at_percent] {
            if !(1..=100).contains(&percent) {
                return Err(DriverError::InvalidArgument(format!(
                    "{percent} % is no share of a snapshot"
                )));
            }
        }
        if self.snapshot_least_bytes < 4 << 20 {
            return Err(DriverError::InvalidArgument(format!(
                "{} bytes are too little for a snapshot: 4194304 is the least",
                self.snapshot_least_bytes
            )));
        }
        Ok(())
    }
}

/// Volumes and snapshots in one volume group.
#[derive(Debug, Clone)]
pub struct LvmThickDriver {
    group: Arc<Group>,
}

impl LvmThickDriver {
    /// A driver for one volume group; nothing is run yet.
    ///
    /// # Errors
    /// `InvalidArgument` if a setting cannot work.
    pub fn new(config: LvmThickConfig) -> Result<Self, DriverError> {
        config.check()?;
        Ok(Self {
            group: Group::new(config),
        })
    }

    /// Does something to its end even if the caller goes away meanwhile.
    async fn whole<T, F>(&self, work: impl FnOnce(Arc<Group>) -> F) -> Result<T, DriverError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DriverError>> + Send + 'static,
    {
        task::to_the_end(work(self.group.clone())).await
    }

    async fn create(
        &self,
        id: &VolumeId,
        size: u64,
        from: Origin,
    ) -> Result<VolumeInfo, DriverError> {
        let id = id.clone();
        self.whole(|group| async move { group.create_volume(id, size, from).await })
            .await
    }

    async fn export(&self, name: Name) -> Result<(), DriverError> {
        self.whole(|group| async move {
            let _lock = group.lock().await?;
            group.export(&name).await.map(drop)
        })
        .await
    }

    async fn connect(&self, name: Name, mode: AccessMode) -> Result<ConnectionInfo, DriverError> {
        self.whole(move |group| async move {
            let _lock = group.lock().await?;
            group.connection(&name, mode).await
        })
        .await
    }

    async fn terminate(&self, name: Name, force: bool) -> Result<(), DriverError> {
        self.whole(move |group| async move {
            let _lock = group.lock().await?;
            group.terminate(&name, force).await
        })
        .await
    }

    async fn unexport(&self, name: Name) -> Result<(), DriverError> {
        self.whole(|group| async move {
            let _lock = group.lock().await?;
            group.unexport(&name).await.map(drop)
        })
        .await
    }
}

#[async_trait]
impl VolumeDriver for LvmThickDriver {
    fn name(&self) -> &'static str {
        "lvm-thick"
    }

    async fn check(&self) -> Result<(), DriverError> {
        self.whole(|group| async move { group.check().await }).await
    }

    async fn create_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        self.create(id, size, Origin::Empty).await
    }

    async fn create_volume_from_snapshot(
        &self,
        id: &VolumeId,
        size: u64,
        snapshot: &SnapshotId,
    ) -> Result<VolumeInfo, DriverError> {
        self.create(id, size, Origin::Snapshot(snapshot.clone()))
            .await
    }

    async fn create_cloned_volume(
        &self,
        id: &VolumeId,
        size: u64,
        source: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        self.create(id, size, Origin::Volume(source.clone())).await
    }

    async fn delete_volume(&self, id: &VolumeId) -> Result<(), DriverError> {
        let id = id.clone();
        self.whole(|group| async move { group.delete_volume(id).await })
            .await
    }

    async fn extend_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        let id = id.clone();
        self.whole(move |group| async move { group.extend_volume(id, size).await })
            .await
    }

    async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.group.check_replace(id).await
    }

    async fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let (id, with) = (id.clone(), with.clone());
        self.whole(|group| async move { group.replace_volume(id, with).await })
            .await
    }

    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        volume: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        let (id, volume) = (id.clone(), volume.clone());
        self.whole(|group| async move { group.create_snapshot(id, volume).await })
            .await
    }

    async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let id = id.clone();
        self.whole(|group| async move { group.delete_snapshot(id).await })
            .await
    }

    async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, DriverError> {
        let view = self.group.look().await?;
        Ok(view.volume(id).map(|volume| volume.info()))
    }

    async fn volume_in_use(&self, id: &VolumeId) -> Result<Option<String>, DriverError> {
        let view = self.group.look().await?;
        let name = Name::Volume(id.clone());
        Ok(view.find(&name).and_then(|lv| lv.opened_by()))
    }

    fn cut_freezes(&self) -> bool {
        true
    }

    async fn volume_device(&self, id: &VolumeId) -> Result<Option<(u32, u32)>, DriverError> {
        let view = self.group.look().await?;
        Ok(view
            .find(&Name::Volume(id.clone()))
            .and_then(|lv| lv.device))
    }

    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>, DriverError> {
        let view = self.group.look().await?;
        Ok(view.snapshot(id).map(|snapshot| snapshot.info()))
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeInfo>, DriverError> {
        let view = self.group.look().await?;
        Ok(view.volumes().map(|volume| volume.info()).collect())
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, DriverError> {
        let view = self.group.look().await?;
        Ok(view.snapshots().map(|snapshot| snapshot.info()).collect())
    }

    fn name_is(&self, id: &str, name: &str) {
        self.group.hints.put(id, name);
    }

    async fn remember(&self) -> Result<Remembered, DriverError> {
        let view = self.group.look().await?;
        Ok(Remembered {
            volumes: view.volumes().map(VolumeView::remembered).collect(),
            snapshots: view.snapshots().map(SnapshotView::remembered).collect(),
        })
    }

    async fn adoptable(&self, lv: &LvName) -> Result<Option<Adoptable>, DriverError> {
        self.group.place().look(lv).await
    }

    async fn adopt_volume(
        &self,
        id: &VolumeId,
        lv: &LvName,
        name: &str,
    ) -> Result<VolumeInfo, DriverError> {
        let (id, lv, name) = (id.clone(), lv.clone(), name.to_owned());
        self.whole(move |group| async move {
            let _lock = group.lock().await?;
            group.place().adopt(&id, &lv, &name).await
        })
        .await
    }

    async fn release_volume(
        &self,
        id: &VolumeId,
        lv_name: Option<&str>,
    ) -> Result<Option<LvName>, DriverError> {
        let (id, lv_name) = (id.clone(), lv_name.map(str::to_owned));
        self.whole(move |group| async move {
            let _turn = group.turns.take(&id).await;
            let _lock = group.lock().await?;
            group.place().release(&id, lv_name.as_deref()).await
        })
        .await
    }

    async fn capacity(&self) -> Result<Capacity, DriverError> {
        Ok(self.group.look().await?.capacity())
    }

    async fn headroom(&self) -> Result<Option<Headroom>, DriverError> {
        self.group.headroom().await
    }

    async fn create_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.export(Name::Volume(id.clone())).await
    }

    async fn initialize_connection(
        &self,
        id: &VolumeId,
        _properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        self.connect(Name::Volume(id.clone()), mode).await
    }

    async fn terminate_connection(
        &self,
        id: &VolumeId,
        _properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        self.terminate(Name::Volume(id.clone()), force).await
    }

    async fn remove_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.unexport(Name::Volume(id.clone())).await
    }

    async fn create_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.export(Name::Snapshot(id.clone())).await
    }

    async fn initialize_connection_snapshot(
        &self,
        id: &SnapshotId,
        _properties: &ConnectorProperties,
    ) -> Result<ConnectionInfo, DriverError> {
        self.connect(Name::Snapshot(id.clone()), AccessMode::ReadOnly)
            .await
    }

    async fn terminate_connection_snapshot(
        &self,
        id: &SnapshotId,
        _properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        self.terminate(Name::Snapshot(id.clone()), force).await
    }

    async fn remove_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.unexport(Name::Snapshot(id.clone())).await
    }

    async fn check_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let id = id.clone();
        self.whole(|group| async move { group.check_snapshot(&id).await })
            .await
    }

    async fn changed_ranges(
        &self,
        base: &SnapshotId,
        snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let (base, snapshot) = (base.clone(), snapshot.clone());
        self.whole(|group| async move { group.changed_ranges(base, snapshot).await })
            .await
    }
}
