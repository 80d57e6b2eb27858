//! What a block device carries, as far as the well-known signatures in its first and last MiB tell.
//!
//! The places are those of the formats' own descriptions, as `blkid` and `wipefs` know them too. A device without a known
//! signature may hold data all the same: this keeps from mistakes, it proves nothing.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// How much is read at each end, in bytes.
const END_BYTES: u64 = 1 << 20;

/// Bytes at a place from the device's first byte.
const AT_START: [(&str, usize, &[u8]); 33] = [
    ("an LVM physical volume", 24, b"LVM2 001"),
    ("an LVM physical volume", 512 + 24, b"LVM2 001"),
    ("an LVM physical volume", 1024 + 24, b"LVM2 001"),
    ("an LVM physical volume", 1536 + 24, b"LVM2 001"),
    ("a LUKS volume", 0, b"LUKS\xba\xbe"),
    ("a LUKS volume", 16 << 10, b"SKUL\xba\xbe"),
    ("a BitLocker volume", 3, b"-FVE-FS-"),
    ("a RAID member", 0, &MD_RAID),
    ("a RAID member", 4096, &MD_RAID),
    ("an ext2, ext3 or ext4 file system", 0x438, b"\x53\xef"),
    ("an XFS file system", 0, b"XFSB"),
    ("a Btrfs file system", 0x1_0040, b"_BHRfS_M"),
    ("an F2FS file system", 1024, b"\x10\x20\xf5\xf2"),
    ("an EROFS file system", 1024, b"\xe2\xe1\xf5\xe0"),
    ("a SquashFS file system", 0, b"hsqs"),
    ("a JFS file system", 32 << 10, b"JFS1"),
    ("a ReiserFS file system", (64 << 10) + 52, b"ReIsEr"),
    ("a GFS2 file system", 64 << 10, b"\x01\x16\x19\x70"),
    ("an OCFS2 file system", 1024, b"OCFSV2"),
    ("an OCFS2 file system", 4096, b"OCFSV2"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("a FAT file system", 54, b"FAT1"),
    ("a FAT file system", 82, b"FAT32   "),
    ("an APFS container", 32, b"NXSB"),
    ("an ISO 9660 or UDF file system", 32_769, b"CD001"),
    ("an ISO 9660 or UDF file system", 32_769, b"BEA01"),
    (
        "a bcache device",
        4096 + 24,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca",
    ),
    ("a Ceph device", 0, b"bluestore block device"),
    ("a GPT partition table", 512, b"EFI PART"),
    ("a GPT partition table", 4096, b"EFI PART"),
    // The last two are in many boot sectors as well: what is more telling comes first.
    ("a GRUB boot sector", 384, b"GRUB"),
    ("a partition table or boot sector", 510, b"\x55\xaa"),
];

/// The magic number of Linux' software RAID.
const MD_RAID: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];

/// The magic number of ZFS' uberblocks, of which each label has up to 128.
const ZFS: [[u8; 8]; 2] = [
    [0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0xba, 0xb1, 0x0c],
];

/// What the device carries, in words; `None` if nothing is known there.
///
/// # Errors
/// As reading the device.
pub(crate) fn find(path: &Path) -> io::Result<Option<&'static str>> {
    let mut device = File::open(path)?;
    let size_bytes = device.seek(SeekFrom::End(0))?;
    let length = usize::try_from(size_bytes.min(END_BYTES)).expect("at most 1 MiB");
    let mut bytes = vec![0; length];
    device.read_exact_at(&mut bytes, 0)?;
    if let Some(found) = at_start(&bytes) {
        return Ok(Some(found));
    }
    device.read_exact_at(&mut bytes, size_bytes - length as u64)?;
    Ok(at_end(&bytes, size_bytes))
}

fn at_start(bytes: &[u8]) -> Option<&'static str> {
    let known = AT_START.iter();
    let mut known = known.filter(|(_, place, magic)| has(bytes, *place, magic));
    if let Some((what, _, _)) = known.next() {
        return Some(what);
    }
    // At the end of the first page, whatever its size was on the machine that made it.
    for page in [4096, 8192, 16_384, 32_768, 65_536] {
        if has(bytes, page - 10, b"SWAPSPACE2") || has(bytes, page - 10, b"SWAP-SPACE") {
            return Some("swap space");
        }
    }
    has_zfs(bytes).then_some("a ZFS pool's device")
}

fn at_end(bytes: &[u8], size_bytes: u64) -> Option<&'static str> {
    let start = size_bytes - bytes.len() as u64;
    let has_at = |place: Option<u64>, magic: &[u8]| {
        place
            .and_then(|place| usize::try_from(place.checked_sub(start)?).ok())
            .is_some_and(|place| has(bytes, place, magic))
    };
    for sector in [512, 4096] {
        if has_at(size_bytes.checked_sub(sector), b"EFI PART") {
            return Some("the copy of a GPT partition table at its end");
        }
    }
    // Metadata 1.0: 8 KiB before the end, rounded down to 4 KiB; 0.90: the last whole 64 KiB.
    let new = size_bytes.checked_sub(8 << 10).map(|at| at & !0xfff);
    let old = (size_bytes & !0xffff).checked_sub(64 << 10);
    if has_at(new, &MD_RAID) || has_at(old, &MD_RAID) {
        return Some("a RAID member");
    }
    has_zfs(bytes).then_some("a ZFS pool's device")
}

fn has(bytes: &[u8], place: usize, magic: &[u8]) -> bool {
    bytes.get(place..place + magic.len()) == Some(magic)
}

/// Four labels of 256 KiB, two at each end; in the second half of each uberblocks, on whole KiB.
fn has_zfs(bytes: &[u8]) -> bool {
    bytes
        .chunks_exact(1024)
        .any(|block| ZFS.iter().any(|magic| block.starts_with(magic)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A device of that size with these bytes at that place.
    fn with(size: usize, place: usize, magic: &[u8]) -> tempfile::NamedTempFile {
        let mut bytes = vec![0x5b; size];
        bytes[place..place + magic.len()].copy_from_slice(magic);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    fn found(size: usize, place: usize, magic: &[u8]) -> Option<&'static str> {
        let file = with(size, place, magic);
        find(file.path()).unwrap()
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn both_ends_are_looked_at_and_nothing_else() {
        assert_eq!(found(4 * MIB, 2 * MIB, b"EFI PART"), None);
        assert!(found(4 * MIB, 0, b"XFSB").is_some_and(|what| what.contains("XFS")));
        let last = found(4 * MIB, 4 * MIB - 512, b"EFI PART").unwrap();
        assert!(last.contains("GPT"), "{last}");
        let raid = found(4 * MIB + 512, 4 * MIB - 8192, &MD_RAID).unwrap();
        assert!(raid.contains("RAID"), "{raid}");
        assert!(found(4 * MIB, 4096 - 10, b"SWAPSPACE2").is_some());
        assert!(found(4 * MIB, 4 * MIB - (100 << 10), &ZFS[0]).is_some());
    }

    #[test]
    fn small_devices_are_read_as_far_as_they_go() {
        for size in [0, 1, 512, 1024, 70_000] {
            assert_eq!(found(size, 0, b""), None, "{size}");
        }
        assert!(found(512, 510, b"\x55\xaa").is_some());
    }
}
