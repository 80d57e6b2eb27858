//! The driver `file`.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{
    loopdev,
    meta::Meta,
    operations::{Images, snapshot_info, volume_info},
    store::LOCK_PATIENCE,
};
use crate::{
    AccessMode, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError, SnapshotId,
    SnapshotInfo, VolumeDriver, VolumeId, VolumeInfo, in_use, name::Name, origin::Origin, task,
};

/// Which directory, and how far its file system may be filled.
#[derive(Debug, Clone)]
pub struct FileConfig {
    /// Where the images lie; [`VolumeDriver::check`] makes it.
    pub directory: PathBuf,
    /// Copies data where the file system cannot share blocks: slow, and a snapshot of a volume that is being written
    /// to is not of one moment.
    pub allow_copy: bool,
    /// Bytes promised to volumes, in all, as a multiple of the file system's size.
    pub overcommit_factor: u64,
    /// Nothing new is made when the file system has no more than this left, in bytes.
    pub reserve_bytes: u64,
    /// How long a device that somebody has open is watched before it counts as in use: udev looks into every device that was
    /// just written.
    pub close_patience: Duration,
}

impl FileConfig {
    /// A directory with the usual limits.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            allow_copy: false,
            overcommit_factor: 20,
            reserve_bytes: 64 << 20,
            close_patience: in_use::PATIENCE,
        }
    }
}

/// Volumes and snapshots as image files in one directory.
#[derive(Debug, Clone)]
pub struct FileDriver {
    images: Arc<Images>,
    /// So that only one call of this process waits for the directory's lock, and blocks a thread.
    turn: Arc<Mutex<()>>,
}

impl FileDriver {
    /// A driver for one directory; nothing is touched yet.
    #[must_use]
    pub fn new(config: FileConfig) -> Self {
        Self {
            images: Arc::new(Images::new(config)),
            turn: Arc::default(),
        }
    }

    /// Does something under the directory's lock, to its end even if the caller goes away meanwhile.
    async fn locked<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Images) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let started = Instant::now();
        let turn = tokio::time::timeout(LOCK_PATIENCE, self.turn.clone().lock_owned()).await;
        let turn = turn.map_err(|_| DriverError::InUse {
            what: format!("directory {}", self.images.store().root().display()),
            by: "another call of this process".to_owned(),
        })?;
        self.blocking(move |images| {
            let _turn = turn;
            let _lock = images.store().lock_since(started)?;
            work(images)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Images) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let images = self.images.clone();
        task::blocking(move || work(&images)).await
    }

    async fn create(
        &self,
        id: &VolumeId,
        size: u64,
        from: Origin,
    ) -> Result<VolumeInfo, DriverError> {
        let id = id.clone();
        self.locked(move |images| images.create_volume(&id, size, &from))
            .await
    }
}

#[async_trait]
impl VolumeDriver for FileDriver {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn check(&self) -> Result<(), DriverError> {
        self.blocking(Images::check).await
    }

    async fn check_in_use(&self) -> Result<(), DriverError> {
        self.blocking(Images::check_in_use).await
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
        let name = Name::Volume(id.clone());
        self.locked(move |images| images.delete(&name)).await
    }

    async fn extend_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        let id = id.clone();
        self.locked(move |images| images.extend_volume(&id, size))
            .await
    }

    async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        let id = id.clone();
        self.blocking(move |images| images.check_replace(&id)).await
    }

    async fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let (id, with) = (id.clone(), with.clone());
        self.locked(move |images| images.replace_volume(&id, &with))
            .await
    }

    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        volume: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        let (id, volume) = (id.clone(), volume.clone());
        self.locked(move |images| images.create_snapshot(&id, &volume))
            .await
    }

    async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |images| images.delete(&name)).await
    }

    async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, DriverError> {
        let id = id.clone();
        self.blocking(move |images| {
            let entry = images.store().find(&Name::Volume(id.clone()))?;
            Ok(entry.map(|entry| volume_info(&id, &entry)))
        })
        .await
    }

    async fn volume_in_use(&self, id: &VolumeId) -> Result<Option<String>, DriverError> {
        let name = Name::Volume(id.clone());
        self.blocking(move |images| match images.store().find(&name)? {
            Some(entry) => loopdev::user(&entry.image, images.close_patience()),
            None => Ok(None),
        })
        .await
    }

    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>, DriverError> {
        let name = Name::Snapshot(id.clone());
        self.blocking(move |images| {
            let entry = images.store().find(&name)?;
            Ok(entry.as_ref().and_then(snapshot_info))
        })
        .await
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeInfo>, DriverError> {
        self.blocking(|images| {
            let entries = images.store().list()?;
            let volumes = entries.iter().filter_map(|entry| match &entry.meta {
                Meta::Volume { id, .. } => Some(volume_info(id, entry)),
                Meta::Snapshot { .. } => None,
            });
            Ok(volumes.collect())
        })
        .await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, DriverError> {
        self.blocking(|images| {
            let entries = images.store().list()?;
            Ok(entries.iter().filter_map(snapshot_info).collect())
        })
        .await
    }

    async fn capacity(&self) -> Result<Capacity, DriverError> {
        self.blocking(Images::capacity).await
    }

    async fn create_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        self.blocking(move |images| images.get(&name).map(drop))
            .await
    }

    async fn initialize_connection(
        &self,
        id: &VolumeId,
        _properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        let name = Name::Volume(id.clone());
        self.locked(move |images| images.connection(&name, mode))
            .await
    }

    async fn terminate_connection(
        &self,
        id: &VolumeId,
        _properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        self.locked(move |images| images.terminate(&name, force))
            .await
    }

    async fn remove_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        let name = Name::Volume(id.clone());
        self.locked(move |images| images.detach(&name)).await
    }

    async fn create_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let name = Name::Snapshot(id.clone());
        self.blocking(move |images| images.get(&name).map(drop))
            .await
    }

    async fn initialize_connection_snapshot(
        &self,
        id: &SnapshotId,
        _properties: &ConnectorProperties,
    ) -> Result<ConnectionInfo, DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |images| images.connection(&name, AccessMode::ReadOnly))
            .await
    }

    async fn terminate_connection_snapshot(
        &self,
        id: &SnapshotId,
        _properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |images| images.terminate(&name, force))
            .await
    }

    async fn remove_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let name = Name::Snapshot(id.clone());
        self.locked(move |images| images.detach(&name)).await
    }

    async fn allocated_ranges(
        &self,
        snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let id = snapshot.clone();
        self.blocking(move |images| images.allocated_ranges(&id).map(Some))
            .await
    }

    async fn changed_ranges(
        &self,
        base: &SnapshotId,
        snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let (base, snapshot) = (base.clone(), snapshot.clone());
        self.blocking(move |images| images.changed_ranges(&base, &snapshot))
            .await
    }
}
