//! The exception table of a classic snapshot: which units of its origin changed since it was cut.
//!
//! The on-disk format of the kernel's persistent snapshots (`drivers/md/dm-snap-persistent.c`), little-endian, in units of
//! the chunk size that the header tells:
//!
//! | unit | holds |
//! | --- | --- |
//! | 0 | header: magic `SnAp`, valid (0 or 1), version (1), chunk size in sectors; 4 bytes each |
//! | 1 | the first area of exceptions: as many pairs (old unit, new unit) of 8 bytes each as fit |
//! | 2 … | copied data, as many units as the area has exceptions |
//! | then | the next area, and so on |
//!
//! New unit 0 ends the table. The kernel writes an exception before it lets the write to the origin through, so the table
//! names every unit that changed before it was read, and more at worst. It is read past the page cache, which the kernel's own
//! writes do not touch.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::libc::{O_CLOEXEC, O_DIRECT};

use crate::{DriverError, ranges::Ranges, task};

const MAGIC: u32 = 0x7041_6e53;
const VERSION: u32 = 1;
const SECTOR: u64 = 512;
const EXCEPTION_BYTES: u64 = 16;
/// Largest unit that is believed, in sectors: LVM makes none above 512 KiB.
const CHUNK_MAX_SECTORS: u32 = 1024;
/// What reads past the page cache are aligned to.
const ALIGNMENT: usize = 4096;

/// Least and most of what is kept apart: an exception table names units in any order, so what it names is marked in a map
/// of one bit for each unit, of 2 MiB at most. From 256 GiB on, units are larger than those of our snapshots.
const UNIT_BYTES: u64 = 16 << 10;
const UNITS_MAX: u64 = 1 << 24;

/// What changed of an origin, in bounded memory: it may cover more than it has to, and never less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    end_bytes: u64,
    unit_bytes: u64,
    /// A bit for each unit.
    map: Vec<u64>,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    /// The kernel gave the snapshot up.
    #[error("the snapshot is void")]
    Void,
    /// It is not what the kernel writes.
    #[error("{0}")]
    Malformed(String),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the table from a snapshot's device of that size, and marks what it names.
pub(super) async fn read(
    path: PathBuf,
    cow_bytes: u64,
    mut changed: Changed,
) -> Result<Changed, DriverError> {
    task::blocking(move || {
        read_now(&path, cow_bytes, &mut changed)?;
        Ok(changed)
    })
    .await
}

fn read_now(path: &Path, cow_bytes: u64, changed: &mut Changed) -> Result<(), DriverError> {
    let fail = |error| match error {
        TableError::Io(source) => DriverError::Io {
            doing: "cannot read the exceptions of",
            path: path.to_owned(),
            source,
        },
        TableError::Void => DriverError::Void {
            what: format!("the snapshot of {}", path.display()),
            why: "its room for changes ran out".into(),
        },
        TableError::Malformed(answer) => DriverError::Unexpected {
            doing: format!("reading the exceptions of {}", path.display()),
            answer,
        },
    };
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_DIRECT | O_CLOEXEC)
        .open(path);
    let device = opened.map_err(|error| fail(error.into()))?;
    let mut buffer = Vec::new();
    let read = |offset, length| read_aligned(&device, offset, length, &mut buffer);
    parse(cow_bytes, read, |offset, length| {
        changed.mark(offset, length)
    })
    .map_err(fail)
}

