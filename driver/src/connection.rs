//! What travels between a driver and a connector, in Cinder's shape.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the holder of a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessMode {
    /// Reads only; snapshots are never attached otherwise.
    #[serde(rename = "ro")]
    ReadOnly,
    /// Reads and writes.
    #[serde(rename = "rw")]
    ReadWrite,
}

/// What a host says of itself when it asks for a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorProperties {
    /// Host name, unique among the hosts of an installation.
    pub host: String,
    /// Address that the storage node can reach, where there is one.
    pub ip: Option<String>,
    /// The initiator's IQN, where the host has an initiator.
    pub initiator: Option<String>,
    /// Whether the host can use several paths to one device.
    pub multipath: bool,
}

/// What `initialize_connection` and `initialize_connection_snapshot` return: all that a connector needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "driver_volume_type",
    content = "data",
    rename_all = "snake_case"
)]
pub enum ConnectionInfo {
    /// The device is on the host that asks.
    Local(LocalConnection),
}

/// A device that is already on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalConnection {
    /// The device's path, as the driver names it.
    pub device_path: PathBuf,
    /// What may be done with it.
    pub access_mode: AccessMode,
    /// The exact size of the device in bytes; checked before the first read.
    pub size_bytes: u64,
}
