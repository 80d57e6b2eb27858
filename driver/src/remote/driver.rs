//! The driver that asks another node.

use std::sync::Arc;

use async_trait::async_trait;
use stockpot_proto::stockpot::v1::storage as api;

use super::{
    NodeError, RemoteConfig,
    node::{Kind, Node},
    pages::{all_entries, all_ranges},
    wire,
};
use crate::{
    AccessMode, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError, Headroom,
    SnapshotId, SnapshotInfo, VolumeDriver, VolumeId, VolumeInfo,
};

/// A pool of another node.
#[derive(Debug, Clone)]
pub struct RemoteDriver {
    node: Arc<Node>,
}

/// Asks the storage node: what is sent, which of its calls, and what the answer is to this driver.
macro_rules! ask {
    ($self:ident, $kind:ident, $call:ident, $message:expr) => {
        $self
            .node
            .call(
                stringify!($call),
                Kind::$kind,
                $message,
                |mut node, request| async move { Ok(node.$call(request).await?.into_inner()) },
            )
            .await
    };
    // The answer comes in pieces, which are collected while the connection lasts.
    ($self:ident, $kind:ident, $call:ident, $message:expr, $collect:expr) => {
        $self
            .node
            .call(
                stringify!($call),
                Kind::$kind,
                $message,
                |mut node, request| async move {
                    $collect(node.$call(request).await?.into_inner()).await
                },
            )
            .await
    };
}

/// What is wrong with an answer is said with the call that it is an answer to.
macro_rules! sound {
    ($self:ident, $call:ident, $value:expr) => {
        $value.map_err(|what| $self.node.malformed(stringify!($call), what))
    };
}

impl RemoteDriver {
    /// Asks this pool. Nothing is connected to yet.
    #[must_use]
    pub fn new(config: RemoteConfig) -> Self {
        let node = Arc::new(Node::new(config));
        Self { node }
    }

    fn pool(&self) -> api::PoolRequest {
        api::PoolRequest {
            pool: self.node.config.pool.clone(),
        }
    }

    fn object(&self, id: &impl ToString) -> api::ObjectRequest {
        api::ObjectRequest {
            pool: self.node.config.pool.clone(),
            id: id.to_string(),
        }
    }

    fn making(&self, id: &VolumeId, size_bytes: u64, source: &str) -> api::MakeVolumeRequest {
        api::MakeVolumeRequest {
            pool: self.node.config.pool.clone(),
            id: id.to_string(),
            size_bytes,
            source_id: source.to_owned(),
        }
    }

    fn connecting(
        &self,
        id: &impl ToString,
        properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> api::ConnectRequest {
        api::ConnectRequest {
            pool: self.node.config.pool.clone(),
            id: id.to_string(),
            host: Some(wire::host(properties)),
            mode: wire::mode(mode),
        }
    }

    fn disconnecting(
        &self,
        id: &impl ToString,
        properties: &ConnectorProperties,
        force: bool,
    ) -> api::DisconnectRequest {
        api::DisconnectRequest {
            pool: self.node.config.pool.clone(),
            id: id.to_string(),
            host: Some(wire::host(properties)),
            force,
        }
    }

    /// A device of the storage node itself is one of this host only if they are the same host.
    fn reachable(
        &self,
        connection: ConnectionInfo,
        properties: &ConnectorProperties,
    ) -> Result<ConnectionInfo, DriverError> {
        let node = &self.node.config.node;
        if matches!(connection, ConnectionInfo::Local(_)) && properties.host != *node {
            let what = "it does not export over iSCSI: configure `exports` there".to_owned();
            let node = node.clone();
            return Err(NodeError::Lacks { node, what }.into());
        }
        Ok(connection)
    }

    /// Whether it is the node that was meant, by its own word; its certificate has said so before, on the network.
    async fn check_name(&self) -> Result<(), DriverError> {
        let found = ask!(self, Look, get_pool, self.pool())?;
        if found.node == self.node.config.node {
            return Ok(());
        }
        Err(self
            .node
            .malformed("get_pool", format!("it is node {}", found.node)))
    }
}

#[async_trait]
impl VolumeDriver for RemoteDriver {
    fn name(&self) -> &'static str {
        "remote"
    }

    async fn check(&self) -> Result<(), DriverError> {
        self.check_name().await?;
        ask!(self, Look, check, self.pool()).map(drop)
    }

    async fn check_in_use(&self) -> Result<(), DriverError> {
        self.check_name().await?;
        ask!(self, Look, check_in_use, self.pool()).map(drop)
    }

