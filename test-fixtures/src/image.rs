//! Disk images for tests: sparse, of any size, with content that follows from a seed; and comparison of files and
//! block devices.
//!
//! ```
//! use stockpot_test_fixtures::image::{Fill, Image};
//!
//! # fn main() -> std::io::Result<()> {
//! let image = Image::new(1 << 30).extent(4096, 8192, Fill::Random(1)).extent(1 << 20, 100, Fill::Text(2));
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("image");
//! image.write_to(&path)?;
//! assert_eq!(image.first_difference(&path)?, None);
//! # Ok(())
//! # }
//! ```

mod compare;
mod content;

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

pub use compare::{Difference, allocated_bytes, data_extents, first_difference, length};

/// Bytes written or compared at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// What an extent is filled with. The same seed gives the same byte at the same offset of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Zeros that are written, unlike a hole.
    Zero,
    /// One byte over and over.
    Byte(u8),
    /// Bytes that do not compress.
    Random(u64),
    /// Words, which compress about three to one.
    Text(u64),
}

/// The description of an image. It holds no content, so it may be of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    size_bytes: u64,
    extents: Vec<(Range<u64>, Fill)>,
}

impl Image {
    /// An image that is one hole of `size_bytes`.
    #[must_use]
    pub const fn new(size_bytes: u64) -> Self {
        Self {
            size_bytes,
            extents: Vec::new(),
        }
    }

    /// Fills `length` bytes at `offset`, over what was there; what lies past the end is cut off.
    #[must_use]
    pub fn extent(mut self, offset: u64, length: u64, fill: Fill) -> Self {
        let end = offset.saturating_add(length).min(self.size_bytes);
        if offset < end {
            self.extents.push((offset..end, fill));
        }
        self
    }

    /// The size of the image.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes at `offset`, holes as zeros; past the end there are zeros as well.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) {
        buffer.fill(0);
        let wanted = offset..offset.saturating_add(buffer.len() as u64);
        for (range, fill) in &self.extents {
            let from = range.start.max(wanted.start);
            let to = range.end.min(wanted.end);
            if from < to {
                let at =
                    |position: u64| usize::try_from(position - offset).expect("within the buffer");
                content::fill(*fill, from, &mut buffer[at(from)..at(to)]);
            }
        }
    }

    /// All bytes; for small images.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes =
            vec![0; usize::try_from(self.size_bytes).expect("an image that fits in memory")];
        self.read_at(0, &mut bytes);
        bytes
    }

    /// Makes the image as a sparse file at `path`, in place of what is there.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write_to(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.set_len(self.size_bytes)?;
        self.write_extents(&file)?;
        Ok(file)
    }

    /// Writes the extents, and nothing else, into an open file or block device.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write_extents(&self, file: &File) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        for (range, fill) in &self.extents {
            let mut offset = range.start;
            while offset < range.end {
                let piece = piece(range.end - offset);
                content::fill(*fill, offset, &mut buffer[..piece]);
                file.write_all_at(&buffer[..piece], offset)?;
                offset += piece as u64;
            }
        }
        Ok(())
    }

    /// Where the file or block device at `path` first differs from this image; where one ends before the other
    /// counts as a difference. A block device may be longer than the image.
    ///
    /// # Errors
    /// Those of reading.
    pub fn first_difference(&self, path: &Path) -> io::Result<Option<u64>> {
        use std::os::unix::fs::FileTypeExt as _;
        let file = File::open(path)?;
        let size = length(&file)?;
        let longer_is_fine = file.metadata()?.file_type().is_block_device();
        let mut expected = vec![0; BUFFER_BYTES];
        let mut found = vec![0; BUFFER_BYTES];
        let end = size.min(self.size_bytes);
        let mut offset = 0;
        while offset < end {
            let piece = piece(end - offset);
            self.read_at(offset, &mut expected[..piece]);
            file.read_exact_at(&mut found[..piece], offset)?;
            if let Some(at) = compare::mismatch(&expected[..piece], &found[..piece]) {
                return Ok(Some(offset + at as u64));
            }
            offset += piece as u64;
        }
        Ok((size < self.size_bytes || size > self.size_bytes && !longer_is_fine).then_some(end))
    }
}

/// The length of the next piece when `left` bytes are left.
fn piece(left: u64) -> usize {
    usize::try_from(left)
        .unwrap_or(usize::MAX)
        .min(BUFFER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed() -> Image {
        Image::new(3 << 20)
            .extent(10, 5000, Fill::Random(1))
            .extent(1 << 20, 70_000, Fill::Text(2))
            .extent((1 << 20) + 100, 9, Fill::Byte(0xab))
            .extent((3 << 20) - 7, 100, Fill::Random(3))
            .extent(9 << 20, 1, Fill::Random(4))
    }

    #[test]
    fn a_file_is_what_was_described() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let file = mixed().write_to(&path).unwrap();
        assert_eq!(mixed().first_difference(&path).unwrap(), None);
        assert_eq!(std::fs::read(&path).unwrap(), mixed().to_vec());
        file.write_all_at(&[0xac], (1 << 20) + 104).unwrap();
        assert_eq!(
            mixed().first_difference(&path).unwrap(),
            Some((1 << 20) + 104)
        );
        file.set_len(100).unwrap();
        assert_eq!(mixed().first_difference(&path).unwrap(), Some(100));
    }

    #[test]
    fn content_depends_on_the_offset_only() {
        let whole = mixed().to_vec();
        for (offset, length) in [
            (0, 1),
            (11, 4989),
            ((1 << 20) + 33, 4096),
            ((3 << 20) - 3, 3),
        ] {
            let mut part = vec![1; length];
            mixed().read_at(offset as u64, &mut part);
            assert_eq!(part, whole[offset..offset + length], "at {offset}");
        }
        assert_ne!(
            Image::new(64).extent(0, 64, Fill::Random(1)),
            Image::new(64).extent(0, 64, Fill::Random(2))
        );
    }

    #[test]
    fn an_empty_image_is_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        Image::new(0).write_to(&path).unwrap();
        assert_eq!(Image::new(0).first_difference(&path).unwrap(), None);
        assert_eq!(Image::new(1).first_difference(&path).unwrap(), Some(0));
    }
}
