//! The two system calls that have no safe wrapper: file leases and dropping a device's cache.
#![expect(
    unsafe_code,
    reason = "fcntl(F_SETLEASE) and ioctl(BLKFLSBUF) have no safe wrapper"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
};

/// Whether anybody, kernel included, has a file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// Nobody has.
    Free,
    /// Somebody has.
    Taken,
    /// The file system or the permissions do not let us know.
    Unknown,
}

/// Asks whether somebody has `file` open for writing: a read lease is granted only if nobody has
/// (fcntl(2), `F_SETLEASE`). The lease is given back at once, so nobody is ever held up by it.
/// `file` itself must be open for reading only.
pub(super) fn writers_of(file: &File) -> Lease {
    let fd: RawFd = file.as_raw_fd();
    // SAFETY: fcntl with F_SETLEASE takes an integer and touches no memory of ours; `fd` is open for the call.
    let taken = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) };
    if taken == -1 {
        return match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EBUSY) => Lease::Taken,
            _ => Lease::Unknown,
        };
    }
    // SAFETY: as above.
    let given_back = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
    if given_back == -1 {
        tracing::debug!(error = %io::Error::last_os_error(), "a file lease was broken before it was given back");
    }
    Lease::Free
}

// linux/fs.h: #define BLKFLSBUF _IO(0x12,97)
const BLKFLSBUF: libc::Ioctl = 0x1261;

/// Writes a block device's dirty pages and drops its cache, so that what is read next comes from the medium.
///
/// # Errors
/// As the kernel answers; it needs `CAP_SYS_ADMIN`.
pub(super) fn drop_block_cache(file: &File) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument; `file` is open for the call.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), BLKFLSBUF, 0) };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
