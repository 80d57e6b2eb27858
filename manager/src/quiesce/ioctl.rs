//! Freezing a file system (`FIFREEZE`, `FITHAW` of `linux/fs.h`; fsfreeze(8)).
#![expect(unsafe_code, reason = "the kernel offers these as ioctls only")]

use std::{fs::File, io, os::fd::AsRawFd};

use nix::libc::c_int;

// The argument is not looked at.
nix::ioctl_write_int_bad!(
    fifreeze,
    nix::request_code_readwrite!(b'X', 119, size_of::<c_int>())
);
nix::ioctl_write_int_bad!(
    fithaw,
    nix::request_code_readwrite!(b'X', 120, size_of::<c_int>())
);

/// Flushes the file system that `file` lies on and holds writers off; `EBUSY` if somebody did so already.
pub(super) fn freeze(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, which takes no pointer.
    unsafe { fifreeze(file.as_raw_fd(), 0) }?;
    Ok(())
}

/// Lets writers go on; `EINVAL` if they are not held off.
pub(super) fn thaw(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, which takes no pointer.
    unsafe { fithaw(file.as_raw_fd(), 0) }?;
    Ok(())
}

/// Lets writers go on whom nobody else will; whether they were held off.
pub(super) fn thaw_if_frozen(file: &File) -> io::Result<bool> {
    match thaw(file) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let number = |n| nix::request_code_readwrite!(b'X', n, size_of::<c_int>());
        assert_eq!((number(119), number(120)), (0xc004_5877, 0xc004_5878));
    }
}
