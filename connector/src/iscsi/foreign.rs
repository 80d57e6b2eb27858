//! Whether a target's disks are taken for others of this host.
//!
//! By the numbers that a disk shows, multipath takes two disks for two paths to one, and sends reads and writes to either. They
//! come from the target: a storage node that lies can show those of another node's disk. So no disk is used that shows a number
//! which a disk of another target shows as well; one that turns up is taken out at once.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    multipath::{self, Map},
    sysfs::{self, Disk, Session},
};
use crate::ConnectorError;

/// A way in which a disk names itself (SCSI SPC-4, 7.8.6: kind of the designator, and its bytes).
type Designator = (u8, Vec<u8>);

/// Of the designators, those by which a logical unit is known everywhere: T10 vendor, EUI-64, NAA, SCSI name.
const KINDS: [u8; 4] = [1, 2, 3, 8];

/// Refuses a serial number that a disk of another target shows. To be asked before a login: what has logged in may be part of
/// a map a moment later.
pub(super) fn check_serial(target: &str, serial: &str) -> Result<(), ConnectorError> {
    let (_, others) = devices(target)?;
    for other in others {
        // One that cannot be read is on its way out.
        let shown = sysfs::serial_of(&other).ok().flatten();
        if shown.is_some_and(|shown| shown.eq_ignore_ascii_case(serial)) {
            return Err(same(
                target.into(),
                &other,
                format!("serial number {serial}"),
            ));
        }
    }
    Ok(())
}

/// Refuses disks of a target that show what a disk of another target shows.
pub(super) fn check(target: &str) -> Result<(), ConnectorError> {
    let (own, others) = devices(target)?;
    let own: Vec<_> = own
        .into_iter()
        .map(|device| (numbers(&device), device))
        .collect();
    if own.iter().all(|(numbers, _)| numbers.is_empty()) {
        return Ok(());
    }
    for other in others {
        let shown = numbers(&other);
        for (numbers, device) in &own {
            if let Some((kind, bytes)) = numbers.intersection(&shown).next() {
                let number: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let what = format!("designator {kind}:{number}");
                return Err(same(device.clone(), &other, what));
            }
        }
    }
    Ok(())
}

/// Refuses a map that has paths to other disks than the target's.
pub(super) fn check_map(target: &str, map: &Map) -> Result<(), ConnectorError> {
    let own = disks_of(target)?;
    match map.path_of_others(&own)? {
        None => Ok(()),
        Some(other) => Err(ConnectorError::SameDisk {
            path: map.path(),
            other: Path::new("/dev").join(other),
            what: "one multipath device".to_owned(),
        }),
    }
}

/// Takes a target's disks out of maps that have other disks' paths as well. What resists goes with its disk, a moment later.
pub(super) async fn leave_others(target: &str) -> Result<(), ConnectorError> {
    let own = disks_of(target)?;
    for disk in &own {
        let Some(map) = multipath::map_of(disk)? else {
            continue;
        };
        if let Some(other) = map.path_of_others(&own)? {
            tracing::error!(
                target_iqn = target,
                disk = disk.name,
                other,
                map = %map.path().display(),
                "a disk is a path of another target's multipath device: it is taken out, and what was written to that device \
                 since may be on the wrong disk"
            );
            multipath::remove_path(disk).await;
        }
    }
    Ok(())
}

fn disks_of(target: &str) -> Result<Vec<Disk>, ConnectorError> {
    let mut disks = Vec::new();
    for session in sysfs::sessions_of(target)? {
        disks.extend(session.disks()?);
    }
    Ok(disks)
}

/// The SCSI devices of a target, and all others of this host.
fn devices(target: &str) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ConnectorError> {
    let sessions = sysfs::sessions_of(target)?;
    let is_own = |device: &PathBuf| sessions.iter().any(|session: &Session| session.has(device));
    Ok(sysfs::scsi_devices()?.into_iter().partition(is_own))
}

fn numbers(device: &Path) -> BTreeSet<Designator> {
    // A device may go away while it is looked at, and not every kind has the page.
    let page = fs::read(device.join("vpd_pg83")).unwrap_or_default();
    parse_designators(&page)
}

/// Four bytes of header, of which two are the length; then designators, each with four bytes of header.
fn parse_designators(page: &[u8]) -> BTreeSet<Designator> {
    let mut found = BTreeSet::new();
    let [_, 0x83, high, low, rest @ ..] = page else {
        return found;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let mut rest = rest.get(..length).unwrap_or(rest);
    while let [_, kind, _, length, more @ ..] = rest {
        let Some((bytes, next)) = more.split_at_checked(usize::from(*length)) else {
            break;
        };
        let (of_the_unit, kind) = (kind & 0x30 == 0, kind & 0x0f);
        if of_the_unit && KINDS.contains(&kind) && !bytes.is_empty() {
            found.insert((kind, bytes.to_owned()));
        }
        rest = next;
    }
    found
}

fn same(path: PathBuf, other: &Path, what: String) -> ConnectorError {
    let disks = sysfs::names(&other.join("block")).unwrap_or_default();
    let other = match disks.first() {
        Some(disk) => Path::new("/dev").join(disk),
        None => other.to_owned(),
    };
    ConnectorError::SameDisk { path, other, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn designators_of_the_unit_are_parsed() {
        let naa = [0x60, 0x01, 0x40, 0x5a];
        let mut page = vec![0, 0x83, 0, 0];
        page.extend([&[1, 3, 0, 4][..], &naa].concat());
        // One of the port, and one of a kind that many disks have in common.
        page.extend([&[1, 0x13, 0, 4][..], &naa].concat());
        page.extend([1, 4, 0, 2, 0, 1]);
        page.extend([&[2, 1, 0, 3][..], b"LIO"].concat());
        page[3] = u8::try_from(page.len() - 4).unwrap();
        let both = BTreeSet::from([(3, naa.to_vec()), (1, b"LIO".to_vec())]);
        assert_eq!(parse_designators(&page), both);
        // What is cut off is not there, and nothing is read beyond the end.
        for end in 0..page.len() {
            assert!(parse_designators(&page[..end]).is_subset(&both), "{end}");
        }
        for odd in [
            &[][..],
            &[0, 0x80, 0, 4, 1, 3, 0, 0],
            &[0, 0x83, 0xff, 0xff, 1],
        ] {
            assert_eq!(parse_designators(odd), BTreeSet::new());
        }
    }
}
