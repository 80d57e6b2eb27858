//! The seam between a connection and a device of this host.

use std::{fmt, path::PathBuf};

use async_trait::async_trait;
use stockpot_driver::{ConnectionInfo, ConnectorProperties};

use crate::ConnectorError;

/// A device that may be opened now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedDevice {
    /// Its path on this host.
    pub path: PathBuf,
    /// Its exact size in bytes, read from the device and equal to what the connection promised.
    pub size_bytes: u64,
    /// Whether the kernel refuses writes to it; always true when the connection is read-only.
    pub read_only: bool,
}

/// What [`Connector::recover`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Connections that are still attached and stay so.
    pub adopted: Vec<ConnectionInfo>,
    /// What was left by a crash and is gone now, in words.
    pub removed: Vec<String>,
    /// What was left and could not be removed: what, and why.
    pub failed: Vec<(String, String)>,
}

/// Attaches and detaches connections on this host. All calls are idempotent.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug {
    /// What this host says of itself to a driver.
    ///
    /// # Errors
    /// [`ConnectorError::Io`] if the host cannot be asked.
    async fn properties(&self) -> Result<ConnectorProperties, ConnectorError>;

    /// Attaches a connection. Called again, it checks the device again and gives the same answer.
    ///
    /// # Errors
    /// `Missing` if no device appears, `WrongSize`, `NotReadOnly` and `NotWritable` if it is not what was promised,
    /// `InUse` if it cannot be made read-only because somebody holds it.
    async fn connect(&self, connection: &ConnectionInfo) -> Result<AttachedDevice, ConnectorError>;

    /// Makes sure of a connection that was made before and may be in use: as [`connect`](Self::connect), but a device
    /// that was made read-only since then stays so.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), without `NotWritable`.
    async fn confirm(&self, connection: &ConnectionInfo) -> Result<AttachedDevice, ConnectorError>;

    /// Detaches a connection. One that is not attached is success.
    ///
    /// # Errors
    /// `InUse` if somebody holds the device: a mount, a device on top of it, a loop device over it, a mount of its node; or if
    /// it cannot be let go.
    async fn disconnect(&self, connection: &ConnectionInfo) -> Result<(), ConnectorError>;

    /// Called at start: keeps the connections in `wanted` that are attached and removes all other leftovers of ours. One that
    /// resists does not keep the others from being removed.
    ///
    /// # Errors
    /// If the host cannot be asked.
    async fn recover(&self, wanted: &[ConnectionInfo]) -> Result<Recovered, ConnectorError>;

    /// The iSCSI targets that this host is logged in to for us. Changes nothing.
    ///
    /// # Errors
    /// If the host cannot be asked.
    async fn sessions(&self) -> Result<Vec<String>, ConnectorError> {
        Ok(Vec::new())
    }
}
