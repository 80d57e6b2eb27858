//! The block device below an export: one `iblock` object of LIO, which holds the device exclusively.
//!
//! Every driver hands out block devices (a file's is a loop device), so no other kind is needed, and a device that
//! grows is seen to have grown without a word: `iblock` asks the device for its size each time.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{ExportName, TargetError, configfs, names::Names};

/// What there is of a backstore, compared with what it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// None, or half of one.
    Nothing,
    /// Just that.
    AsAsked,
    /// On the same device, with another access, another serial number or the device's other name.
    Otherwise,
    /// On another device.
    Elsewhere,
}

/// The objects of our backstores, below one host bus adapter of LIO's.
#[derive(Debug, Clone)]
pub(super) struct Backstores {
    adapter: PathBuf,
    names: Names,
}

impl Backstores {
    pub(super) fn new(configfs: &Path, adapter: u32, names: Names) -> Self {
        Self {
            adapter: configfs.join("core").join(format!("iblock_{adapter}")),
            names,
        }
    }

    pub(super) fn path(&self, name: &ExportName) -> PathBuf {
        self.adapter.join(self.names.backstore(name))
    }

    /// The exports that have a backstore, half-made ones included.
    pub(super) fn names(&self) -> Result<Vec<ExportName>, TargetError> {
        let objects = configfs::objects(&self.adapter)?;
        Ok(objects
            .iter()
            .filter_map(|object| self.names.of_backstore(object))
            .collect())
    }

    /// What there is, compared with a backstore on just this device, with its access and this serial number.
    pub(super) fn look(
        &self,
        name: &ExportName,
        device: &Path,
        serial: &str,
    ) -> Result<Found, TargetError> {
        let path = self.path(name);
        if !path.exists() || configfs::read(&path.join("enable"))? != "1" {
            return Ok(Found::Nothing);
        }
        let info = configfs::read(&path.join("info"))?;
        let is_named = configfs::read(&path.join("udev_path"))? == device.to_string_lossy();
        let (number, read_only) = number_and_access(device)?;
        // Names come and go; the kernel holds a device by its number.
        if !parse_number(&info).map_or(is_named, |held| held == number) {
            return Ok(Found::Elsewhere);
        }
        let is_same = is_named
            && parse_read_only(&info) == Some(read_only)
            && parse_serial(&configfs::read(&path.join("wwn/vpd_unit_serial"))?) == serial;
        Ok(match is_same {
            true => Found::AsAsked,
            false => Found::Otherwise,
        })
    }

    /// Makes it, whole; what was there half-made is made anew. It must not be linked to.
    pub(super) fn make(
        &self,
        name: &ExportName,
        device: &Path,
        serial: &str,
    ) -> Result<(), TargetError> {
        let (_, read_only) = number_and_access(device)?;
        let text = device
            .to_str()
            .filter(|text| !text.contains([',', '\n', ' ', '=']));
        let text = text.ok_or_else(|| {
            TargetError::Config(format!(
                "the path {} cannot be told to the kernel",
                device.display()
            ))
        })?;
        self.remove(name)?;
        configfs::make(&self.adapter)?;
        let path = self.path(name);
        configfs::make(&path)?;
        let control = format!("udev_path={text},readonly={}", u8::from(read_only));
        configfs::write(&path.join("control"), &control)?;
        configfs::write(&path.join("udev_path"), text)?;
        configfs::write(&path.join("wwn/vpd_unit_serial"), serial)?;
        match configfs::write(&path.join("enable"), "1") {
            Err(TargetError::Configfs { source, .. })
                if source.raw_os_error() == Some(nix::libc::EBUSY) =>
            {
                self.remove(name)?;
                return Err(TargetError::DeviceBusy {
                    name: name.clone(),
                    device: device.to_owned(),
                });
            }
            Err(error) => {
                self.remove(name)?;
                return Err(error);
            }
            Ok(()) => {}
        }
        if self.look(name, device, serial)? == Found::AsAsked {
            return Ok(());
        }
        self.remove(name)?;
        Err(TargetError::NotDone {
            path,
            found: "the backstore reads back otherwise",
        })
    }

