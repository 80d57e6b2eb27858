//! Which parts of two files do not share their blocks.
//!
//! Two read-only images that show the same block of the file system at the same place have the same bytes there. All
//! else counts as changed: another block, one that is not marked as shared, one whose place is not known or whose
//! bytes are stored in another form (compressed, encrypted, inline). Holes and blocks that were never written read as
//! zeroes, and are the same on both sides whichever of the two they are.

use std::{fs::File, io};

use nix::libc::{ENOTTY, EOPNOTSUPP};

use super::ioctl::{self, EXTENT_LAST, EXTENT_SHARED, EXTENT_UNSURE, EXTENT_UNWRITTEN, FileExtent};
use crate::{ByteRange, ranges::Ranges};

/// Compared at a time: bounds what is held in memory of fragmented files.
const WINDOW_BYTES: u64 = 1 << 30;
/// How often a window is looked at again because blocks moved meanwhile.
const ATTEMPTS: u32 = 5;

/// One of the files that are compared.
#[derive(Debug)]
pub(super) struct Side<'a> {
    file: &'a File,
    size_bytes: u64,
}

impl<'a> Side<'a> {
    pub(super) fn new(file: &'a File, size_bytes: u64) -> Self {
        Self { file, size_bytes }
    }
}

/// What a comparison came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Where the newer file may differ.
    Ranges(Vec<ByteRange>),
    /// The file system does not say where blocks lie.
    Unsupported,
    /// Blocks are being moved (balanced, defragmented) all the time.
    Moving,
}

/// What lies in a part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Zeroes,
    /// Blocks that others have too: the distance from their place in the file to that on the disk.
    Shared(u64),
    /// Anything else.
    Own,
}

/// A part of a file, `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    content: Content,
}

/// Where `new` may differ from `old`.
pub(super) fn changed(old: &Side<'_>, new: &Side<'_>) -> io::Result<Answer> {
    let mut ranges = Ranges::within(new.size_bytes);
    let mut start = 0;
    while start < new.size_bytes {
        let end = new.size_bytes.min(start + WINDOW_BYTES);
        let sides = match settled(old, new, start..end) {
            Ok(Some(sides)) => sides,
            Ok(None) => return Ok(Answer::Moving),
            Err(error) if matches!(error.raw_os_error(), Some(EOPNOTSUPP | ENOTTY)) => {
                return Ok(Answer::Unsupported);
            }
            Err(error) => return Err(error),
        };
        for (from, to) in differences(&sides.0, &sides.1, start, end) {
            ranges
                .add(from, to)
                .map_err(|_| io::Error::other("extents are out of order"))?;
        }
        start = end;
    }
    Ok(Answer::Ranges(ranges.finish()))
}

/// Both sides of a window as they were at one moment: the older one is the same before and after the newer was read.
fn settled(
    old: &Side<'_>,
    new: &Side<'_>,
    window: std::ops::Range<u64>,
) -> io::Result<Option<(Vec<Piece>, Vec<Piece>)>> {
    let read = |side: &Side<'_>| pieces(side, window.start, window.end);
    let mut before = read(old)?;
    for _ in 0..ATTEMPTS {
        let newer = read(new)?;
        let after = read(old)?;
        if before == after {
            return Ok(Some((before, newer)));
        }
        before = after;
    }
    Ok(None)
}

/// What a file holds in `start..end`; what is in no piece is zeroes.
fn pieces(side: &Side<'_>, start: u64, end: u64) -> io::Result<Vec<Piece>> {
    let end = end.min(side.size_bytes);
    let mut found: Vec<Piece> = Vec::new();
    let mut from = start;
    while from < end {
        let extents = ioctl::file_extents(side.file, from, end)?;
        let Some(last) = extents.last() else { break };
        let (behind, is_last) = (
            last.logical.saturating_add(last.length),
            last.flags & EXTENT_LAST != 0,
        );
        for extent in &extents {
            let piece = piece(extent, from, end);
            if piece.start < piece.end && piece.content != Content::Zeroes {
                found.push(piece);
            }
        }
        if is_last || behind <= from {
            break;
        }
        from = behind;
    }
    Ok(found)
}

