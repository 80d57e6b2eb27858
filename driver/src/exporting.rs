//! A driver around another one: the host itself gets the device as it is, every other host gets it over iSCSI.

mod turns;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use self::turns::Turns;
use crate::{
    AccessMode, Adoptable, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError,
    Headroom, IscsiConnection, LocalConnection, Remembered, SnapshotId, SnapshotInfo, VolumeDriver,
    VolumeId, VolumeInfo,
    lvm::LvName,
    target::{ExportName, ExportSource, RecoveredExports, Targets, in_full},
};

/// Exports what another driver makes.
///
/// A target is made for the first host that connects and goes with the last: an export that is taken back while other hosts
/// are let in stays for them, and goes when the last of them takes it back. A volume that grows has the new size for
/// those connected to it too, once their connector looks again.
#[derive(Debug, Clone)]
pub struct ExportingDriver {
    inner: Arc<dyn VolumeDriver>,
    targets: Targets,
    host: String,
    /// What this host itself is connected to.
    here: Arc<Mutex<BTreeSet<ExportName>>>,
    turns: Turns,
}

impl ExportingDriver {
    /// Exports what `inner` makes on this host, whose name is `host`.
    pub fn new(inner: Arc<dyn VolumeDriver>, targets: Targets, host: impl Into<String>) -> Self {
        Self {
            inner,
            targets,
            host: host.into(),
            here: Arc::default(),
            turns: Turns::default(),
        }
    }

    fn connected_here(&self) -> MutexGuard<'_, BTreeSet<ExportName>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_here(&self, properties: &ConnectorProperties) -> bool {
        properties.host == self.host
    }

    /// What this host says of itself to the driver inside.
    fn here(&self) -> ConnectorProperties {
        ConnectorProperties {
            host: self.host.clone(),
            ip: None,
            initiator: None,
            multipath: false,
        }
    }

    async fn device(
        &self,
        name: &ExportName,
        mode: AccessMode,
    ) -> Result<LocalConnection, DriverError> {
        let here = self.here();
        let connection = match name {
            ExportName::Volume(id) => self.inner.initialize_connection(id, &here, mode).await?,
            ExportName::Snapshot(id) => {
                self.inner.initialize_connection_snapshot(id, &here).await?
            }
        };
        match connection {
            ConnectionInfo::Local(local) => Ok(local),
            ConnectionInfo::Iscsi(_) => Err(DriverError::Unsupported(
                "exporting what another host exports".into(),
            )),
        }
    }

    async fn connect(
        &self,
        name: ExportName,
        properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        let _turn = self.turns.of(&name).await?;
        if self.is_here(properties) {
            let local = self.device(&name, mode).await?;
            self.connected_here().insert(name);
            return Ok(ConnectionInfo::Local(local));
        }
        let initiator = initiator(properties)?;
        let local = self.device(&name, mode).await?;
        let source = ExportSource {
            name,
            device: local.device_path,
        };
        let host = &properties.host;
        let target = self.targets.connect(&source, host, initiator, mode);
        let target = target.await?;
        Ok(ConnectionInfo::Iscsi(IscsiConnection {
            target_portals: target.portals,
            target_iqn: target.iqn,
            target_lun: 0,
            serial: target.serial,
            auth: Some(target.auth),
            access_mode: mode,
            size_bytes: local.size_bytes,
        }))
    }

    /// Of the host itself, the driver inside is asked, with `force` where the target holds the device for others.
    async fn disconnect(
        &self,
        name: ExportName,
        properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        let _turn = self.turns.of(&name).await?;
        if !self.is_here(properties) {
            let initiator = initiator(properties)?;
            let host = &properties.host;
            let ended = self.targets.disconnect(&name, host, initiator, force);
            return Ok(ended.await?);
        }
        let here = self.here();
        let force = force || self.targets.is_exported(&name);
        match &name {
            ExportName::Volume(id) => self.inner.terminate_connection(id, &here, force).await,
            ExportName::Snapshot(id) => {
                self.inner
                    .terminate_connection_snapshot(id, &here, force)
                    .await
            }
        }?;
        self.connected_here().remove(&name);
        Ok(())
    }

    /// Takes the export back, unless it stays for others: then there is nothing to do for the driver inside. To be called,
    /// and what is done to the driver inside as well, in the export's turn.
    async fn stays(&self, name: ExportName) -> Result<bool, DriverError> {
        let mut others = self.targets.admitted(&name).await?;
        if self.connected_here().contains(&name) {
            others.push(format!("host {}", self.host));
        }
        if others.is_empty() {
            self.withdraw(name).await?;
            return Ok(false);
        }
        tracing::info!(%name, others = others.join(", "), "the export stays: others are let in");
        Ok(true)
    }

    async fn withdraw(&self, name: ExportName) -> Result<(), DriverError> {
        // One that is not made again yet has a record.
        Ok(self.targets.remove(&name).await?)
    }

    /// Whether the driver inside has it.
    async fn has(&self, name: &ExportName) -> Result<bool, DriverError> {
        Ok(match name {
            ExportName::Volume(id) => self.inner.volume(id).await?.is_some(),
            ExportName::Snapshot(id) => self.inner.snapshot(id).await?.is_some(),
        })
    }

    /// The device of an export, in the mode that the hosts on record have it.
    async fn source(&self, name: &ExportName) -> Result<ExportSource, DriverError> {
        let mode = self.targets.mode(name).await?;
        match name {
            ExportName::Volume(id) => self.inner.create_export(id).await?,
            ExportName::Snapshot(id) => self.inner.create_export_snapshot(id).await?,
        }
        let local = self
            .device(name, mode.unwrap_or(AccessMode::ReadOnly))
            .await?;
        Ok(ExportSource {
            name: name.clone(),
            device: local.device_path,
        })
    }
}

