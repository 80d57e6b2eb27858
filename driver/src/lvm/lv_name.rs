//! The name of a logical volume as people write it: `VG/LV`, or the path of its device.

use std::{fmt, fs, path::Path, str::FromStr};

use super::names::is_lvm_name;
use crate::DriverError;

/// Longest name of a logical volume, in bytes (`NAME_LEN` of LVM, less its end).
const LV_NAME_LEN_MAX: usize = 127;

/// `VG/LV`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LvName {
    vg: String,
    lv: String,
}

impl LvName {
    /// A name of its parts.
    ///
    /// # Errors
    /// `InvalidArgument` if LVM would not take them.
    pub fn new(vg: &str, lv: &str) -> Result<Self, DriverError> {
        if !is_lvm_name(vg) {
            return Err(DriverError::InvalidArgument(format!(
                "{vg:?} cannot be the name of a volume group"
            )));
        }
        check_lv(lv)?;
        Ok(Self {
            vg: vg.to_owned(),
            lv: lv.to_owned(),
        })
    }

    /// The logical volume that `VG/LV` names, or the path of a device (`/dev/VG/LV`, `/dev/mapper/…`, `/dev/dm-3`, a link).
    ///
    /// # Errors
    /// `InvalidArgument` if it is neither, `NotFound` if there is no such device.
    pub fn of(source: &str) -> Result<Self, DriverError> {
        if !source.starts_with('/') {
            return source.parse();
        }
        let path = match fs::canonicalize(source) {
            Ok(path) => path,
            // One that is not active has no device, and its path says all the same which it is.
            Err(_) => match source.strip_prefix("/dev/") {
                Some(rest) if rest.split('/').count() == 2 && !rest.starts_with("mapper/") => {
                    return rest.parse();
                }
                _ => {
                    return Err(DriverError::NotFound {
                        what: source.to_owned(),
                    });
                }
            },
        };
        of_device(&path).ok_or_else(|| {
            DriverError::InvalidArgument(format!(
                "{source} is no device of a logical volume; name it as VG/LV"
            ))
        })
    }

    /// The volume group.
    #[must_use]
    pub fn vg(&self) -> &str {
        &self.vg
    }

    /// The logical volume in it.
    #[must_use]
    pub fn lv(&self) -> &str {
        &self.lv
    }
}

/// Device-mapper says whose a device is: `LVM-` and two identifiers for a logical volume that is to be seen, and more behind them
/// for its inner parts.
fn of_device(path: &Path) -> Option<LvName> {
    let kernel = path.file_name()?.to_str()?;
    let dm = Path::new("/sys/block").join(kernel).join("dm");
    let uuid = fs::read_to_string(dm.join("uuid")).ok()?;
    let ids = uuid.trim().strip_prefix("LVM-")?;
    if ids.contains('-') {
        return None;
    }
    let name = fs::read_to_string(dm.join("name")).ok()?;
    let (vg, lv) = split_dm(name.trim())?;
    LvName::new(&vg, &lv).ok()
}

/// `my--vg-lv`: hyphens inside a name are doubled.
fn split_dm(name: &str) -> Option<(String, String)> {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'-', Some(b'-')) => at += 2,
            (b'-', _) => {
                let whole = |text: &str| text.replace("--", "-");
                return Some((whole(&name[..at]), whole(&name[at + 1..])));
            }
            _ => at += 1,
        }
    }
    None
}

/// Refuses what LVM does not take as the name of a logical volume; it becomes an argument.
pub(super) fn check_lv(lv: &str) -> Result<(), DriverError> {
    let fits = !lv.is_empty()
        && lv.len() <= LV_NAME_LEN_MAX
        && !lv.starts_with('-')
        && lv != "."
        && lv != ".."
        && lv
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+.-".contains(&b));
    if fits {
        return Ok(());
    }
    Err(DriverError::InvalidArgument(format!(
        "{lv:?} cannot be the name of a logical volume: up to {LV_NAME_LEN_MAX} of letters, digits, '_', '+', '.', '-'"
    )))
}

impl fmt::Display for LvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vg, self.lv)
    }
}

impl FromStr for LvName {
    type Err = DriverError;

    fn from_str(text: &str) -> Result<Self, DriverError> {
        match text.split_once('/') {
            Some((vg, lv)) => Self::new(vg, lv),
            None => Err(DriverError::InvalidArgument(format!(
                "{text:?} names no logical volume: give VG/LV, or the path of its device"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        for text in ["vg0/data", "/dev/vg0/data"] {
            let name = LvName::of(text).unwrap();
            assert_eq!((name.vg(), name.lv()), ("vg0", "data"), "{text}");
            assert_eq!(name.to_string(), "vg0/data");
        }
        let split = |name| split_dm(name).map(|(vg, lv)| format!("{vg} {lv}"));
        assert_eq!(split("my--vg-a--b.c").unwrap(), "my-vg a-b.c");
        assert_eq!(split("vg0-data").unwrap(), "vg0 data");
        assert_eq!(split("plain--name"), None);
    }

    #[test]
    fn what_cannot_be_a_logical_volume_is_refused() {
        for bad in [
            "",
            "data",
            "vg0/",
            "/data",
            "vg0/a/b",
            "vg0/-a",
            "vg0/a b",
            "vg0/..",
            "/dev/mapper/none-here",
            "/dev/null",
            "/nowhere/at/all",
        ] {
            assert!(LvName::of(bad).is_err(), "{bad}");
        }
        assert!(check_lv(&"a".repeat(127)).is_ok() && check_lv(&"a".repeat(128)).is_err());
    }
}
