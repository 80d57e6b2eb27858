//! A driver around another one: the host itself gets the device as it is, every other host gets it over iSCSI.

mod driver;
mod recover;
mod turns;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::recover::{recover_exports, remake_exports};
use self::turns::Turns;
use crate::{
    AccessMode, ConnectionInfo, ConnectorProperties, DriverError, IscsiConnection, LocalConnection,
    VolumeDriver,
    target::{ExportName, ExportSource, Targets},
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

fn initiator(properties: &ConnectorProperties) -> Result<&str, DriverError> {
    properties.initiator.as_deref().ok_or_else(|| {
        DriverError::InvalidArgument(format!(
            "host {} named no iSCSI initiator: install open-iscsi there, and check /etc/iscsi/initiatorname.iscsi",
            properties.host
        ))
    })
}