    /// Makes sure that nobody reaches other backstores by way of it: a copy that the target makes itself (SPC-4, EXTENDED COPY)
    /// names the disks that it is from and to, whoever they are for.
    pub(super) fn confine(&self, name: &ExportName) -> Result<(), TargetError> {
        let copies = self.path(name).join("attrib/emulate_3pc");
        match copies.exists() {
            true => configfs::set(&copies, "0"),
            // Older kernels have no such switch.
            false => Ok(()),
        }
    }

    /// Removes it, and the adapter with the last one. None is success.
    pub(super) fn remove(&self, name: &ExportName) -> Result<(), TargetError> {
        configfs::remove(&self.path(name))?;
        if configfs::objects(&self.adapter)?.is_empty() {
            configfs::remove(&self.adapter)?;
        }
        Ok(())
    }
}

/// The device's number, and whether the kernel refuses writes to it.
fn number_and_access(device: &Path) -> Result<((u64, u64), bool), TargetError> {
    let failed = configfs::fail("cannot look at", device);
    let metadata = fs::metadata(device).map_err(failed)?;
    if !metadata.file_type().is_block_device() {
        return Err(failed(io::Error::other("it is not a block device")));
    }
    let (major, minor) = (
        nix::sys::stat::major(metadata.rdev()),
        nix::sys::stat::minor(metadata.rdev()),
    );
    let flag = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/ro"));
    Ok(((major, minor), configfs::read(&flag)? == "1"))
}

/// `… Major: 253 Minor: 3  CLAIMED: IBLOCK`; `None` where the kernel does not say.
fn parse_number(info: &str) -> Option<(u64, u64)> {
    let (_, rest) = info.split_once("Major: ")?;
    let (major, rest) = rest.split_once(" Minor: ")?;
    let minor = rest.split_whitespace().next()?;
    Some((major.trim().parse().ok()?, minor.parse().ok()?))
}

/// `… UDEV PATH: /dev/x  readonly: 0 …`
fn parse_read_only(info: &str) -> Option<bool> {
    match info.split_once("readonly: ")?.1.split_whitespace().next()? {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// `T10 VPD Unit Serial Number: 0123…`
fn parse_serial(text: &str) -> String {
    text.rsplit_once(": ")
        .map_or(text, |(_, serial)| serial)
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_parsed() {
        let info = "Status: DEACTIVATED  Max Queue Depth: 0  SectorSize: 512\n        \
                    iBlock device: dm-3  UDEV PATH: /dev/vg0/a  readonly: 1\n  exclusive: 1\n        \
                    Major: 253 Minor: 3  CLAIMED: IBLOCK\n";
        assert_eq!(parse_number(info), Some((253, 3)));
        assert_eq!(parse_read_only(info), Some(true));
        assert_eq!(
            parse_read_only(&info.replace("only: 1", "only: 0")),
            Some(false)
        );
        for odd in ["", "readonly: ", "readonly: x Major: 1 Minor: "] {
            assert_eq!(parse_read_only(odd), None);
            assert_eq!(parse_number(odd), None);
        }
        assert_eq!(parse_serial("T10 VPD Unit Serial Number: 0a1b"), "0a1b");
    }

    #[test]
    fn only_block_devices_are_exported() {
        let root = tempfile::tempdir().unwrap();
        let names = Names::new("iqn.2026-01.test:a").unwrap();
        let stores = Backstores::new(root.path(), 1, names);
        let name = ExportName::Volume("a".parse().unwrap());
        for device in ["/dev/null", "/etc/passwd", "/nowhere"] {
            assert!(
                stores.make(&name, Path::new(device), "0").is_err(),
                "{device}"
            );
        }
        assert_eq!(stores.names().unwrap(), []);
    }
}
