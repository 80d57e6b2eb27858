//! What can go wrong on the host.

use std::{
    io,
    path::{Path, PathBuf},
};

use stockpot_command::CommandError;
use stockpot_mountinfo::Malformed;

use super::FileSystem;

/// Why a mount, or what belongs to it, did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// A mount flag that is not taken.
    #[error("mount flag {flag:?} {why}")]
    Flag { flag: String, why: &'static str },
    /// Something else is mounted where the volume should be.
    #[error("{} is where {found} is mounted, not this volume", .path.display())]
    OtherMount { path: PathBuf, found: String },
    /// The volume is mounted there, in another way than is asked for.
    #[error("the volume is at {} already, {found}", .path.display())]
    Incompatible { path: PathBuf, found: String },
    /// Somebody is using it.
    #[error("{} is in use: {why}", .path.display())]
    Busy { path: PathBuf, why: String },
    /// A volume that came from a snapshot has nothing on it that could be mounted. It is never formatted.
    #[error("{} was made from a snapshot or another volume and holds no file system that can be mounted{}", .device.display(), if .found.is_empty() { String::new() } else { format!(" but {}", .found) })]
    NoFileSystem { device: PathBuf, found: String },
    /// The device holds something else than what is asked for. It is left alone.
    #[error("{} holds {found}, {wanted} was asked for", .device.display())]
    OtherContent {
        device: PathBuf,
        found: String,
        wanted: FileSystem,
    },
    /// The file system has errors that a person must look at.
    #[error("the file system on {} has errors that were not repaired: {report}", .device.display())]
    Damaged { device: PathBuf, report: String },
    /// What should be removed has something in it.
    #[error("{} is not empty and was left alone", .path.display())]
    NotEmpty { path: PathBuf },
    /// A file where a directory should be, or the other way round.
    #[error("{} is not {wanted}", .path.display())]
    WrongKind { path: PathBuf, wanted: &'static str },
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A system call failed.
    #[error("cannot {what} {}", .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The kernel's list of mounts has a line that cannot be read.
    #[error(transparent)]
    MountTable(#[from] Malformed),
}

impl MountError {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}
