//! The kernel's list of mounts, `/proc/self/mountinfo` (proc(5)).

use std::path::{Path, PathBuf};

use stockpot_mountinfo as mountinfo;

use super::{Device, MountError};

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
    lies_among_nodes: bool,
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
        self.lies_among_nodes
            && std::fs::symlink_metadata(&self.mount_point)
                .is_ok_and(|m| Device::numbers_of_node(&m) == Some(device.numbers()))
    }
}

impl From<mountinfo::Mount> for Mount {
    fn from(mount: mountinfo::Mount) -> Self {
        let (major, minor) = mount.number;
        Self {
            device: (major.into(), minor.into()),
            read_only: mount.is_read_only() || mount.is_read_only_below(),
            lies_among_nodes: mount.lies_among_nodes(),
            mount_point: mount.point,
            fs_type: mount.kind,
            source: mount.source,
        }
    }
}

/// All mounts that this process sees, in the order in which they were made.
#[derive(Debug)]
pub(crate) struct MountTable(Vec<Mount>);

impl MountTable {
    /// Asks the kernel.
    pub(crate) async fn read() -> Result<Self, MountError> {
        let bytes = tokio::fs::read(mountinfo::OWN)
            .await
            .map_err(|e| MountError::io("read", Path::new(mountinfo::OWN), e))?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, MountError> {
        let mounts = mountinfo::parse(bytes).map(|mount| Ok(mount?.into()));
        mounts.collect::<Result<_, _>>().map(Self)
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
        assert!(MountTable::parse(b"1 2 0:1 / / rw a b c").is_err());
    }

    #[tokio::test]
    async fn reads_the_table_of_this_machine() {
        let table = MountTable::read().await.unwrap();
        assert!(table.at(Path::new("/")).is_some());
    }
}
