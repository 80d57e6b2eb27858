//! The seam: each call is passed on to the driver inside, with its export taken care of.

use async_trait::async_trait;

use super::ExportingDriver;
use crate::{
    AccessMode, Adoptable, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError,
    Headroom, Remembered, SnapshotId, SnapshotInfo, VolumeDriver, VolumeId, VolumeInfo,
    lvm::LvName, target::ExportName,
};

#[async_trait]
impl VolumeDriver for ExportingDriver {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn check(&self) -> Result<(), DriverError> {
        self.inner.check().await?;
        Ok(self.targets.check().await?)
    }

    async fn check_in_use(&self) -> Result<(), DriverError> {
        self.inner.check_in_use().await?;
        Ok(self.targets.check().await?)
    }

    async fn create_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        self.inner.create_volume(id, size).await
    }

    async fn create_volume_from_snapshot(
        &self,
        id: &VolumeId,
        size: u64,
        from: &SnapshotId,
    ) -> Result<VolumeInfo, DriverError> {
        self.inner.create_volume_from_snapshot(id, size, from).await
    }

    async fn create_cloned_volume(
        &self,
        id: &VolumeId,
        size: u64,
        source: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        self.inner.create_cloned_volume(id, size, source).await
    }

    async fn delete_volume(&self, id: &VolumeId) -> Result<(), DriverError> {
        let _turn = self.turns.of(&volume(id)).await?;
        self.withdraw(volume(id)).await?;
        self.connected_here().remove(&volume(id));
        self.inner.delete_volume(id).await
    }

    /// The kernel's target asks the device for its size each time it is asked, so there is nothing to tell it.
    async fn extend_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        self.inner.extend_volume(id, size).await
    }

    async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.inner.check_replace(id).await
    }

    /// The next host that connects gets a target of the same name, with the new content behind it.
    async fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let _turn = self.turns.of(&volume(id)).await?;
        let _other = self.turns.of(&volume(with)).await?;
        for name in [volume(id), volume(with)] {
            let mut users = self.targets.admitted(&name).await?;
            if self.connected_here().contains(&name) {
                users.push(format!("host {}", self.host));
            }
            if !users.is_empty() {
                return Err(DriverError::InUse {
                    what: name.to_string(),
                    by: users.join(", "),
                });
            }
            self.withdraw(name).await?;
        }
        self.inner.replace_volume(id, with).await
    }

    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        of: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        self.inner.create_snapshot(id, of).await
    }

    async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let _turn = self.turns.of(&snapshot(id)).await?;
        self.withdraw(snapshot(id)).await?;
        self.connected_here().remove(&snapshot(id));
        self.inner.delete_snapshot(id).await
    }

    async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, DriverError> {
        self.inner.volume(id).await
    }

    async fn volume_in_use(&self, id: &VolumeId) -> Result<Option<String>, DriverError> {
        self.inner.volume_in_use(id).await
    }

    fn cut_freezes(&self) -> bool {
        self.inner.cut_freezes()
    }

    async fn volume_device(&self, id: &VolumeId) -> Result<Option<(u32, u32)>, DriverError> {
        self.inner.volume_device(id).await
    }

    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>, DriverError> {
        self.inner.snapshot(id).await
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeInfo>, DriverError> {
        self.inner.list_volumes().await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, DriverError> {
        self.inner.list_snapshots().await
    }

    fn name_is(&self, id: &str, name: &str) {
        self.inner.name_is(id, name);
    }

    async fn remember(&self) -> Result<Remembered, DriverError> {
        self.inner.remember().await
    }

    async fn adoptable(&self, lv: &LvName) -> Result<Option<Adoptable>, DriverError> {
        self.inner.adoptable(lv).await
    }

    async fn adopt_volume(
        &self,
        id: &VolumeId,
        lv: &LvName,
        name: &str,
    ) -> Result<VolumeInfo, DriverError> {
        self.inner.adopt_volume(id, lv, name).await
    }

    async fn release_volume(
        &self,
        id: &VolumeId,
        lv_name: Option<&str>,
    ) -> Result<Option<LvName>, DriverError> {
        let _turn = self.turns.of(&volume(id)).await?;
        if self.stays(volume(id)).await? {
            return Err(DriverError::InUse {
                what: format!("volume {id}"),
                by: "hosts that are connected to it (`stockpot export list`)".to_owned(),
            });
        }
        self.inner.release_volume(id, lv_name).await
    }

    async fn capacity(&self) -> Result<Capacity, DriverError> {
        self.inner.capacity().await
    }

    async fn headroom(&self) -> Result<Option<Headroom>, DriverError> {
        self.inner.headroom().await
    }

    async fn grow_pool(&self) -> Result<Option<String>, DriverError> {
        self.inner.grow_pool().await
    }

    async fn create_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.inner.create_export(id).await
    }

    async fn initialize_connection(
        &self,
        id: &VolumeId,
        properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        self.connect(volume(id), properties, mode).await
    }

    async fn terminate_connection(
        &self,
        id: &VolumeId,
        properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        self.disconnect(volume(id), properties, force).await
    }

    async fn remove_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        let _turn = self.turns.of(&volume(id)).await?;
        match self.stays(volume(id)).await? {
            true => Ok(()),
            false => self.inner.remove_export(id).await,
        }
    }

    async fn create_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.inner.create_export_snapshot(id).await
    }

    async fn initialize_connection_snapshot(
        &self,
        id: &SnapshotId,
        properties: &ConnectorProperties,
    ) -> Result<ConnectionInfo, DriverError> {
        self.connect(snapshot(id), properties, AccessMode::ReadOnly)
            .await
    }

    async fn terminate_connection_snapshot(
        &self,
        id: &SnapshotId,
        properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        self.disconnect(snapshot(id), properties, force).await
    }

    async fn remove_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let _turn = self.turns.of(&snapshot(id)).await?;
        match self.stays(snapshot(id)).await? {
            true => Ok(()),
            false => self.inner.remove_export_snapshot(id).await,
        }
    }

    async fn check_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.inner.check_snapshot(id).await
    }

    async fn allocated_ranges(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        self.inner.allocated_ranges(id).await
    }

    async fn changed_ranges(
        &self,
        base: &SnapshotId,
        id: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        self.inner.changed_ranges(base, id).await
    }
}

fn volume(id: &VolumeId) -> ExportName {
    ExportName::Volume(id.clone())
}

fn snapshot(id: &SnapshotId) -> ExportName {
    ExportName::Snapshot(id.clone())
}

#[cfg(test)]
mod tests {
    /// A call with a default that is not passed on would quietly be the default's.
    #[test]
    fn every_call_is_passed_on() {
        let calls = include_str!("../volume_driver.rs").split_once("pub trait VolumeDriver");
        let (_, calls) = calls.unwrap();
        let names: Vec<_> = calls
            .split("    async fn ")
            .skip(1)
            .map(|call| call.split('(').next().unwrap())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        let spelled = |text: &str| text.replace(['\n', ' '], "");
        let ours = spelled(include_str!("driver.rs"));
        // Connections are made and ended for volumes and snapshots alike, beside the seam.
        let passing = spelled(include_str!("../exporting.rs")) + &ours;
        for name in names {
            let is_ours = ours.contains(&format!("asyncfn{name}(&self"));
            let is_passed_on = passing.contains(&format!("self.inner.{name}("));
            assert!(is_ours, "{name} is the default's");
            assert!(is_passed_on, "{name} is not passed on");
        }
    }
}
