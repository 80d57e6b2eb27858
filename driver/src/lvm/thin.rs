//! The driver `lvm-thin`.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    LvName,
    delta::Question,
    lock,
    names::is_lvm_name,
    ours::{SnapshotView, VolumeView},
    pool::Pool,
};
use crate::{
    AccessMode, Adoptable, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError,
    Headroom, Remembered, SnapshotId, SnapshotInfo, VolumeDriver, VolumeId, VolumeInfo, in_use,
    name::Name, origin::Origin, task::to_the_end,
};

/// Which pool, and how far it may be filled.
#[derive(Debug, Clone)]
pub struct LvmThinConfig {
    /// The volume group; it must exist.
    pub vg: String,
    /// The thin pool in it.
    pub pool: String,
    /// Size in bytes of the pool that [`VolumeDriver::check`] makes where there is none; `None`: it must exist.
    pub pool_size_bytes: Option<u64>,
    /// Bytes promised to volumes, in all, as a multiple of the pool's size.
    pub overcommit_factor: u64,
    /// Nothing new is made while the pool's data is this full, in percent.
    pub data_limit_percent: u64,
    /// Nothing new is made while the pool's metadata is this full, in percent.
    pub metadata_limit_percent: u64,
    /// From here on room is made, in percent of the pool's data or metadata: well before nothing new is made, for volumes
    /// go on being written to.
    pub make_room_percent: u64,
    /// How much larger the pool is made at a time, in percent of itself; 0: never.
    pub grow_percent: u64,
    /// How long a device that somebody has open is watched before it counts as in use: udev looks into every device that was
    /// just written.
    pub close_patience: Duration,
    /// Where the lock files lie that keep processes apart.
    pub lock_directory: PathBuf,
}

impl LvmThinConfig {
    /// A pool with the usual limits.
    pub fn new(vg: impl Into<String>, pool: impl Into<String>) -> Self {
        Self {
            vg: vg.into(),
            pool: pool.into(),
            pool_size_bytes: None,
            overcommit_factor: 20,
            data_limit_percent: 95,
            metadata_limit_percent: 90,
            make_room_percent: 80,
            grow_percent: 20,
            close_patience: in_use::PATIENCE,
            lock_directory: "/run/stockpot".into(),
        }
    }
}

/// Volumes and snapshots in one thin pool.
#[derive(Debug, Clone)]
pub struct LvmThinDriver {
    pool: Arc<Pool>,
}

impl LvmThinDriver {
    /// A driver for one pool; nothing is run yet.
    ///
    /// # Errors
    /// `InvalidArgument` if the names cannot be those of a volume group and a pool, or a limit is no percentage.
    pub fn new(config: LvmThinConfig) -> Result<Self, DriverError> {
        for (what, name) in [("volume group", &config.vg), ("pool", &config.pool)] {
            if !is_lvm_name(name) {
                return Err(DriverError::InvalidArgument(format!(
                    "{name:?} cannot be the name of a {what}: 1 to 52 of letters, digits, '_', '+', '.', '-'"
                )));
            }
        }
        for percent in [
            config.data_limit_percent,
            config.metadata_limit_percent,
            config.make_room_percent,
        ] {
            if !(1..=100).contains(&percent) {
                return Err(DriverError::InvalidArgument(format!(
                    "{percent} % is no limit for a pool"
                )));
            }
        }
        if config.overcommit_factor == 0 || config.grow_percent > 1000 {
            return Err(DriverError::InvalidArgument(
                "a pool promises at least its own size, and grows by at most ten times of it"
                    .into(),
            ));
        }
        Ok(Self {
            pool: Arc::new(Pool::new(config)),
        })
    }

    /// Does something under the volume group's lock, to its end even if the caller goes away meanwhile.
    async fn locked<T, F>(&self, work: impl FnOnce(Arc<Pool>) -> F) -> Result<T, DriverError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DriverError>> + Send + 'static,
    {
        let pool = self.pool.clone();
        let work = work(pool.clone());
        to_the_end(async move {
            let _guard = lock::acquire(&pool.config().lock_directory, &pool.config().vg).await?;
            work.await
        })
        .await
    }

    /// Takes the locks that it needs by itself, a piece of the way each.
    async fn ranges(&self, question: Question) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let pool = self.pool.clone();
        to_the_end(async move { pool.ranges(&question).await.map(Some) }).await
    }
}

