//! A driver that cannot attach a snapshot: the trait's own temporary volumes have to do.

use async_trait::async_trait;
use stockpot_driver::{
    AccessMode, Capacity, ConnectionInfo, ConnectorProperties, DriverError, SnapshotId,
    SnapshotInfo, VolumeDriver, VolumeId, VolumeInfo,
};

/// Hides the calls that attach snapshots, and those that know ranges.
#[derive(Debug)]
pub(crate) struct WithoutAttach<D>(pub(crate) D);

#[async_trait]
impl<D: VolumeDriver> VolumeDriver for WithoutAttach<D> {
    fn name(&self) -> &'static str {
        "without-attach"
    }

    async fn check(&self) -> Result<(), DriverError> {
        self.0.check().await
    }

    async fn create_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        self.0.create_volume(id, size).await
    }

    async fn create_volume_from_snapshot(
        &self,
        id: &VolumeId,
        size: u64,
        snapshot: &SnapshotId,
    ) -> Result<VolumeInfo, DriverError> {
        self.0.create_volume_from_snapshot(id, size, snapshot).await
    }

    async fn create_cloned_volume(
        &self,
        id: &VolumeId,
        size: u64,
        source: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        self.0.create_cloned_volume(id, size, source).await
    }

    async fn delete_volume(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.0.delete_volume(id).await
    }

    async fn extend_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        self.0.extend_volume(id, size).await
    }

    async fn volume_in_use(&self, id: &VolumeId) -> Result<Option<String>, DriverError> {
        self.0.volume_in_use(id).await
    }

    async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.0.check_replace(id).await
    }

    async fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        self.0.replace_volume(id, with).await
    }

    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        volume: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        self.0.create_snapshot(id, volume).await
    }

    async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.0.delete_snapshot(id).await
    }

    async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, DriverError> {
        self.0.volume(id).await
    }

    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>, DriverError> {
        self.0.snapshot(id).await
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeInfo>, DriverError> {
        self.0.list_volumes().await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, DriverError> {
        self.0.list_snapshots().await
    }

    async fn capacity(&self) -> Result<Capacity, DriverError> {
        self.0.capacity().await
    }

    async fn create_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.0.create_export(id).await
    }

    async fn initialize_connection(
        &self,
        id: &VolumeId,
        properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        self.0.initialize_connection(id, properties, mode).await
    }

    async fn terminate_connection(
        &self,
        id: &VolumeId,
        properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        self.0.terminate_connection(id, properties, force).await
    }

    async fn remove_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.0.remove_export(id).await
    }
}
