//! A connector to what [`FakeStorage`] exports: the "device" is the file itself.

use std::{io, sync::Arc};

use async_trait::async_trait;
use stockpot_connector::{AttachedDevice, Connector, ConnectorError, Recovered};
use stockpot_driver::{AccessMode, ConnectionInfo, ConnectorProperties};

use super::storage::{FakeStorage, State};

/// The host that attaches them.
#[derive(Debug)]
pub struct FakeHost(pub Arc<FakeStorage>);

impl FakeHost {
    async fn call<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        let broken = |name: &'static str| ConnectorError::Io {
            doing: name,
            path: "/fake".into(),
            source: io::Error::other("was made to fail"),
        };
        self.0
            .faults
            .call(name, broken, async { work(&mut self.0.lock()) })
            .await
    }
}

#[async_trait]
impl Connector for FakeHost {
    async fn properties(&self) -> Result<ConnectorProperties, ConnectorError> {
        Ok(ConnectorProperties {
            host: "fake".to_owned(),
            ip: None,
            initiator: None,
            multipath: false,
        })
    }

    async fn connect(&self, connection: &ConnectionInfo) -> Result<AttachedDevice, ConnectorError> {
        let ConnectionInfo::Local(local) = connection else {
            return Err(ConnectorError::Unsupported("iscsi"));
        };
        self.call("connect", |state| {
            state.devices.insert(local.device_path.clone());
            Ok(AttachedDevice {
                path: local.device_path.clone(),
                size_bytes: local.size_bytes,
                read_only: local.access_mode == AccessMode::ReadOnly,
            })
        })
        .await
    }

    async fn confirm(&self, connection: &ConnectionInfo) -> Result<AttachedDevice, ConnectorError> {
        self.connect(connection).await
    }

    async fn disconnect(&self, connection: &ConnectionInfo) -> Result<(), ConnectorError> {
        let ConnectionInfo::Local(local) = connection else {
            return Err(ConnectorError::Unsupported("iscsi"));
        };
        self.call("disconnect", |state| {
            state.devices.remove(&local.device_path);
            Ok(())
        })
        .await
    }

    async fn recover(&self, wanted: &[ConnectionInfo]) -> Result<Recovered, ConnectorError> {
        Ok(Recovered {
            adopted: wanted.to_vec(),
            ..Recovered::default()
        })
    }
}
