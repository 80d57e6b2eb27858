//! Comparing files and block devices, and finding their holes.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::{BUFFER_BYTES, piece};

/// How two files differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Their bytes differ, first at this offset.
    At(u64),
    /// One is the beginning of the other; these are their sizes.
    Sizes(u64, u64),
}

/// Compares two files or block devices byte by byte; `None` if they are the same.
///
/// # Errors
/// Those of reading.
pub fn first_difference(a: &Path, b: &Path) -> io::Result<Option<Difference>> {
    let (a, b) = (File::open(a)?, File::open(b)?);
    let sizes = (length(&a)?, length(&b)?);
    let end = sizes.0.min(sizes.1);
    let (mut left, mut right) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut offset = 0;
    while offset < end {
        let piece = piece(end - offset);
        a.read_exact_at(&mut left[..piece], offset)?;
        b.read_exact_at(&mut right[..piece], offset)?;
        if let Some(at) = mismatch(&left[..piece], &right[..piece]) {
            return Ok(Some(Difference::At(offset + at as u64)));
        }
        offset += piece as u64;
    }
    Ok((sizes.0 != sizes.1).then_some(Difference::Sizes(sizes.0, sizes.1)))
}

pub(super) fn mismatch(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        None
    } else {
        a.iter().zip(b).position(|(a, b)| a != b)
    }
}

/// The size of a file or a block device.
///
/// # Errors
/// Those of seeking.
pub fn length(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// The extents of a file that are not holes, in order. A file system that knows no holes has one extent.
///
/// # Errors
/// Those of seeking.
pub fn data_extents(path: &Path) -> io::Result<Vec<Range<u64>>> {
    let file = File::open(path)?;
    let size = length(&file)?;
    let mut extents = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match seek(&file, offset, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(&file, start, Whence::SeekHole)?;
        extents.push(start..end);
        offset = end;
    }
    Ok(extents)
}

fn seek(file: &File, offset: u64, whence: Whence) -> Result<u64, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    lseek(file, offset, whence).and_then(|found| u64::try_from(found).map_err(|_| Errno::EINVAL))
}

/// How many bytes a file takes on its file system.
///
/// # Errors
/// Those of asking for it.
pub fn allocated_bytes(path: &Path) -> io::Result<u64> {
    // The unit is 512 bytes whatever the file system's block size is (stat(2)).
    Ok(std::fs::metadata(path)?.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Fill, Image};

    #[test]
    fn holes_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let image = Image::new(64 << 20)
            .extent(1 << 20, 1 << 20, Fill::Random(1))
            .extent(32 << 20, 1 << 20, Fill::Zero);
        image.write_to(&path).unwrap().sync_all().unwrap();
        assert_eq!(
            data_extents(&path).unwrap(),
            [1 << 20..2 << 20, 32 << 20..33 << 20]
        );
        assert!(allocated_bytes(&path).unwrap() <= 3 << 20);
        Image::new(5 << 20).write_to(&path).unwrap();
        assert_eq!(data_extents(&path).unwrap(), []);
    }

    #[test]
    fn differences_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        let image = Image::new((2 << 20) + 3).extent(0, 3 << 20, Fill::Random(1));
        image.write_to(&a).unwrap();
        let file = image.write_to(&b).unwrap();
        assert_eq!(first_difference(&a, &b).unwrap(), None);
        file.set_len(5).unwrap();
        assert_eq!(
            first_difference(&a, &b).unwrap(),
            Some(Difference::Sizes((2 << 20) + 3, 5))
        );
        let file = image.write_to(&b).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, (2 << 20) + 1).unwrap();
        file.write_all_at(&[byte[0] ^ 1], (2 << 20) + 1).unwrap();
        assert_eq!(
            first_difference(&a, &b).unwrap(),
            Some(Difference::At((2 << 20) + 1))
        );
    }
}
