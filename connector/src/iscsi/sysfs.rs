//! What the kernel knows of iSCSI sessions and their devices (`/sys/class/iscsi_session`).

use std::{
    fs,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use super::INTERFACE;
use crate::ConnectorError;

const SESSIONS: &str = "/sys/class/iscsi_session";
const SCSI_DEVICES: &str = "/sys/bus/scsi/devices";
const CONNECTIONS: &str = "/sys/class/iscsi_connection";

/// One session of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// The number by which open-iscsi knows it.
    pub(super) id: u32,
    /// The target's name.
    pub(super) target: String,
    /// Where it was logged in; `None` while the kernel does not say.
    pub(super) portal: Option<SocketAddr>,
    /// Whether it is logged in; otherwise it is being set up, lost, or on its way out.
    pub(super) logged_in: bool,
    /// Its host adapter in sysfs, `…/hostN`.
    host: PathBuf,
}

/// A SCSI disk of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    /// The kernel's name, `sda`.
    pub(super) name: String,
    /// The SCSI device in sysfs, `…/H:C:T:L`.
    device: PathBuf,
}

/// Every session that is bound to our interface record.
pub(super) fn sessions() -> Result<Vec<Session>, ConnectorError> {
    let mut found = Vec::new();
    for name in names(Path::new(SESSIONS))? {
        let Some(id) = name.strip_prefix("session").and_then(|id| id.parse().ok()) else {
            continue;
        };
        // A session may go away while it is looked at.
        found.extend(session(id));
    }
    found.sort_by_key(|session| session.id);
    Ok(found)
}

/// Our sessions with one target.
pub(super) fn sessions_of(target: &str) -> Result<Vec<Session>, ConnectorError> {
    let mut all = sessions()?;
    all.retain(|session| session.target == target);
    Ok(all)
}

fn session(id: u32) -> Option<Session> {
    let directory = Path::new(SESSIONS).join(format!("session{id}"));
    if attribute(&directory.join("ifacename"))? != INTERFACE {
        return None;
    }
    let connection = Path::new(CONNECTIONS).join(format!("connection{id}:0"));
    let portal = || -> Option<SocketAddr> {
        let address = parse_address(&attribute(&connection.join("persistent_address"))?)?;
        let port = attribute(&connection.join("persistent_port"))?
            .parse()
            .ok()?;
        Some(SocketAddr::new(address, port))
    };
    Some(Session {
        id,
        target: attribute(&directory.join("targetname"))?,
        portal: portal(),
        logged_in: attribute(&directory.join("state"))? == "LOGGED_IN",
        host: directory
            .join("device")
            .canonicalize()
            .ok()?
            .parent()?
            .to_owned(),
    })
}

impl Session {
    /// Whether it is at one of these portals; `None` while the kernel does not say where it is.
    pub(super) fn is_at(&self, portals: &[SocketAddr]) -> Option<bool> {
        let own = self.portal?;
        Some(portals.iter().any(|portal| is_same(own, *portal)))
    }

    /// Whether a SCSI device came by this session.
    pub(super) fn has(&self, device: &Path) -> bool {
        device.starts_with(&self.host)
    }

    /// Makes the kernel look for one logical unit of the target, and for nothing else.
    pub(super) fn scan(&self, lun: u16) -> Result<(), ConnectorError> {
        let host = self.host.file_name().unwrap_or_default();
        let path = Path::new("/sys/class/scsi_host").join(host).join("scan");
        write(&path, &format!("0 0 {lun}"))
    }

    /// The disks of the session, whatever their number.
    pub(super) fn disks(&self) -> Result<Vec<Disk>, ConnectorError> {
        self.disks_where(|_| true)
    }

    /// The disk of one logical unit, once it is there.
    pub(super) fn disk(&self, lun: u16) -> Result<Option<Disk>, ConnectorError> {
        let ending = format!(":{lun}");
        Ok(self
            .disks_where(|address| address.ends_with(&ending))?
            .pop())
    }

    fn disks_where(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Disk>, ConnectorError> {
        let session = self.host.join(format!("session{}", self.id));
        let mut disks = Vec::new();
        for target in names(&session)?
            .iter()
            .filter(|name| name.starts_with("target"))
        {
            let target = session.join(target);
            for address in names(&target)?
                .iter()
                .filter(|name| is_address(name) && wanted(name))
            {
                let device = target.join(address);
                let block = names(&device.join("block"))?;
                disks.extend(block.into_iter().map(|name| Disk {
                    name,
                    device: device.clone(),
                }));
            }
        }
        Ok(disks)
    }
}

impl Disk {
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The serial number as the kernel read it when it last looked at the device (SCSI SPC-4, VPD page 0x80).
    pub(super) fn serial(&self) -> Result<Option<String>, ConnectorError> {
        serial_of(&self.device)
    }

    /// Its size in bytes.
    pub(super) fn size_bytes(&self) -> Result<u64, ConnectorError> {
        size_bytes(&self.name)
    }

    /// Makes the kernel ask the device again for its size and its pages.
    pub(super) fn rescan(&self) -> Result<(), ConnectorError> {
        write(&self.device.join("rescan"), "1")
    }

