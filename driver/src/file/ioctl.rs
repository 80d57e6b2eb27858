//! System calls that the standard library has not: sharing blocks (`ioctl_ficlone(2)`), where a file's blocks lie
//! (the kernel's `fiemap.rst`), loop devices (`loop(4)`).
#![expect(unsafe_code, reason = "the kernel offers these as ioctls only")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
};

use nix::libc::c_int;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LoopInfo {
    pub(super) device: u64,
    pub(super) inode: u64,
    rdevice: u64,
    pub(super) offset: u64,
    pub(super) size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub(super) flags: u32,
    pub(super) file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
pub(super) struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// How many extents one call asks for.
const EXTENTS_PER_CALL: usize = 128;

/// `struct fiemap_extent` of `linux/fiemap.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileExtent {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) length: u64,
    reserved64: [u64; 2],
    pub(super) flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap` of `linux/fiemap.h`, with room for extents.
#[repr(C)]
pub(super) struct FileMap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [FileExtent; EXTENTS_PER_CALL],
}

/// Data that is still in memory only is given its place before the answer.
const FIEMAP_FLAG_SYNC: u32 = 1;
pub(super) const EXTENT_LAST: u32 = 1;
pub(super) const EXTENT_UNWRITTEN: u32 = 0x800;
pub(super) const EXTENT_SHARED: u32 = 0x2000;
/// The place is not known, or the bytes there are not those of the file, or not only its own: unknown, delayed,
/// compressed, encrypted, unaligned, inline, tail.
pub(super) const EXTENT_UNSURE: u32 = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400;

pub(super) const READ_ONLY: u32 = 1;
pub(super) const AUTOCLEAR: u32 = 4;
pub(super) const DIRECT_IO: u32 = 16;

impl LoopInfo {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

nix::ioctl_write_int!(ficlone, 0x94, 9);
// The number holds the size of the header alone.
nix::ioctl_readwrite_bad!(
    fs_ioc_fiemap,
    nix::request_code_readwrite!(b'f', 11, 32),
    FileMap
);
nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, LoopConfig);
nix::ioctl_none_bad!(loop_clr_fd, 0x4C01);
nix::ioctl_write_ptr_bad!(loop_set_status64, 0x4C04, LoopInfo);
nix::ioctl_read_bad!(loop_get_status64, 0x4C05, LoopInfo);
nix::ioctl_none_bad!(loop_set_capacity, 0x4C07);

/// Makes `target` share all blocks of `source`; atomic against writes to `source`.
pub(super) fn share_blocks(target: &File, source: &File) -> io::Result<()> {
    let source = nix::libc::c_ulong::from(descriptor(source)?);
    // SAFETY: both descriptors are open for the whole call, which takes no pointer.
    unsafe { ficlone(target.as_raw_fd(), source) }?;
    Ok(())
}

/// The first extents of a file that touch `start..end`, ascending; empty if there are no more.
pub(super) fn file_extents(file: &File, start: u64, end: u64) -> io::Result<Vec<FileExtent>> {
    const NONE: FileExtent = FileExtent {
        logical: 0,
        physical: 0,
        length: 0,
        reserved64: [0; 2],
        flags: 0,
        reserved: [0; 3],
    };
    let mut map = Box::new(FileMap {
        start,
        length: end.saturating_sub(start),
        flags: FIEMAP_FLAG_SYNC,
        mapped_extents: 0,
        extent_count: u32::try_from(EXTENTS_PER_CALL).expect("a small number"),
        reserved: 0,
        extents: [NONE; EXTENTS_PER_CALL],
    });
    // SAFETY: the descriptor is open for the whole call; the kernel reads and writes one FileMap, laid out as its own,
    // with room for as many extents as `extent_count` says.
    unsafe { fs_ioc_fiemap(file.as_raw_fd(), &raw mut *map) }?;
    let found = usize::try_from(map.mapped_extents).map_err(|_| io::ErrorKind::InvalidData)?;
    let extents = map.extents.get(..found).ok_or(io::ErrorKind::InvalidData)?;
    Ok(extents.to_vec())
}

/// The number of a loop device that is free now.
pub(super) fn free_loop(control: &File) -> io::Result<c_int> {
    // SAFETY: the descriptor is open for the whole call, which takes no pointer.
    Ok(unsafe { loop_ctl_get_free(control.as_raw_fd()) }?)
}

/// Binds a free loop device to a file, all in one step (Linux 5.8).
pub(super) fn configure_loop(
    device: &File,
    image: &File,
    file_name: [u8; 64],
    block_size: u32,
    flags: u32,
) -> io::Result<()> {
    let config = LoopConfig {
        fd: descriptor(image)?,
        block_size,
        info: LoopInfo {
            flags,
            file_name,
            ..LoopInfo::EMPTY
        },
        reserved: [0; 8],
    };
    // SAFETY: both descriptors are open for the whole call; the kernel reads one LoopConfig, laid out as its own.
    unsafe { loop_configure(device.as_raw_fd(), &raw const config) }?;
    Ok(())
}

/// What a loop device is bound to; `ENXIO` if to nothing.
pub(super) fn loop_info(device: &File) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::EMPTY;
    // SAFETY: the descriptor is open for the whole call; the kernel writes one LoopInfo, laid out as its own.
    unsafe { loop_get_status64(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// Changes what can be changed on a bound loop device: here, its flags.
pub(super) fn set_loop_info(device: &File, info: &LoopInfo) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call; the kernel reads one LoopInfo, laid out as its own.
    unsafe { loop_set_status64(device.as_raw_fd(), &raw const *info) }?;
    Ok(())
}

/// Unbinds a loop device, at the latest when its last user closes it.
pub(super) fn unbind_loop(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, which takes no pointer.
    unsafe { loop_clr_fd(device.as_raw_fd()) }?;
    Ok(())
}

/// Makes a loop device as large as its file is now.
pub(super) fn update_loop_size(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, which takes no pointer.
    unsafe { loop_set_capacity(device.as_raw_fd()) }?;
    Ok(())
}

fn descriptor(file: &File) -> io::Result<u32> {
    let fd: RawFd = file.as_raw_fd();
    u32::try_from(fd).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::file) fn extent(logical: u64, physical: u64, length: u64) -> FileExtent {
        FileExtent {
            logical,
            physical,
            length,
            reserved64: [0; 2],
            flags: 0,
            reserved: [0; 3],
        }
    }

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(size_of::<FileExtent>(), 56);
        assert_eq!(std::mem::offset_of!(FileMap, extents), 32);
    }
}
