//! What can go wrong in a connector, named by what the caller can do about it.

use std::path::PathBuf;

/// The error of every [`Connector`](crate::Connector) call.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// No device appeared in time.
    #[error("device {} did not appear within {waited_seconds} s", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// How long it was waited for.
        waited_seconds: u64,
    },
    /// There is something at the path, but no block device.
    #[error("{} is not a block device", path.display())]
    NotABlockDevice {
        /// The path.
        path: PathBuf,
    },
    /// The device has another size than the connection says: it may be another device.
    #[error("device {} has {found_bytes} bytes, the connection says {expected_bytes}", path.display())]
    WrongSize {
        /// The device.
        path: PathBuf,
        /// What the connection says.
        expected_bytes: u64,
        /// What the device says.
        found_bytes: u64,
    },
    /// The connection is read-only and the device could not be made so.
    #[error("device {} accepts writes though the connection is read-only", path.display())]
    NotReadOnly {
        /// The device.
        path: PathBuf,
    },
    /// The connection is read-write and the device refuses writes.
    #[error("device {} is read-only though the connection is read-write", path.display())]
    NotWritable {
        /// The device.
        path: PathBuf,
    },
    /// Somebody holds the device.
    #[error("device {} is in use", path.display())]
    InUse {
        /// The device.
        path: PathBuf,
    },
    /// This connector cannot attach that kind of connection.
    #[error("this connector does not attach connections of type {0}")]
    Unsupported(&'static str),
    /// The operating system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done, in words.
        doing: &'static str,
        /// The file or device it was done to.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}
