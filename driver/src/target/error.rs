//! What can go wrong with targets, named by what the caller can do about it.

use std::{net::SocketAddr, path::PathBuf};

use super::{ExportName, RecordsError};
use crate::{DriverError, task::Stopping};

/// The error of every [`Targets`](super::Targets) call.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The kernel's target is not there; the text says what to do.
    #[error("this host cannot export over iSCSI: {0}")]
    Host(String),
    /// The configuration cannot be used as it is.
    #[error("iSCSI targets: {0}")]
    Config(String),
    /// What the initiator calls itself is no iSCSI name.
    #[error("{0:?} is no iSCSI initiator name (iqn., eui. or naa., at most 223 characters)")]
    Initiator(String),
    /// The initiator was let in for another host than the one that asks.
    #[error(
        "{initiator} was let in to {name} for host {host}, and host {asking} asks: two hosts must not have the same initiator \
         name; of a host that was renamed, end the connection first (`stockpot export end`)"
    )]
    OtherHost {
        /// What is exported.
        name: ExportName,
        /// The initiator.
        initiator: String,
        /// For whom it was let in.
        host: String,
        /// Who asks.
        asking: String,
    },
    /// Another program listens there.
    #[error("portal {portal} is in use by another program; stop it or configure another port")]
    PortalInUse {
        /// The portal.
        portal: SocketAddr,
    },
    /// No network interface of this host has the portal's address.
    #[error("portal {portal}: no interface of this host has that address")]
    PortalAddress {
        /// The portal.
        portal: SocketAddr,
    },
    /// Hosts are logged in.
    #[error("{name} is connected to by {}", initiators.join(", "))]
    InUse {
        /// What is exported.
        name: ExportName,
        /// The initiators that are logged in.
        initiators: Vec<String>,
    },
    /// The device is mounted or held by something else on this host.
    #[error("device {} of {name} is held by something else on this host", device.display())]
    DeviceBusy {
        /// What was to be exported.
        name: ExportName,
        /// Its device.
        device: PathBuf,
    },
    /// It did not come to an end; what was begun goes on in the kernel.
    #[error("{doing}: no end after {waited_seconds} s; the kernel waits for a session or a device")]
    Stuck {
        /// What was being done, in words.
        doing: &'static str,
        /// How long it was waited for.
        waited_seconds: u64,
    },
    /// The kernel said that it was done, and it is not.
    #[error("{} is not what it was made to be: {found}", path.display())]
    NotDone {
        /// The object in configfs.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The kernel refused. Never holds what was written, which may be a secret.
    #[error("{doing} {}", path.display())]
    Configfs {
        /// What was being done, in words.
        doing: &'static str,
        /// The object in configfs.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The records could not be read or written.
    #[error("the record of {name}")]
    Records {
        /// Whose record.
        name: String,
        /// Why.
        #[source]
        source: RecordsError,
    },
}

impl From<Stopping> for TargetError {
    fn from(_: Stopping) -> Self {
        Self::Host("the process is stopping".into())
    }
}

impl From<TargetError> for DriverError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Host(text) => Self::Host(text),
            TargetError::InUse { name, initiators } => Self::InUse {
                what: name.to_string(),
                by: format!("connected to by {}", initiators.join(", ")),
            },
            TargetError::DeviceBusy { name, device } => Self::InUse {
                what: name.to_string(),
                by: format!(
                    "{} is held by something else on this host",
                    device.display()
                ),
            },
            error @ (TargetError::Initiator(_) | TargetError::OtherHost { .. }) => {
                Self::InvalidArgument(error.to_string())
            }
            error @ (TargetError::PortalInUse { .. }
            | TargetError::PortalAddress { .. }
            | TargetError::Config(_)) => Self::Host(error.to_string()),
            error => Self::Target(Box::new(error)),
        }
    }
}