/// Reads a run whose ends are multiples of a sector by whole pages, as `O_DIRECT` wants.
fn read_aligned(
    device: &File,
    offset: u64,
    length: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<Vec<u8>> {
    let page = ALIGNMENT as u64;
    let start = offset / page * page;
    let wanted = usize::try_from((offset + length).next_multiple_of(page) - start)
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    buffer.resize(wanted + ALIGNMENT, 0);
    let shift = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let aligned = &mut buffer[shift..shift + wanted];
    device.read_exact_at(aligned, start)?;
    let skip = usize::try_from(offset - start).map_err(|_| io::ErrorKind::InvalidInput)?;
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(aligned[skip..skip + length].to_vec())
}

/// Parses a table of a device of `cow_bytes` bytes; `read` gives a run of it, `mark` takes what of the origin changed.
fn parse(
    cow_bytes: u64,
    mut read: impl FnMut(u64, u64) -> io::Result<Vec<u8>>,
    mut mark: impl FnMut(u64, u64),
) -> Result<(), TableError> {
    let malformed = |text: String| Err(TableError::Malformed(text));
    if cow_bytes < SECTOR {
        return malformed(format!("{cow_bytes} bytes hold no header"));
    }
    let header = read(0, SECTOR)?;
    let (magic, valid) = (number32(&header, 0)?, number32(&header, 4)?);
    let (version, sectors) = (number32(&header, 8)?, number32(&header, 12)?);
    if magic != MAGIC || version != VERSION || valid > 1 {
        return malformed(format!("header {magic:#x}, {valid}, version {version}"));
    }
    if valid == 0 {
        return Err(TableError::Void);
    }
    if !sectors.is_power_of_two() || sectors > CHUNK_MAX_SECTORS {
        return malformed(format!("a unit of {sectors} sectors"));
    }
    let chunk_bytes = u64::from(sectors) * SECTOR;
    let (chunks, per_area) = (cow_bytes / chunk_bytes, chunk_bytes / EXCEPTION_BYTES);
    // An area that is full is followed by another, unless the device ends there.
    let mut area = 1;
    'table: while area < chunks {
        for pair in read(area * chunk_bytes, chunk_bytes)?.chunks_exact(16) {
            let (old, new) = (number64(pair, 0)?, number64(pair, 8)?);
            if new == 0 {
                break 'table;
            }
            let is_area = new % (per_area + 1) == 1;
            if new >= chunks || is_area {
                return malformed(format!("unit {old} was copied to unit {new} of {chunks}"));
            }
            mark(old.saturating_mul(chunk_bytes), chunk_bytes);
        }
        area += per_area + 1;
    }
    Ok(())
}

fn number32(bytes: &[u8], at: usize) -> Result<u32, TableError> {
    let field = bytes.get(at..at + 4).and_then(|f| f.try_into().ok());
    field
        .map(u32::from_le_bytes)
        .ok_or_else(|| TableError::Malformed("cut short".into()))
}

fn number64(bytes: &[u8], at: usize) -> Result<u64, TableError> {
    let field = bytes.get(at..at + 8).and_then(|f| f.try_into().ok());
    field
        .map(u64::from_le_bytes)
        .ok_or_else(|| TableError::Malformed("cut short".into()))
}

impl Changed {
    /// Nothing yet, of an origin that ends there.
    pub(super) fn within(end_bytes: u64) -> Self {
        Self::in_units(end_bytes, UNIT_BYTES)
    }

    fn in_units(end_bytes: u64, mut unit_bytes: u64) -> Self {
        while end_bytes.div_ceil(unit_bytes) > UNITS_MAX {
            unit_bytes *= 2;
        }
        let words = end_bytes.div_ceil(unit_bytes).div_ceil(64);
        Self {
            end_bytes,
            unit_bytes,
            map: vec![0; usize::try_from(words).expect("there are at most 2^18")],
        }
    }

    /// Marks a run; what lies behind the end is none of it.
    fn mark(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length).min(self.end_bytes);
        if offset >= end {
            return;
        }
        for unit in offset / self.unit_bytes..end.div_ceil(self.unit_bytes) {
            let word = usize::try_from(unit / 64).expect("the end is in the map");
            self.map[word] |= 1 << (unit % 64);
        }
    }

    /// Adds what changed, in ascending order, to an empty answer.
    pub(super) fn into_ranges(self, ranges: &mut Ranges) {
        for (word, bits) in (0u64..).zip(&self.map) {
            let mut rest = *bits;
            while rest != 0 {
                let unit = word * 64 + u64::from(rest.trailing_zeros());
                let start = unit * self.unit_bytes;
                let end = start.saturating_add(self.unit_bytes);
                ranges
                    .add(start, end.min(self.end_bytes))
                    .expect("units ascend");
                rest &= rest - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
