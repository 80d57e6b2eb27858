//! What travels between a driver and a connector, in Cinder's shape.

use std::{net::SocketAddr, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
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
    /// The device is on another host, which exports it over iSCSI.
    Iscsi(IscsiConnection),
}

impl ConnectionInfo {
    /// What may be done with the device.
    #[must_use]
    pub fn access_mode(&self) -> AccessMode {
        match self {
            Self::Local(local) => local.access_mode,
            Self::Iscsi(iscsi) => iscsi.access_mode,
        }
    }

    /// The exact size of the device in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Local(local) => local.size_bytes,
            Self::Iscsi(iscsi) => iscsi.size_bytes,
        }
    }
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

/// A device that another host exports: one target with one logical unit, reached by one or more portals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiConnection {
    /// Where the target listens, at least one; several are several paths to the same device.
    pub target_portals: Vec<SocketAddr>,
    /// The target's name.
    pub target_iqn: String,
    /// The logical unit's number in the target.
    pub target_lun: u16,
    /// The device's serial number (SCSI VPD page 0x80), unique per export; checked before the first read.
    pub serial: String,
    /// How the two sides prove who they are. Never serialised, so that whatever is written down holds no secret: ask the
    /// driver again with `initialize_connection*`, which gives the same secrets as long as the connection lives.
    #[serde(skip)]
    pub auth: Option<IscsiAuth>,
    /// What may be done with the device.
    pub access_mode: AccessMode,
    /// The exact size of the device in bytes; checked before the first read.
    pub size_bytes: u64,
}

/// Most portals that a connection may name.
const PORTALS_MAX: usize = 16;
/// Longest serial number; LIO takes up to 253, Stockpot makes 32.
const SERIAL_LEN_MAX: usize = 253;

impl IscsiConnection {
    /// Whether its names can be meant. They come from another node, become the names of files and lines of files, and are
    /// given to programs that run as root; so a connector checks them again.
    ///
    /// # Errors
    /// What is odd, in words; never a secret.
    pub fn check(&self) -> Result<(), String> {
        if !is_iscsi_name(&self.target_iqn) {
            let shown: String = self.target_iqn.chars().take(230).collect();
            return Err(format!("{shown:?} is no name of an iSCSI target"));
        }
        if !(1..=PORTALS_MAX).contains(&self.target_portals.len()) {
            let count = self.target_portals.len();
            return Err(format!("{count} portals; 1 to {PORTALS_MAX} can be used"));
        }
        for portal in &self.target_portals {
            let ip = portal.ip();
            if portal.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
                return Err(format!("nobody can be reached at portal {portal}"));
            }
        }
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if !(1..=SERIAL_LEN_MAX).contains(&self.serial.len()) || !self.serial.bytes().all(sound) {
            return Err(
                "a serial number that is empty, too long, or has odd characters".to_owned(),
            );
        }
        let auth = self.auth.iter();
        let credentials = auth.flat_map(|auth| [Some(&auth.initiator), auth.target.as_ref()]);
        match credentials.flatten().all(ChapCredentials::is_sound) {
            true => Ok(()),
            false => Err(
                "a CHAP name or secret that is empty, too long, or has odd characters".to_owned(),
            ),
        }
    }
}

/// Whether it has the form of an iSCSI name, in small letters (RFC 7143, section 4.2.7): so it can be the name of a
/// directory, and never leads out of it.
pub(crate) fn is_iscsi_name(name: &str) -> bool {
    let sound =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    ["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| name.starts_with(kind))
        && name.len() <= 223
        && name.bytes().all(sound)
}

/// The secrets of one iSCSI connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IscsiAuth {
    /// By which the initiator proves itself to the target.
    pub initiator: ChapCredentials,
    /// By which the target proves itself to the initiator (mutual CHAP).
    pub target: Option<ChapCredentials>,
}

/// One side's name and secret (RFC 1994, as iSCSI uses it: RFC 7143, section 12.1.3).
#[derive(Debug, Clone)]
pub struct ChapCredentials {
    /// The name.
    pub username: String,
    /// The secret; printable ASCII, at least 12 bytes.
    pub password: SecretString,
}

impl ChapCredentials {
    /// Whether both are a line of text each, and no more than a line.
    fn is_sound(&self) -> bool {
        [self.username.as_str(), self.password.expose_secret()]
            .iter()
            .all(|text| {
                (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
            })
    }
}

impl PartialEq for ChapCredentials {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Eq for ChapCredentials {}

/// Connections for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// Over two portals, with secrets for both directions.
    pub(crate) fn iscsi() -> IscsiConnection {
        let credentials = |username: &str, password: &str| ChapCredentials {
            username: username.into(),
            password: SecretString::from(password),
        };
        IscsiConnection {
            target_portals: vec![
                "192.0.2.1:3260".parse().unwrap(),
                "[2001:db8::1]:3260".parse().unwrap(),
            ],
            target_iqn: "iqn.2026-01.test:v.a".into(),
            target_lun: 0,
            serial: "0123456789abcdef".into(),
            auth: Some(IscsiAuth {
                initiator: credentials("in", "initiator-secret"),
                target: Some(credentials("out", "target-secret")),
            }),
            access_mode: AccessMode::ReadOnly,
            size_bytes: 4096,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::iscsi, *};

    #[test]
    fn what_is_written_down_or_printed_holds_no_secret() {
        let info = ConnectionInfo::Iscsi(iscsi());
        let json = serde_json::to_string(&info).unwrap();
        for text in [&json, &format!("{info:?}")] {
            assert!(!text.contains("-secret"), "{text}");
        }
        let read: ConnectionInfo = serde_json::from_str(&json).unwrap();
        let without = IscsiConnection {
            auth: None,
            ..iscsi()
        };
        assert_eq!(read, ConnectionInfo::Iscsi(without));
        assert_ne!(read, info);
    }

    #[test]
    fn the_shape_is_cinders() {
        let json = serde_json::to_value(ConnectionInfo::Iscsi(iscsi())).unwrap();
        assert_eq!(json["driver_volume_type"], "iscsi");
        assert_eq!(
            json["data"]["target_portals"],
            serde_json::json!(["192.0.2.1:3260", "[2001:db8::1]:3260"])
        );
        assert_eq!(json["data"]["access_mode"], "ro");
    }
}