    async fn create_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        let made = ask!(self, Long, create_volume, self.making(id, size, ""))?;
        sound!(self, create_volume, wire::volume_info(made))
    }

    async fn create_volume_from_snapshot(
        &self,
        id: &VolumeId,
        size: u64,
        from: &SnapshotId,
    ) -> Result<VolumeInfo, DriverError> {
        let message = self.making(id, size, from.as_str());
        let made = ask!(self, Long, create_volume_from_snapshot, message)?;
        sound!(self, create_volume_from_snapshot, wire::volume_info(made))
    }

    async fn create_cloned_volume(
        &self,
        id: &VolumeId,
        size: u64,
        source: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let message = self.making(id, size, source.as_str());
        let made = ask!(self, Long, create_cloned_volume, message)?;
        sound!(self, create_cloned_volume, wire::volume_info(made))
    }

    async fn delete_volume(&self, id: &VolumeId) -> Result<(), DriverError> {
        ask!(self, Long, delete_volume, self.object(id)).map(drop)
    }

    async fn extend_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        let grown = ask!(self, Long, extend_volume, self.making(id, size, ""))?;
        sound!(self, extend_volume, wire::volume_info(grown))
    }

    async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        ask!(self, Quick, check_replace, self.object(id)).map(drop)
    }

    async fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let message = api::ReplaceVolumeRequest {
            pool: self.node.config.pool.clone(),
            id: id.to_string(),
            with_id: with.to_string(),
        };
        let replaced = ask!(self, Long, replace_volume, message)?;
        sound!(self, replace_volume, wire::volume_info(replaced))
    }

    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        of: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        let message = api::CutRequest {
            pool: self.node.config.pool.clone(),
            id: id.to_string(),
            volume_id: of.to_string(),
        };
        let cut = ask!(self, Quick, create_snapshot, message)?;
        sound!(self, create_snapshot, wire::snapshot_info(cut))
    }

    async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        ask!(self, Long, delete_snapshot, self.object(id)).map(drop)
    }

    async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, DriverError> {
        let found = ask!(self, Quick, find_volume, self.object(id))?;
        let info = found.volume.map(wire::volume_info).transpose();
        sound!(self, find_volume, info)
    }

    async fn volume_in_use(&self, id: &VolumeId) -> Result<Option<String>, DriverError> {
        let user = ask!(self, Quick, volume_in_use, self.object(id))?;
        let node = &self.node.config.node;
        let told = |by: String| format!("on storage node {node}: {}", wire::one_line(&by));
        Ok(user.by.map(told))
    }

    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>, DriverError> {
        let found = ask!(self, Quick, find_snapshot, self.object(id))?;
        let info = found.snapshot.map(wire::snapshot_info).transpose();
        sound!(self, find_snapshot, info)
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeInfo>, DriverError> {
        let collect = |answer| all_entries(answer, wire::volume_info);
        let all = ask!(self, Quick, list_volumes, self.pool(), collect)?;
        sound!(self, list_volumes, all)
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, DriverError> {
        let collect = |answer| all_entries(answer, wire::snapshot_info);
        let all = ask!(self, Quick, list_snapshots, self.pool(), collect)?;
        sound!(self, list_snapshots, all)
    }

    async fn capacity(&self) -> Result<Capacity, DriverError> {
        let answer = ask!(self, Quick, capacity, self.pool())?;
        sound!(self, capacity, wire::capacity_of(answer))
    }

    async fn headroom(&self) -> Result<Option<Headroom>, DriverError> {
        let answer = ask!(self, Quick, headroom, self.pool())?;
        Ok(answer.room.map(wire::headroom))
    }

    async fn grow_pool(&self) -> Result<Option<String>, DriverError> {
        let answer = ask!(self, Once, grow_pool, self.pool())?;
        Ok(answer.done.map(|done| wire::one_line(&done)))
    }

    async fn create_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        ask!(self, Quick, create_export, self.object(id)).map(drop)
    }

    async fn initialize_connection(
        &self,
        id: &VolumeId,
        properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        let message = self.connecting(id, properties, mode);
        let connection = ask!(self, Quick, initialize_connection, message)?;
        let info = wire::connection_info(connection);
        let info = sound!(self, initialize_connection, info)?;
        self.reachable(info, properties)
    }

    async fn terminate_connection(
        &self,
        id: &VolumeId,
        properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        let message = self.disconnecting(id, properties, force);
        ask!(self, Quick, terminate_connection, message).map(drop)
    }

    async fn remove_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        ask!(self, Quick, remove_export, self.object(id)).map(drop)
    }

    async fn create_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        // It may have to make a temporary volume.
        ask!(self, Long, create_export_snapshot, self.object(id)).map(drop)
    }

    async fn initialize_connection_snapshot(
        &self,
        id: &SnapshotId,
        properties: &ConnectorProperties,
    ) -> Result<ConnectionInfo, DriverError> {
        let message = self.connecting(id, properties, AccessMode::ReadOnly);
        let connection = ask!(self, Quick, initialize_connection_snapshot, message)?;
        let info = wire::connection_info(connection);
        let info = sound!(self, initialize_connection_snapshot, info)?;
        self.reachable(info, properties)
    }

    async fn terminate_connection_snapshot(
        &self,
        id: &SnapshotId,
        properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        let message = self.disconnecting(id, properties, force);
        ask!(self, Quick, terminate_connection_snapshot, message).map(drop)
    }

    async fn remove_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        ask!(self, Long, remove_export_snapshot, self.object(id)).map(drop)
    }

    async fn check_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        ask!(self, Quick, check_snapshot, self.object(id)).map(drop)
    }

    async fn allocated_ranges(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let told = ask!(self, Long, allocated_ranges, self.object(id), all_ranges)?;
        sound!(self, allocated_ranges, told)
    }

    async fn changed_ranges(
        &self,
        base: &SnapshotId,
        id: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let message = api::ChangedRequest {
            pool: self.node.config.pool.clone(),
            base_id: base.to_string(),
            id: id.to_string(),
        };
        let told = ask!(self, Long, changed_ranges, message, all_ranges)?;
        sound!(self, changed_ranges, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LocalConnection, remote::Address};

    #[test]
    fn a_device_of_another_host_is_none_of_this_one() {
        let address = Address::Unix("/run/m.sock".into());
        let driver = RemoteDriver::new(RemoteConfig::new("storage-1", address, "", None));
        let local = ConnectionInfo::Local(LocalConnection {
            device_path: "/dev/vg/lv".into(),
            access_mode: AccessMode::ReadOnly,
            size_bytes: 4096,
        });
        let host = |name: &str| ConnectorProperties {
            host: name.to_owned(),
            ip: None,
            initiator: None,
            multipath: false,
        };
        driver.reachable(local.clone(), &host("storage-1")).unwrap();
        let error = driver.reachable(local, &host("worker-1")).unwrap_err();
        assert!(error.to_string().contains("exports"), "{error}");
    }
}
