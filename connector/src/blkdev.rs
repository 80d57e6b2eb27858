//! Questions to the kernel about one open block device (`linux/fs.h`).
#![expect(unsafe_code, reason = "the block layer is asked by ioctl")]

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileTypeExt},
};

use nix::libc::c_int;

nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), c_int);
nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), c_int);
nix::ioctl_none_bad!(blkflsbuf, nix::request_code_none!(0x12, 97));

/// Whether this is a block device at all; the other calls are for block devices only.
pub(crate) fn is_block_device(device: &File) -> io::Result<bool> {
    Ok(device.metadata()?.file_type().is_block_device())
}

/// The device's size in bytes.
pub(crate) fn size_bytes(device: &File) -> io::Result<u64> {
    let mut size = 0;
    // SAFETY: the descriptor is open for the whole call and BLKGETSIZE64 writes one u64 to the pointer.
    unsafe { blkgetsize64(device.as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// Whether the kernel refuses writes to the device.
pub(crate) fn is_read_only(device: &File) -> io::Result<bool> {
    let mut flag = 0;
    // SAFETY: the descriptor is open for the whole call and BLKROGET writes one int to the pointer.
    unsafe { blkroget(device.as_raw_fd(), &raw mut flag) }?;
    Ok(flag != 0)
}

/// Sets or clears the block layer's read-only flag. A device whose driver is read-only stays so.
pub(crate) fn set_read_only(device: &File, read_only: bool) -> io::Result<()> {
    let flag = c_int::from(read_only);
    // SAFETY: the descriptor is open for the whole call and BLKROSET reads one int from the pointer.
    unsafe { blkroset(device.as_raw_fd(), &raw const flag) }?;
    Ok(())
}

/// Writes out what the kernel holds for the device, and forgets it.
pub(crate) fn flush(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call and BLKFLSBUF takes no argument.
    unsafe { blkflsbuf(device.as_raw_fd()) }?;
    Ok(())
}
