//! Names of exports, targets and backstores, and serial numbers.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};

use super::TargetError;
use crate::{SnapshotId, VolumeId};

/// Longest prefix of a target's name: with `:v.` and an id of 63 it stays below iSCSI's 223.
const MAX_PREFIX_LEN: usize = 150;
const BACKSTORE_PREFIX: &str = "stockpot.";

/// What is exported: a volume or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExportName {
    /// A volume.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotId),
}

impl ExportName {
    /// A short name, unique on this host, safe in file names and in iSCSI names: `v.` or `s.` and the id.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Volume(id) => format!("v.{id}"),
            Self::Snapshot(id) => format!("s.{id}"),
        }
    }
}

impl fmt::Display for ExportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(id) => write!(f, "volume {id}"),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

/// The text is no [`ExportName::key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no name of an export")]
pub struct NotAnExport;

impl FromStr for ExportName {
    type Err = NotAnExport;

    /// Reads a [`key`](Self::key).
    fn from_str(key: &str) -> Result<Self, NotAnExport> {
        match key.split_once('.') {
            Some(("v", id)) => id.parse().map(Self::Volume).map_err(|_| NotAnExport),
            Some(("s", id)) => id.parse().map(Self::Snapshot).map_err(|_| NotAnExport),
            _ => Err(NotAnExport),
        }
    }
}

/// The names that belong to one prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    /// What the names of backstores begin with: of the prefix, which is too long for them, eight digits that stand for it.
    backstores: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, TargetError> {
        let well_formed = prefix.len() <= MAX_PREFIX_LEN
            && prefix
                .strip_prefix("iqn.")
                .is_some_and(|rest| !rest.is_empty())
            && is_name(prefix);
        if !well_formed {
            return Err(TargetError::Config(format!(
                "{prefix:?} cannot be the first part of a target's name: \
                 iqn.YYYY-MM.REVERSED.DOMAIN:NODE in small letters, at most {MAX_PREFIX_LEN} characters"
            )));
        }
        let hash = hex(&digest(&SHA256, prefix.as_bytes()).as_ref()[..4]);
        Ok(Self {
            prefix: prefix.to_owned(),
            backstores: format!("{BACKSTORE_PREFIX}{hash}."),
        })
    }

    /// The target's iSCSI name.
    pub(super) fn iqn(&self, name: &ExportName) -> String {
        format!("{}:{}", self.prefix, name.key())
    }

    /// What a target of ours exports; `None` if it is not ours.
    pub(super) fn of_iqn(&self, iqn: &str) -> Option<ExportName> {
        iqn.strip_prefix(&self.prefix)?
            .strip_prefix(':')?
            .parse()
            .ok()
    }

    /// The serial number: 32 hexadecimal digits, the same for the same export for ever. LIO makes the device's world
    /// wide name of the first 25.
    pub(super) fn serial(&self, name: &ExportName) -> String {
        hex(&digest(&SHA256, self.iqn(name).as_bytes()).as_ref()[..16])
    }

    /// The backstore's name.
    pub(super) fn backstore(&self, name: &ExportName) -> String {
        format!("{}{}", self.backstores, name.key())
    }

    /// What a backstore of ours holds; `None` if it is not ours.
    pub(super) fn of_backstore(&self, name: &str) -> Option<ExportName> {
        name.strip_prefix(&self.backstores)?.parse().ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An initiator's name in the form in which the kernel compares it (RFC 7143, section 4.2.7: case does not count).
pub(super) fn initiator(name: &str) -> Result<String, TargetError> {
    let lower = name.to_ascii_lowercase();
    let known = ["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| lower.starts_with(kind));
    if known && lower.len() <= 223 && is_name(&lower) {
        Ok(lower)
    } else {
        Err(TargetError::Initiator(name.chars().take(230).collect()))
    }
}

/// Whether it has only what an iSCSI name may have; so it can be the name of a directory, and never `..`.
fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(id: &str) -> ExportName {
        ExportName::Volume(id.parse().unwrap())
    }

    #[test]
    fn names_lead_back_to_what_is_exported() {
        let names = Names::new("iqn.2026-01.dev.stockpot:node-1").unwrap();
        let longest = "a".repeat(63);
        for name in [
            volume("a-1"),
            ExportName::Snapshot(longest.parse().unwrap()),
        ] {
            let iqn = names.iqn(&name);
            assert!(iqn.len() <= 223);
            assert_eq!(names.of_iqn(&iqn), Some(name.clone()));
            let backstore = names.backstore(&name);
            assert_eq!(names.of_backstore(&backstore), Some(name));
        }
        for foreign in [
            "iqn.2026-01.dev.stockpot:node-10:v.a",
            "iqn.2026-01.dev.stockpot:node-1:x.a",
            "iqn.2026-01.dev.stockpot:node-1:v.A",
            "iqn.2026-01.dev.stockpot:node-1",
            "iqn.1999-01.other:v.a",
        ] {
            assert_eq!(names.of_iqn(foreign), None, "{foreign}");
        }
        // Nor is what another node's daemon made in the same kernel.
        let other = Names::new("iqn.2026-01.dev.stockpot:node-2").unwrap();
        for foreign in ["disk1", "stockpot.other", &other.backstore(&volume("a"))] {
            assert_eq!(names.of_backstore(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn serials_are_stable_and_differ() {
        let names = |prefix| Names::new(prefix).unwrap();
        let one = names("iqn.2026-01.dev.stockpot:a");
        let serial = one.serial(&volume("v"));
        assert_eq!(serial.len(), 32);
        // A change here would make every attached device another one.
        assert_eq!(serial, "bbae711c8c526e4b5642c65202c16736");
        assert_ne!(
            serial,
            one.serial(&ExportName::Snapshot("v".parse().unwrap()))
        );
        assert_ne!(
            serial,
            names("iqn.2026-01.dev.stockpot:b").serial(&volume("v"))
        );
    }

    #[test]
    fn odd_names_are_refused() {
        for bad in [
            "",
            "iqn.",
            "Iqn.2026-01.a:b",
            "iqn.2026-01.a/b",
            &format!("iqn.{}", "a".repeat(150)),
        ] {
            assert!(Names::new(bad).is_err(), "{bad}");
        }
        assert_eq!(
            initiator("iqn.1993-08.org.debian:01:AB").unwrap(),
            "iqn.1993-08.org.debian:01:ab"
        );
        for bad in ["", "host", "iqn.a/../b", "iqn.a b", "iqn.\u{e4}", "iqn.a\n"] {
            assert!(initiator(bad).is_err(), "{bad}");
        }
    }
}
