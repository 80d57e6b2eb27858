//! How a host exports, what it is given to export, and what it answers.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::ExportName;
use crate::IscsiAuth;

const CONFIGFS: &str = "/sys/kernel/config/target";

/// How this host exports over iSCSI.
#[derive(Debug, Clone)]
pub struct TargetsConfig {
    /// First part of each target's name, `iqn.YYYY-MM.REVERSED.DOMAIN:NODE`; unique to this host, and the same for ever.
    pub iqn_prefix: String,
    /// Addresses and ports to listen on, as initiators reach them; several are several paths.
    pub portals: Vec<SocketAddr>,
    /// The target's directory in configfs.
    pub configfs: PathBuf,
    /// The number of LIO's host bus adapter below which our backstores lie.
    pub adapter: u32,
    /// How long one call may take.
    pub deadline: Duration,
}

impl TargetsConfig {
    /// The usual configuration.
    pub fn new(iqn_prefix: impl Into<String>, portals: Vec<SocketAddr>) -> Self {
        Self {
            iqn_prefix: iqn_prefix.into(),
            portals,
            configfs: CONFIGFS.into(),
            adapter: 3260,
            deadline: Duration::from_secs(30),
        }
    }
}

/// What is to be exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSource {
    /// Its name.
    pub name: ExportName,
    /// Its block device on this host.
    pub device: PathBuf,
}

/// Where an initiator finds an export, and how it proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedTarget {
    /// The target's name; its only logical unit is number 0.
    pub iqn: String,
    /// Where it listens.
    pub portals: Vec<SocketAddr>,
    /// The device's serial number.
    pub serial: String,
    /// The secrets of this connection.
    pub auth: IscsiAuth,
}
