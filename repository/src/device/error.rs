//! What can go wrong with a device or file.

use std::{io, path::PathBuf};

/// Failures of a source or target, by what a user can do about them.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It cannot be opened, or asked for its size.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is neither a block device nor a regular file.
    #[error("{} is {what}; it has to be a block device or an image file", .path.display())]
    Unsuitable {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// There is nothing in it.
    #[error("{} has a size of 0 bytes: there is nothing to read", .path.display())]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else uses it.
    #[error("{} is in use: {by}; stop that first, or force it (--force)", .path.display())]
    InUse {
        /// The path.
        path: PathBuf,
        /// Who uses it and how.
        by: String,
    },
    /// Another restore fills it, also where `force` is set.
    #[error("{} is locked by another program, such as a restore that fills it: wait for its end, or name another target", .path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The target cannot hold the volume.
    #[error("{} has {size_bytes} bytes, the volume needs {needed_bytes}", .path.display())]
    TooSmall {
        /// The path.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// The volume's size.
        needed_bytes: u64,
    },
    /// The target file has content already.
    #[error("{} exists and is not empty; name another file, or force it (--force)", .path.display())]
    NotEmpty {
        /// The path.
        path: PathBuf,
    },
    /// Reading failed: a bad medium, or a device that vanished.
    #[error("cannot read {} at byte {offset}", .path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The source ended before the size that it had when it was opened.
    #[error("{} ended at byte {offset} of {size_bytes}: it was shortened or removed while it was read", .path.display())]
    Shrank {
        /// The path.
        path: PathBuf,
        /// Where it ended.
        offset: u64,
        /// The size that it had.
        size_bytes: u64,
    },
    /// The source file was written to while it was read.
    #[error("{} was changed while it was read; back up a snapshot of it, or force it (--force)", .path.display())]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// There is no room for the target's data.
    #[error("no space left for {} at byte {offset}", .path.display())]
    NoSpace {
        /// The path.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
    },
    /// Writing failed.
    #[error("cannot write {} at byte {offset}", .path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something got the new file's name while it was filled.
    #[error("{} was made by somebody else while the volume was restored, and is left as it is; name another file", .path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// The new file is whole, but cannot be given its name.
    #[error("cannot give the restored file its name {}", .path.display())]
    Place {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// What was written did not reach the medium.
    #[error("cannot flush {}", .path.display())]
    Flush {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl DeviceError {
    pub(super) fn write(path: &std::path::Path, offset: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                DeviceError::NoSpace { path, offset }
            }
            _ => DeviceError::Write {
                path,
                offset,
                source,
            },
        }
    }
}
