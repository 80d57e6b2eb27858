//! Paths that lie on other machines. What is asked about a file there, its number included, may wait for ever where the other machine
//! is gone; so it is not asked about what is none of ours.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use stockpot_mountinfo as mountinfo;

use super::Number;

/// Kinds of file systems that wait for another machine, or for a program.
const KINDS: [&str; 10] = [
    "nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "lustre", "fuse", "autofs",
];

/// The mounts of a process that lie elsewhere, and those below them with whether they do too.
#[derive(Debug)]
pub struct Elsewhere(Vec<(PathBuf, bool)>);

impl Elsewhere {
    /// As this process sees it.
    ///
    /// # Errors
    /// If the kernel's list of mounts cannot be read.
    pub fn here() -> io::Result<Self> {
        Ok(Self::of(&fs::read(mountinfo::OWN)?, &[]))
    }

    /// From a table of mounts. File systems of these numbers are ours, wherever they lie.
    pub(crate) fn of(table: &[u8], ours: &[Number]) -> Self {
        let mounts = mountinfo::parse(table).flatten().map(|mount| {
            // `fuse.sshfs`
            let family = mount.kind.split('.').next().unwrap_or_default();
            let is_elsewhere = KINDS.contains(&family) && !ours.contains(&mount.number);
            (mount.point, is_elsewhere)
        });
        let mut mounts: Vec<_> = mounts.collect();
        let tops: Vec<_> = mounts
            .iter()
            .filter(|(_, is_elsewhere)| *is_elsewhere)
            .map(|(point, _)| point.clone())
            .collect();
        mounts.retain(|(point, _)| tops.iter().any(|top| point.starts_with(top)));
        Self(mounts)
    }

    /// Whether nothing lies elsewhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what the kernel calls so lies elsewhere: in the innermost mount that it is below, of several at one point the last.
    pub(crate) fn has(&self, path: &Path) -> bool {
        let above = self.0.iter().filter(|(point, _)| path.starts_with(point));
        let innermost = above.max_by_key(|(point, _)| point.components().count());
        innermost.is_some_and(|(_, is_elsewhere)| *is_elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_elsewhere_is_told_by_its_mount() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     23 22 0:50 / /mnt/a\\040b rw shared:1 - nfs4 host:/x rw\n\
                     24 23 8:2 / /mnt/a\\040b/local rw - xfs /dev/sda2 rw\n\
                     25 22 0:51 / /ours rw - nfs host:/y rw\n\
                     26 22 0:52 / /over rw - fuse.sshfs host: rw\n\
                     27 26 8:3 / /over rw - ext4 /dev/sda3 rw\n\
                     28 22 8:4 / /ntfs rw - fuseblk /dev/sda4 rw\nbroken\n";
        let elsewhere = Elsewhere::of(table, &[(0, 51)]);
        assert!(!elsewhere.is_empty());
        // What is neither there nor below is not kept.
        assert_eq!(elsewhere.0.len(), 4, "{elsewhere:?}");
        for (path, expected) in [
            ("/image", false),
            ("/mnt/a b", true),
            ("/mnt/a b/image (deleted)", true),
            ("/mnt/a bc", false),
            ("/mnt/a b/local/image", false),
            ("/ours/image", false),
            ("/over/image", false),
            ("/ntfs/image", false),
            ("socket:[812]", false),
        ] {
            assert_eq!(elsewhere.has(Path::new(path)), expected, "{path}");
        }
        assert!(Elsewhere::of(b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", &[]).is_empty());
    }
}
