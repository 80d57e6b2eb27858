//! A block device on this host.

use std::{
    fs::Metadata,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use stockpot_command::Command;
use tokio::io::AsyncReadExt;

use super::MountError;

/// How much of a device is read before it is believed to be readable, in bytes.
const READ_PROBE_BYTES: usize = 64 << 10;

/// A block device: its path and what the kernel knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    path: PathBuf,
    major: u64,
    minor: u64,
}

impl Device {
    /// The device at this path; symbolic links are followed.
    pub(crate) async fn open(path: &Path) -> Result<Self, MountError> {
        let metadata = tokio::fs::metadata(path)
            .await
            .map_err(|e| MountError::io("find device", path, e))?;
        let (major, minor) =
            Self::numbers_of_node(&metadata).ok_or_else(|| MountError::WrongKind {
                path: path.to_owned(),
                wanted: "a block device",
            })?;
        Ok(Self {
            path: path.to_owned(),
            major,
            minor,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor number.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        (self.major, self.minor)
    }

    /// The numbers of a block device's node; `None` if it is something else.
    pub(crate) fn numbers_of_node(metadata: &Metadata) -> Option<(u64, u64)> {
        metadata.file_type().is_block_device().then(|| {
            let rdev = metadata.rdev();
            (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev))
        })
    }

    /// Its size, as the kernel has it now.
    pub(crate) async fn size_bytes(&self) -> Result<u64, MountError> {
        // In units of 512 bytes, whatever the device's own sectors are.
        Ok(self.attribute("size").await?.saturating_mul(512))
    }

    /// Whether the kernel refuses to write to it.
    pub(crate) async fn is_read_only(&self) -> Result<bool, MountError> {
        Ok(self.attribute("ro").await? != 0)
    }

    /// Makes the kernel refuse, or allow, writing to it.
    pub(crate) async fn set_read_only(&self, read_only: bool) -> Result<(), MountError> {
        Command::new("blockdev")
            .package("util-linux")
            .arg(if read_only { "--setro" } else { "--setrw" })
            .arg(&self.path)
            .run()
            .await?;
        Ok(())
    }

    /// Writes what is still in the kernel's buffers.
    pub(crate) async fn flush(&self) -> Result<(), MountError> {
        Command::new("blockdev")
            .package("util-linux")
            .arg("--flushbufs")
            .arg(&self.path)
            .deadline(Duration::from_secs(300))
            .run()
            .await?;
        Ok(())
    }

    /// Reads its beginning: `blkid` calls a device that it cannot read an empty one.
    pub(crate) async fn check_readable(&self) -> Result<(), MountError> {
        let failed = |e| MountError::io("read", &self.path, e);
        let mut file = tokio::fs::File::open(&self.path).await.map_err(failed)?;
        let mut buffer = vec![0; READ_PROBE_BYTES];
        let mut seen = 0;
        while seen < buffer.len() {
            match file.read(&mut buffer[seen..]).await.map_err(failed)? {
                0 => break,
                n => seen += n,
            }
        }
        if seen == 0 {
            return Err(failed(std::io::Error::other("the device has no size")));
        }
        Ok(())
    }

    /// A number from the device's directory in sysfs.
    async fn attribute(&self, name: &'static str) -> Result<u64, MountError> {
        let path = PathBuf::from(format!(
            "/sys/dev/block/{}:{}/{name}",
            self.major, self.minor
        ));
        let text = tokio::fs::read_to_string(&path)
            .await
            .map_err(|e| MountError::io("read", &path, e))?;
        let text = text.trim();
        text.parse().map_err(|_| {
            let why = format!("{text:?} is not a number");
            MountError::io("understand", &path, std::io::Error::other(why))
        })
    }
}