#[async_trait]
impl VolumeDriver for LvmThinDriver {
    fn name(&self) -> &'static str {
        "lvm-thin"
    }

    async fn check(&self) -> Result<(), DriverError> {
        self.locked(|pool| async move { pool.check().await }).await
    }

    async fn create_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        let id = id.clone();
        self.locked(move |pool| async move { pool.create_volume(id, size, Origin::Empty).await })
            .await
    }

    async fn create_volume_from_snapshot(
        &self,
        id: &VolumeId,
        size: u64,
        snapshot: &SnapshotId,
    ) -> Result<VolumeInfo, DriverError> {
        let (id, origin) = (id.clone(), Origin::Snapshot(snapshot.clone()));
        self.locked(move |pool| async move { pool.create_volume(id, size, origin).await })
            .await
    }

    async fn create_cloned_volume(
        &self,
        id: &VolumeId,
        size: u64,
        source: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let (id, origin) = (id.clone(), Origin::Volume(source.clone()));
        self.locked(move |pool| async move { pool.create_volume(id, size, origin).await })
            .await
    }

    async fn delete_volume(&self, id: &VolumeId) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        self.locked(move |pool| async move { pool.delete(&name).await })
            .await
    }

    async fn extend_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        let id = id.clone();
        self.locked(move |pool| async move { pool.extend_volume(&id, size).await })
            .await
    }

    async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.pool.check_replace(id).await
    }

    async fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let (id, with) = (id.clone(), with.clone());
        self.locked(move |pool| async move { pool.replace_volume(&id, &with).await })
            .await
    }

    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        volume: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        let (id, volume) = (id.clone(), volume.clone());
        self.locked(move |pool| async move { pool.create_snapshot(id, volume).await })
            .await
    }

    async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |pool| async move { pool.delete(&name).await })
            .await
    }

    async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, DriverError> {
        let view = self.pool.look().await?;
        Ok(view.volume(id).map(|volume| volume.info()))
    }

    async fn volume_in_use(&self, id: &VolumeId) -> Result<Option<String>, DriverError> {
        let view = self.pool.look().await?;
        let name = Name::Volume(id.clone());
        Ok(view.find(&name).and_then(|lv| lv.opened_by()))
    }

    fn cut_freezes(&self) -> bool {
        true
    }

    async fn volume_device(&self, id: &VolumeId) -> Result<Option<(u32, u32)>, DriverError> {
        let view = self.pool.look().await?;
        Ok(view
            .find(&Name::Volume(id.clone()))
            .and_then(|lv| lv.device))
    }

    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>, DriverError> {
        let view = self.pool.look().await?;
        Ok(view.snapshot(id).map(|snapshot| snapshot.info()))
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeInfo>, DriverError> {
        let view = self.pool.look().await?;
        Ok(view.volumes().map(|volume| volume.info()).collect())
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, DriverError> {
        let view = self.pool.look().await?;
        Ok(view.snapshots().map(|snapshot| snapshot.info()).collect())
    }

    fn name_is(&self, id: &str, name: &str) {
        self.pool.hints.put(id, name);
    }

    async fn remember(&self) -> Result<Remembered, DriverError> {
        let view = self.pool.look().await?;
        Ok(Remembered {
            volumes: view.volumes().map(VolumeView::remembered).collect(),
            snapshots: view.snapshots().map(SnapshotView::remembered).collect(),
        })
    }

    async fn adoptable(&self, lv: &LvName) -> Result<Option<Adoptable>, DriverError> {
        self.pool.place().look(lv).await
    }

    async fn adopt_volume(
        &self,
        id: &VolumeId,
        lv: &LvName,
        name: &str,
    ) -> Result<VolumeInfo, DriverError> {
        let (id, lv, name) = (id.clone(), lv.clone(), name.to_owned());
        self.locked(move |pool| async move { pool.place().adopt(&id, &lv, &name).await })
            .await
    }

    async fn release_volume(
        &self,
        id: &VolumeId,
        lv_name: Option<&str>,
    ) -> Result<Option<LvName>, DriverError> {
        let (id, lv_name) = (id.clone(), lv_name.map(str::to_owned));
        self.locked(move |pool| async move { pool.place().release(&id, lv_name.as_deref()).await })
            .await
    }

    async fn capacity(&self) -> Result<Capacity, DriverError> {
        self.locked(|pool| async move {
            let view = pool.look_inside().await?;
            Ok(view.capacity(pool.config()))
        })
        .await
    }

    async fn headroom(&self) -> Result<Option<Headroom>, DriverError> {
        self.pool.headroom().await
    }

    async fn grow_pool(&self) -> Result<Option<String>, DriverError> {
        self.locked(|pool| async move { pool.grow().await }).await
    }

    async fn create_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        self.locked(move |pool| async move { pool.export(&name).await.map(drop) })
            .await
    }

    async fn initialize_connection(
        &self,
        id: &VolumeId,
        _properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        let name = Name::Volume(id.clone());
        self.locked(move |pool| async move { pool.connection(&name, mode).await })
            .await
    }

    async fn terminate_connection(
        &self,
        id: &VolumeId,
        _properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        self.locked(move |pool| async move { pool.terminate(&name, force).await })
            .await
    }

    async fn remove_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        self.locked(move |pool| async move { pool.unexport(&name).await.map(drop) })
            .await
    }

    async fn create_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |pool| async move { pool.export(&name).await.map(drop) })
            .await
    }

    async fn initialize_connection_snapshot(
        &self,
        id: &SnapshotId,
        _properties: &ConnectorProperties,
    ) -> Result<ConnectionInfo, DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |pool| async move { pool.connection(&name, AccessMode::ReadOnly).await })
            .await
    }

    async fn terminate_connection_snapshot(
        &self,
        id: &SnapshotId,
        _properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |pool| async move { pool.terminate(&name, force).await })
            .await
    }

    async fn remove_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |pool| async move { pool.unexport(&name).await.map(drop) })
            .await
    }

    async fn allocated_ranges(
        &self,
        snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        self.ranges(Question::Allocated(snapshot.clone())).await
    }

    async fn changed_ranges(
        &self,
        base: &SnapshotId,
        snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let (base, snapshot) = (base.clone(), snapshot.clone());
        self.ranges(Question::Changed { base, snapshot }).await
    }
}
