//! Copies of files that share blocks, and which parts of a file hold data.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
};

use nix::{
    errno::Errno,
    libc::{EINVAL, ENOTTY, EOPNOTSUPP, EXDEV},
    unistd::{Whence, lseek},
};

use super::ioctl;
use crate::ByteRange;

const COPY_BYTES: usize = 1 << 20;

/// How a copy came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// The files share blocks; the copy is the source at one moment.
    Shared,
    /// The data was read and written; writes to the source meanwhile may be in it or not.
    Bytewise,
}

/// Fills an empty file with another's content, sharing blocks. Where the file system cannot, copies the data
/// if `allow_copy`, or fails with [`io::ErrorKind::Unsupported`].
pub(super) fn copy(target: &File, source: &File, allow_copy: bool) -> io::Result<Copied> {
    match ioctl::share_blocks(target, source) {
        Ok(()) => Ok(Copied::Shared),
        Err(error) => match error.raw_os_error() {
            Some(EOPNOTSUPP | EXDEV | EINVAL | ENOTTY) if allow_copy => {
                copy_data(target, source)?;
                Ok(Copied::Bytewise)
            }
            Some(EOPNOTSUPP | EXDEV | EINVAL | ENOTTY) => Err(io::ErrorKind::Unsupported.into()),
            _ => Err(error),
        },
    }
}

fn copy_data(target: &File, source: &File) -> io::Result<()> {
    let size_bytes = source.metadata()?.len();
    target.set_len(size_bytes)?;
    let mut buffer = vec![0; COPY_BYTES];
    for range in data_ranges(source, size_bytes)? {
        let mut offset = range.offset_bytes;
        let end = offset + range.length_bytes;
        while offset < end {
            let wanted = usize::try_from(end - offset)
                .unwrap_or(COPY_BYTES)
                .min(COPY_BYTES);
            let read = source.read_at(&mut buffer[..wanted], offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            target.write_all_at(&buffer[..read], offset)?;
            offset += read as u64;
        }
    }
    Ok(())
}

/// The parts of a file's first `size_bytes` that hold data, ascending; the rest are holes and read as zeroes.
pub(super) fn data_ranges(file: &File, size_bytes: u64) -> io::Result<Vec<ByteRange>> {
    let mut ranges = Vec::new();
    let mut from = 0;
    while from < size_bytes {
        let Some(start) = seek(file, from, Whence::SeekData)? else {
            break;
        };
        let end = seek(file, start, Whence::SeekHole)?.unwrap_or(size_bytes);
        let (start, end) = (start.min(size_bytes), end.min(size_bytes));
        // A file that is written meanwhile might answer anything; what is sure is progress.
        if end <= start {
            break;
        }
        ranges.push(ByteRange {
            offset_bytes: start,
            length_bytes: end - start,
        });
        from = end;
    }
    Ok(ranges)
}

/// The next position of that kind at or after `from`; `None` behind the last one.
fn seek(file: &File, from: u64, whence: Whence) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(|_| io::ErrorKind::InvalidInput)?;
    match lseek(file.as_fd(), from, whence) {
        Ok(at) => Ok(u64::try_from(at).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_data_and_the_holes() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.set_len(10 << 20).unwrap();
        source.write_all_at(&[7; 5000], 4 << 20).unwrap();
        source.write_all_at(&[8; 100], (10 << 20) - 100).unwrap();
        copy_data(&target, &source).unwrap();
        let size = target.metadata().unwrap().len();
        assert_eq!(size, 10 << 20);
        let ranges = data_ranges(&target, size).unwrap();
        let total: u64 = ranges.iter().map(|r| r.length_bytes).sum();
        assert!(total < 1 << 20, "{ranges:?}");
        let (mut left, mut right) = (vec![0; 10 << 20], vec![1; 10 << 20]);
        source.read_exact_at(&mut left, 0).unwrap();
        target.read_exact_at(&mut right, 0).unwrap();
        assert!(left == right);
    }

    #[test]
    fn an_empty_or_hollow_file_has_no_data() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(data_ranges(&file, 0).unwrap(), []);
        file.set_len(1 << 20).unwrap();
        assert_eq!(data_ranges(&file, 1 << 20).unwrap(), []);
        file.write_all_at(&[1], 0).unwrap();
        assert_eq!(
            data_ranges(&file, 1).unwrap(),
            [ByteRange {
                offset_bytes: 0,
                length_bytes: 1
            }]
        );
    }
}