    /// Takes the device out of the kernel. One that is gone is success.
    pub(super) fn delete(&self) -> Result<(), ConnectorError> {
        let path = self.device.join("delete");
        if !self.is_there() {
            return Ok(());
        }
        match write(&path, "1") {
            // Its attributes go before its directory does: somebody is taking it out already.
            Err(ConnectorError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            Err(error) if self.is_there() => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.device.exists()
    }
}

/// Every SCSI device of this host, whoever brought it, as a directory in sysfs.
pub(super) fn scsi_devices() -> Result<Vec<PathBuf>, ConnectorError> {
    let all = Path::new(SCSI_DEVICES);
    let names = names(all)?;
    let addresses = names.iter().filter(|name| is_address(name));
    // One may go away while it is looked at.
    Ok(addresses
        .filter_map(|address| all.join(address).canonicalize().ok())
        .collect())
}

/// The serial number of a SCSI device.
pub(super) fn serial_of(device: &Path) -> Result<Option<String>, ConnectorError> {
    let path = device.join("vpd_pg80");
    match fs::read(&path) {
        Ok(page) => Ok(parse_serial(&page)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("cannot read", &path)(source)),
    }
}

/// A block device's size in bytes, by its kernel name.
pub(super) fn size_bytes(name: &str) -> Result<u64, ConnectorError> {
    let path = Path::new("/sys/class/block").join(name).join("size");
    let text = fs::read_to_string(&path).map_err(failed("cannot read", &path))?;
    let sectors: Option<u64> = text.trim().parse().ok();
    let bytes = sectors.and_then(|sectors| sectors.checked_mul(512));
    bytes.ok_or_else(|| failed("cannot parse", &path)(io::Error::other(text.trim().to_owned())))
}

/// An address may be written with the interface that it is valid on.
fn parse_address(text: &str) -> Option<IpAddr> {
    let address = text.split('%').next()?;
    address.trim_matches(['[', ']']).parse().ok()
}

/// Whether both are one place, however it is written: an IPv4 address may be one of IPv6, and a link's address may name its
/// interface.
pub(super) fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
}

/// Four bytes of header, of which two are the length, then the number in ASCII, filled up with blanks or zero bytes.
fn parse_serial(page: &[u8]) -> Option<String> {
    let [_, 0x80, high, low, rest @ ..] = page else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let text = std::str::from_utf8(rest.get(..length)?).ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned())
}

/// `H:C:T:L`
fn is_address(name: &str) -> bool {
    name.split(':').count() == 4
        && name
            .split(':')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

fn attribute(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

pub(super) fn names(directory: &Path) -> Result<Vec<String>, ConnectorError> {
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(failed("cannot list", directory))?,
    };
    let names = listing.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}

/// Writes an attribute. One that is gone is not made, which sysfs would refuse with EACCES.
fn write(path: &Path, text: &str) -> Result<(), ConnectorError> {
    let opened = fs::OpenOptions::new().write(true).open(path);
    opened
        .and_then(|mut attribute| attribute.write_all(text.as_bytes()))
        .map_err(failed("cannot write", path))
}

pub(super) fn failed<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> ConnectorError + Copy + 'a {
    move |source| ConnectorError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_parsed() {
        let page = |length: u8, text: &str| [&[0, 0x80, 0, length][..], text.as_bytes()].concat();
        assert_eq!(parse_serial(&page(5, "ab12\0")).unwrap(), "ab12");
        assert_eq!(parse_serial(&page(4, "  ab")).unwrap(), "ab");
        assert_eq!(parse_serial(&page(0, "")).unwrap(), "");
        for odd in [
            &[][..],
            &[0, 0x80, 0],
            &page(9, "ab"),
            &[0, 0x83, 0, 1, b'a'],
            &[0, 0x80, 0, 1, 0xff],
        ] {
            assert_eq!(parse_serial(odd), None);
        }
    }

    #[test]
    fn addresses_are_told_from_other_names() {
        assert!(is_address("10:0:0:1"));
        for other in ["10:0:0", "10:0:0:", "power", "a:0:0:1", "1:0:0:1:2"] {
            assert!(!is_address(other), "{other}");
        }
    }

    #[test]
    fn portals_are_the_same_however_they_are_written() {
        for (one, other, same) in [
            ("192.0.2.1:3260", "192.0.2.1:3260", true),
            ("192.0.2.1:3260", "192.0.2.1:3261", false),
            ("192.0.2.1:3260", "[::ffff:192.0.2.1]:3260", true),
            ("[2001:db8:0:0::1]:3260", "[2001:DB8::1]:3260", true),
            ("[fe80::1%2]:3260", "[fe80::1]:3260", true),
            ("[2001:db8::1]:3260", "[2001:db8::2]:3260", false),
        ] {
            let found = is_same(one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(found, same, "{one} {other}");
        }
        let link: IpAddr = "fe80::1".parse().unwrap();
        for text in ["fe80::1", "fe80::1%eth0", "[fe80::1]"] {
            assert_eq!(parse_address(text), Some(link));
        }
        assert_eq!(parse_address("storage-1"), None);
    }

    #[test]
    fn a_host_without_iscsi_has_no_sessions() {
        assert_eq!(sessions_of("iqn.2026-01.test:none").unwrap(), []);
    }
}