/// Called once at the start, with the drivers of all pools: what is in `wanted` is exported as before, everything else
/// of ours is removed. What cannot be told is left as it is, and is among the failed.
///
/// # Errors
/// If the kernel's target or the records cannot be asked.
pub async fn recover_exports(
    targets: &Targets,
    drivers: &[Arc<ExportingDriver>],
    wanted: &[ExportName],
) -> Result<RecoveredExports, DriverError> {
    let (mut sources, mut unclear) = (Vec::new(), Vec::new());
    for name in wanted {
        match find_source(drivers, name).await {
            Ok(source) => sources.push(source),
            Err(error) => unclear.push((name.clone(), in_full(&error))),
        }
    }
    let spared: Vec<_> = unclear.iter().map(|(name, _)| name.clone()).collect();
    let mut done = targets.recover(&sources, &spared).await?;
    done.failed.extend(unclear);
    Ok(done)
}

/// Tries those again that could not be made again; one that is on no record any more is passed over. No other is touched, so
/// hosts may come and go meanwhile.
/// What one of them meets is among the failed, and keeps no other waiting.
pub async fn remake_exports(
    targets: &Targets,
    drivers: &[Arc<ExportingDriver>],
    names: &[ExportName],
) -> RecoveredExports {
    let mut done = RecoveredExports::default();
    for name in names {
        match remake(targets, drivers, name).await {
            Ok(made) => {
                done.kept.extend(made.kept);
                done.remade.extend(made.remade);
                done.unknown.extend(made.unknown);
                done.failed.extend(made.failed);
            }
            // Its volume or snapshot was deleted meanwhile.
            Err(DriverError::NotFound { .. }) => done.unknown.push(name.clone()),
            Err(error) => done.failed.push((name.clone(), in_full(&error))),
        }
    }
    done
}

async fn remake(
    targets: &Targets,
    drivers: &[Arc<ExportingDriver>],
    name: &ExportName,
) -> Result<RecoveredExports, DriverError> {
    let driver = owner(drivers, name).await?;
    let _turn = driver.turns.of(name).await?;
    // Nobody has it any more.
    if targets.mode(name).await?.is_none() {
        return Ok(RecoveredExports::default());
    }
    let source = driver.source(name).await?;
    Ok(targets.make_again(&[source]).await?)
}

async fn find_source(
    drivers: &[Arc<ExportingDriver>],
    name: &ExportName,
) -> Result<ExportSource, DriverError> {
    owner(drivers, name).await?.source(name).await
}

/// The driver that has it. One that cannot be asked matters only if no other has it.
async fn owner<'a>(
    drivers: &'a [Arc<ExportingDriver>],
    name: &ExportName,
) -> Result<&'a ExportingDriver, DriverError> {
    let mut problem = None;
    for driver in drivers {
        match driver.has(name).await {
            Ok(true) => return Ok(driver),
            Ok(false) => {}
            Err(error) => problem = Some(error),
        }
    }
    Err(problem.unwrap_or_else(|| DriverError::NotFound {
        what: name.to_string(),
    }))
}

fn initiator(properties: &ConnectorProperties) -> Result<&str, DriverError> {
    properties.initiator.as_deref().ok_or_else(|| {
        DriverError::InvalidArgument(format!(
            "host {} named no iSCSI initiator: install open-iscsi there, and check /etc/iscsi/initiatorname.iscsi",
            properties.host
        ))
    })
}

fn volume(id: &VolumeId) -> ExportName {
    ExportName::Volume(id.clone())
}

fn snapshot(id: &SnapshotId) -> ExportName {
    ExportName::Snapshot(id.clone())
}

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

#[cfg(test)]
mod tests {
    /// A call with a default that is not passed on would quietly be the default's.
    #[test]
    fn every_call_is_passed_on() {
        let calls = include_str!("volume_driver.rs").split_once("pub trait VolumeDriver");
        let (_, calls) = calls.unwrap();
        let names: Vec<_> = calls
            .split("    async fn ")
            .skip(1)
            .map(|call| call.split('(').next().unwrap())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        let spelled = include_str!("exporting.rs").replace(['\n', ' '], "");
        for name in names {
            let is_ours = spelled.contains(&format!("asyncfn{name}(&self"));
            let is_passed_on = spelled.contains(&format!("self.inner.{name}("));
            assert!(is_ours, "{name} is the default's");
            assert!(is_passed_on, "{name} is not passed on");
        }
    }
}
