//! A second handle of an open file, one that passes the page cache by.

use std::{
    fs::{File, OpenOptions},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

/// Opens what `file` has open once more, with `O_DIRECT`: the same for certain, whatever has its name by now. `None`
/// where the file system has no direct I/O (EINVAL).
pub(super) fn twin(file: &File, options: &mut OpenOptions) -> Option<File> {
    options
        .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .inspect_err(|error| tracing::debug!(%error, "no direct I/O: the page cache is used"))
        .ok()
}
