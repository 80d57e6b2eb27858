//! The kernel's list of mounts, `/proc/self/mountinfo` (proc(5)).

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{Device, MountError};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Major and minor number of the file system's device.
    pub(crate) device: (u64, u64),
    pub(crate) mount_point: PathBuf,
    /// The mount, or the file system below it, is read-only.
    pub(crate) read_only: bool,
    pub(crate) fs_type: String,
    pub(crate) source: String,
}

impl Mount {
    /// Whether the block device of the file system is gone.
    pub(crate) fn is_dead(&self) -> bool {
        let (major, minor) = self.device;
        // Major 0 is what file systems without a device have.
        major != 0 && !Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists()
    }

    /// Whether this is a device node, bound onto a file, of that device.
    fn is_node_of(&self, device: &Device) -> bool {
        // A node lies on devtmpfs, or on a tmpfs that stands in for it.
        matches!(self.fs_type.as_str(), "devtmpfs" | "tmpfs")
            && std::fs::symlink_metadata(&self.mount_point)
                .is_ok_and(|m| Device::numbers_of_node(&m) == Some(device.numbers()))
    }
}

/// All mounts that this process sees, in the order in which they were made.
#[derive(Debug)]
pub(crate) struct MountTable(Vec<Mount>);

impl MountTable {
    /// Asks the kernel.
    pub(crate) async fn read() -> Result<Self, MountError> {
        let bytes = tokio::fs::read(MOUNTINFO)
            .await
            .map_err(|e| MountError::io("read", Path::new(MOUNTINFO), e))?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, MountError> {
        bytes
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                parse_line(line).ok_or_else(|| MountError::MountTable {
                    line: String::from_utf8_lossy(line).into_owned(),
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What is mounted at this path: the topmost where several are.
    pub(crate) fn at(&self, path: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|m| m.mount_point == path)
    }

    /// Where the device's file system is mounted, or its node bound.
    pub(crate) fn of<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = &'a Mount> {
        self.0
            .iter()
            .filter(|m| m.device == device.numbers() || m.is_node_of(device))
    }
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/x rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let (_id, _parent) = (fields.next()?, fields.next()?);
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let _root = fields.next()?;
    let mount_point = unescape(fields.next()?);
    let options = fields.next()?;
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = fields.next()?;
    let source = fields.next()?;
    let super_options = fields.next().unwrap_or_default();
    let is_read_only = |options: &[u8]| options.split(|b| *b == b',').any(|o| o == b"ro");
    Some(Mount {
        device,
        mount_point: PathBuf::from(OsString::from_vec(mount_point)),
        read_only: is_read_only(options) || is_read_only(super_options),
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        source: String::from_utf8_lossy(&unescape(source)).into_owned(),
    })
}

/// Blank, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match octal {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines() {
        let text = b"22 1 0:5 / / rw,relatime shared:1 - hostfs none rw\n\
            36 22 98:16 / /a\\040b/mnt ro,noatime master:1 propagate_from:2 - ext4 /dev/ubdb rw,errors=continue\n\
            37 22 98:16 / /a\\040b/mnt rw - xfs /dev/ubdb ro\n";
        let table = MountTable::parse(text).unwrap();
        let top = table.at(Path::new("/a b/mnt")).unwrap();
        assert_eq!(top.fs_type, "xfs");
        assert_eq!(top.device, (98, 16));
        assert!(top.read_only);
        assert!(table.0[1].read_only);
        assert!(!table.0[0].read_only);
        assert!(table.at(Path::new("/a b")).is_none());
        for bad in [
            "x",
            "1 2 3",
            "1 2 x:y / / rw - a b c",
            "1 2 0:1 / / rw a b c",
        ] {
            assert!(MountTable::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn unescapes() {
        assert_eq!(unescape(br"a\040b\134c\011"), b"a b\\c\t");
        for odd in [r"\", r"\04", r"\999", r"a\"] {
            assert_eq!(unescape(odd.as_bytes()), odd.as_bytes(), "{odd}");
        }
    }

    #[tokio::test]
    async fn reads_the_table_of_this_machine() {
        let table = MountTable::read().await.unwrap();
        assert!(table.at(Path::new("/")).is_some());
    }
}
