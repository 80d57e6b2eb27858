//! The host: mounts, file systems, device sizes. All side effects of a node's calls but attaching are here.
//!
//! Every function asks the kernel what is there before it acts, so each can be repeated after a crash at any point.
//! A file system is made in two steps, with a label in between that marks it as half made (`filesystem`).

mod device;
mod error;
mod filesystem;
mod flags;
mod table;
mod target;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use stockpot_command::Command;

pub(crate) use device::Device;
pub(crate) use error::MountError;
pub(crate) use filesystem::{FileSystem, grow, prepare};
pub(crate) use flags::MountFlags;
pub(crate) use table::{Mount, MountTable};
pub(crate) use target::{Target, make_target, remove_target};

/// How long mounting may take: a journal is replayed meanwhile.
const MOUNT_DEADLINE: Duration = Duration::from_secs(300);

/// How long unmounting may take: dirty pages are written meanwhile.
const UNMOUNT_DEADLINE: Duration = Duration::from_secs(300);

/// How many mounts may lie on top of each other at one path before something must be wrong.
const STACKED_MOUNTS_MAX: usize = 16;

/// Mounts a device.
pub(crate) async fn mount_device(
    device: &Device,
    fs: FileSystem,
    options: &[String],
    at: &Path,
) -> Result<(), MountError> {
    let mut command = Command::new("mount").package("mount");
    command = command.args(["-t", fs.name()]);
    if !options.is_empty() {
        command = command.arg("-o").arg(options.join(","));
    }
    command
        .arg(device.path())
        .arg(at)
        .deadline(MOUNT_DEADLINE)
        .run()
        .await?;
    Ok(())
}

/// Makes `what`, a directory or a device node, visible at `at` as well.
pub(crate) async fn bind(what: &Path, at: &Path) -> Result<(), MountError> {
    Command::new("mount")
        .package("mount")
        .arg("--bind")
        .arg(what)
        .arg(at)
        .run()
        .await?;
    Ok(())
}

/// Makes a bind mount read-only; the file system below stays as it is.
pub(crate) async fn remount_read_only(at: &Path) -> Result<(), MountError> {
    Command::new("mount")
        .package("mount")
        .args(["-o", "remount,bind,ro"])
        .arg(at)
        .run()
        .await?;
    Ok(())
}

/// Unmounts all that is mounted at this path; nothing there is success.
pub(crate) async fn unmount_all(at: &Path) -> Result<(), MountError> {
    for _ in 0..STACKED_MOUNTS_MAX {
        let table = MountTable::read().await?;
        let Some(mount) = table.at(at) else {
            return Ok(());
        };
        let is_dead = mount.is_dead();
        let result = unmount(at, false).await;
        match result {
            Ok(()) => {}
            // The device is gone: nothing can be written any more, and whoever still has a file open gets errors.
            Err(_) if is_dead => unmount(at, true).await?,
            Err(error) => return Err(error),
        }
    }
    Err(MountError::Busy {
        path: at.to_owned(),
        why: format!("more than {STACKED_MOUNTS_MAX} mounts lie there"),
    })
}

async fn unmount(at: &Path, lazily: bool) -> Result<(), MountError> {
    let mut command = Command::new("umount")
        .package("mount")
        .deadline(UNMOUNT_DEADLINE);
    if lazily {
        command = command.arg("--lazy");
    }
    match command.arg(at).run().await {
        Ok(_) => Ok(()),
        Err(error) if error.stderr().contains("busy") => Err(MountError::Busy {
            path: at.to_owned(),
            why: error.stderr().to_owned(),
        }),
        // Somebody else was quicker.
        Err(error) if error.stderr().contains("not mounted") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The path with its parents' symbolic links followed, as the kernel's mount table has it. The last component is left
/// alone: touching it may hang or fail when what is mounted there is broken.
pub(crate) async fn resolve(path: &Path) -> Result<PathBuf, MountError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path.to_owned());
    };
    match tokio::fs::canonicalize(parent).await {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(source) => Err(MountError::io("resolve", parent, source)),
    }
}

/// Room on the file system that is mounted at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) total_bytes: u64,
    pub(crate) available_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) total_inodes: u64,
    pub(crate) free_inodes: u64,
}

/// Asks the file system for its room.
pub(crate) async fn usage(path: &Path) -> Result<Usage, MountError> {
    let asked = path.to_owned();
    let answer = tokio::task::spawn_blocking(move || nix::sys::statvfs::statvfs(&asked)).await;
    let answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(errno)) => return Err(MountError::io("stat", path, errno.into())),
        Err(join) => return Err(MountError::io("stat", path, std::io::Error::other(join))),
    };
    let block = answer.fragment_size();
    Ok(Usage {
        total_bytes: answer.blocks().saturating_mul(block),
        available_bytes: answer.blocks_available().saturating_mul(block),
        used_bytes: answer
            .blocks()
            .saturating_sub(answer.blocks_free())
            .saturating_mul(block),
        total_inodes: answer.files(),
        free_inodes: answer.files_free(),
    })
}