fn piece(extent: &FileExtent, start: u64, end: u64) -> Piece {
    let content = if extent.flags & EXTENT_UNWRITTEN != 0 {
        Content::Zeroes
    } else if extent.flags & EXTENT_SHARED != 0 && extent.flags & EXTENT_UNSURE == 0 {
        Content::Shared(extent.physical.wrapping_sub(extent.logical))
    } else {
        Content::Own
    };
    Piece {
        start: extent.logical.max(start),
        end: extent.logical.saturating_add(extent.length).min(end),
        content,
    }
}

/// The parts of `start..end` in which two sides may differ, ascending.
fn differences(old: &[Piece], new: &[Piece], start: u64, end: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let (mut old, mut new) = (old, new);
    let mut at = start;
    while at < end {
        let (left, left_until) = next(&mut old, at, end);
        let (right, right_until) = next(&mut new, at, end);
        let until = left_until.min(right_until);
        let same = left == right && left != Content::Own;
        if !same {
            found.push((at, until));
        }
        at = until;
    }
    found
}

/// What lies at `at`, and until where.
fn next(pieces: &mut &[Piece], at: u64, end: u64) -> (Content, u64) {
    while pieces.first().is_some_and(|piece| piece.end <= at) {
        *pieces = &pieces[1..];
    }
    match pieces.first() {
        Some(piece) if piece.start <= at => (piece.content, piece.end.min(end)),
        Some(piece) => (Content::Zeroes, piece.start.min(end)),
        None => (Content::Zeroes, end),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const END: u64 = 60;

    fn content() -> impl Strategy<Value = Content> {
        prop_oneof![
            Just(Content::Zeroes),
            Just(Content::Own),
            (0_u64..3).prop_map(Content::Shared),
        ]
    }

    fn side() -> impl Strategy<Value = Vec<Piece>> {
        proptest::collection::vec((0_u64..5, 1_u64..9, content()), 0..10).prop_map(|parts| {
            let mut at = 0;
            let mut pieces = Vec::new();
            for (gap, length, content) in parts {
                let start = at + gap;
                at = start + length;
                pieces.push(Piece {
                    start,
                    end: at,
                    content,
                });
            }
            pieces
        })
    }

    fn at(pieces: &[Piece], byte: u64) -> Content {
        let piece = pieces.iter().find(|p| p.start <= byte && byte < p.end);
        piece.map_or(Content::Zeroes, |piece| piece.content)
    }

    proptest! {
        #[test]
        fn each_byte_is_judged_by_itself(old in side(), new in side(), start in 0_u64..20) {
            let found = differences(&old, &new, start, END);
            prop_assert!(found.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            for byte in 0..END + 10 {
                let (left, right) = (at(&old, byte), at(&new, byte));
                let differs = left != right || left == Content::Own;
                let expected = differs && (start..END).contains(&byte);
                let is = found.iter().any(|range| range.0 <= byte && byte < range.1);
                prop_assert_eq!(is, expected, "byte {}", byte);
            }
        }
    }

    #[test]
    fn flags_decide_what_is_sure() {
        let of = |flags| {
            let mut extent = ioctl::tests::extent(4096, 1 << 20, 8192);
            extent.flags = flags;
            piece(&extent, 0, 8192)
        };
        let shared = of(EXTENT_SHARED | EXTENT_LAST);
        assert_eq!(shared.content, Content::Shared((1 << 20) - 4096));
        assert_eq!((shared.start, shared.end), (4096, 8192));
        assert_eq!(
            of(EXTENT_UNWRITTEN | EXTENT_SHARED).content,
            Content::Zeroes
        );
        assert_eq!(of(0).content, Content::Own);
        for unsure in [0x2, 0x4, 0x8, 0x80, 0x100, 0x200] {
            assert_eq!(
                of(EXTENT_SHARED | unsure).content,
                Content::Own,
                "{unsure:#x}"
            );
        }
    }
}
