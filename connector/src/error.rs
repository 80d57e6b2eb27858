//! What can go wrong in a connector, named by what the caller can do about it.

use std::{net::SocketAddr, path::PathBuf};

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
    #[error("device {} is in use: {by}", path.display())]
    InUse {
        /// The device.
        path: PathBuf,
        /// Who holds it, as far as it can be seen.
        by: String,
    },
    /// This host lacks a program, a module or a setting; the text says which and what to do.
    #[error("this host cannot attach over iSCSI: {0}")]
    Host(String),
    /// The connection holds names that nothing can be done with; it may not come from a driver that is to be trusted.
    #[error("the connection cannot be meant: {0}")]
    Odd(String),
    /// The target does not let this initiator in, or one of the two could not prove who it is.
    #[error(
        "target {target} at {portal} refuses the login: not for this initiator, or another secret; ask the driver for the connection again"
    )]
    Refused {
        /// The target's name.
        target: String,
        /// Where it was tried.
        portal: SocketAddr,
    },
    /// The target could not be logged in to for another reason.
    #[error(
        "cannot log in to {target} at {portal}; is the storage node up, and its portal reachable from here?"
    )]
    Unreachable {
        /// The target's name.
        target: String,
        /// Where it was tried.
        portal: SocketAddr,
        /// What open-iscsi said.
        #[source]
        source: stockpot_command::CommandError,
    },
    /// The device is another one than the connection says; nothing was read from it.
    #[error("device {} has serial number {found:?}, the connection says {expected:?}: it is another device", path.display())]
    WrongSerial {
        /// The device.
        path: PathBuf,
        /// What the connection says.
        expected: String,
        /// What the device says.
        found: String,
    },
    /// The device shows itself as one that another target's disk is already: multipath would take both for one. It was not used.
    #[error(
        "{} shows {what}, as {} does, which is another target's disk: one of the two storage nodes does not tell the truth, or \
         copies the other's settings",
        path.display(),
        other.display()
    )]
    SameDisk {
        /// The device, or the target before it has one.
        path: PathBuf,
        /// The other target's.
        other: PathBuf,
        /// What both show.
        what: String,
    },
    /// It did not come to an end.
    #[error("{doing} {}: no end after {waited_seconds} s", path.display())]
    Stuck {
        /// What was being done, in words.
        doing: &'static str,
        /// The device or target it was done to.
        path: PathBuf,
        /// How long it was waited for.
        waited_seconds: u64,
    },
    /// An external command failed.
    #[error("{doing}")]
    Command {
        /// What was being done, in words.
        doing: &'static str,
        /// The command's failure.
        #[source]
        source: stockpot_command::CommandError,
    },
    /// The process ended before the work did.
    #[error("the process is stopping")]
    Stopping,
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

/// What became of a task that gave no answer: its panic goes on here; else the runtime ended before it did.
pub(crate) fn ended<T>(error: tokio::task::JoinError) -> Result<T, ConnectorError> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(ConnectorError::Stopping),
    }
}

/// An error with its causes: for a report, where the chain would be lost.
pub(crate) fn in_full(error: &ConnectorError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
