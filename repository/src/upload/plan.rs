//! What is read, in which order: the volume in segments, without the parts that are known to be holes.
//!
//! A segment is a row of chunks that one worker goes through. Segments are handed out in ascending order and
//! found one after the other, so that a volume of any size, with any number of holes, needs no list in memory.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use super::changes::Changed;
use crate::{
    RepositoryError,
    device::{DeviceError, Source},
};

/// A segment is at least this long, in bytes of the volume: long enough that packs hold few ranges,
/// short enough that workers end together.
const SEGMENT_SIZE_BYTES_MIN: u64 = 32 << 20;

/// Chunks of a leaf of the map: segments start and end with leaves.
const LEAF_CHUNKS: u64 = crate::format::limits::FAN_OUT;

/// A part of the volume for one worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// 0, 1, 2… in the order they were handed out.
    pub(super) number: u64,
    /// Its chunks.
    pub(super) chunks: Range<u64>,
    /// Those of them that are to be read, ascending; all others are holes, or kept.
    pub(super) runs: Vec<Range<u64>>,
    /// Those of them that are as in the base, said to be unchanged.
    pub(super) kept: Vec<Range<u64>>,
}

impl Segment {
    /// Leaves out of what is to be read what an earlier attempt read.
    pub(super) fn skip<'a>(&mut self, ranges: impl Iterator<Item = &'a Range<u64>>) {
        for range in ranges {
            let pieces = self.runs.iter().flat_map(|run| {
                let before = run.start..run.end.min(range.start);
                let after = run.start.max(range.end)..run.end;
                [before, after]
            });
            self.runs = pieces.filter(|piece| !piece.is_empty()).collect();
        }
    }
}

/// Where data may be.
pub(super) enum Extents {
    /// As the source knows it.
    Source(Arc<Source>),
    /// As the caller knows it: byte ranges, ascending, not overlapping.
    Given(VecDeque<Range<u64>>),
}

impl Extents {
    /// Takes a caller's ranges.
    pub(super) fn given(ranges: Vec<Range<u64>>, size_bytes: u64) -> Result<Self, RepositoryError> {
        let mut end = 0;
        for range in &ranges {
            if range.start < end || range.end <= range.start || range.end > size_bytes {
                return Err(RepositoryError::Settings(format!(
                    "extent {}..{} is empty, out of order or past the end of the volume ({size_bytes} bytes)",
                    range.start, range.end
                )));
            }
            end = range.end;
        }
        Ok(Extents::Given(ranges.into()))
    }

    /// The next range that ends after `from`; `from` only rises.
    fn next(&mut self, from: u64) -> Result<Option<Range<u64>>, DeviceError> {
        match self {
            Extents::Source(source) => source.next_data(from),
            Extents::Given(ranges) => {
                while ranges.front().is_some_and(|range| range.end <= from) {
                    ranges.pop_front();
                }
                Ok(ranges.front().map(|range| range.start.max(from)..range.end))
            }
        }
    }
}

/// Hands out the segments.
pub(super) struct Plan {
    extents: Extents,
    changed: Option<Changed>,
    chunk_size: u64,
    chunk_count: u64,
    segment_chunks: u64,
    next_number: u64,
    at: u64,
}

impl Plan {
    pub(super) fn new(extents: Extents, size_bytes: u64, chunk_size_bytes: u32) -> Self {
        let chunk_size = u64::from(chunk_size_bytes);
        let segment_chunks = (SEGMENT_SIZE_BYTES_MIN / chunk_size)
            .max(1)
            .next_multiple_of(LEAF_CHUNKS);
        Self {
            extents,
            changed: None,
            chunk_size,
            chunk_count: size_bytes.div_ceil(chunk_size),
            segment_chunks,
            next_number: 0,
            at: 0,
        }
    }

    /// Only what changed is read: segments are the leaves of the map that have changed chunks.
    pub(super) fn only(mut self, changed: Option<Changed>) -> Self {
        self.changed = changed;
        self
    }

    /// First chunk that no segment covers yet.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next segment in which data may be, or something changed.
    pub(super) fn next(&mut self) -> Result<Option<Segment>, DeviceError> {
        match self.changed.take() {
            Some(changed) => {
                let segment = self.next_changed(&changed);
                self.changed = Some(changed);
                segment
            }
            None => self.next_data(),
        }
    }

    fn next_data(&mut self) -> Result<Option<Segment>, DeviceError> {
        let Some(first) = self.next_run(self.at)? else {
            self.at = self.chunk_count;
            return Ok(None);
        };
        let start = first.start / self.segment_chunks * self.segment_chunks;
        let chunks = start..(start + self.segment_chunks).min(self.chunk_count);
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut found = Some(first);
        while let Some(run) = found {
            if run.start >= chunks.end {
                break;
            }
            let run = run.start..run.end.min(chunks.end);
            let end = run.end;
            match runs.last_mut() {
                Some(last) if last.end == run.start => last.end = run.end,
                _ => runs.push(run),
            }
            if end == chunks.end {
                break;
            }
            found = self.next_run(end)?;
        }
        Ok(Some(self.segment(chunks, runs, Vec::new())))
    }

    /// Whole leaves with changed chunks, side by side, no more of them than fit a segment.
    fn next_changed(&mut self, changed: &Changed) -> Result<Option<Segment>, DeviceError> {
        let Some(first) = changed.next(self.at) else {
            self.at = self.chunk_count;
            return Ok(None);
        };
        let start = first.start / LEAF_CHUNKS * LEAF_CHUNKS;
        let limit = (start + self.segment_chunks).min(self.chunk_count);
        let mut chunks = start..start;
        let (mut runs, mut kept) = (Vec::new(), Vec::new());
        let (mut found, mut at) = (Some(first), start);
        while let Some(part) = found {
            if part.start >= limit || (at > start && part.start >= chunks.end) {
                break;
            }
            let part = part.start..part.end.min(limit);
            if at < part.start {
                kept.push(at..part.start);
            }
            self.data_of(&part, &mut runs)?;
            at = part.end;
            chunks.end = at.next_multiple_of(LEAF_CHUNKS).min(self.chunk_count);
            found = changed.next(at);
        }
        if at < chunks.end {
            kept.push(at..chunks.end);
        }
        Ok(Some(self.segment(chunks, runs, kept)))
    }

    /// Adds the chunks of `part` that may hold data.
    fn data_of(
        &mut self,
        part: &Range<u64>,
        runs: &mut Vec<Range<u64>>,
    ) -> Result<(), DeviceError> {
        let mut at = part.start;
        while at < part.end
            && let Some(run) = self.next_run(at)?
        {
            if run.start >= part.end {
                break;
            }
            at = run.end.min(part.end);
            match runs.last_mut() {
                Some(last) if last.end == run.start => last.end = at,
                _ => runs.push(run.start..at),
            }
        }
        Ok(())
    }

    fn segment(
        &mut self,
        chunks: Range<u64>,
        runs: Vec<Range<u64>>,
        kept: Vec<Range<u64>>,
    ) -> Segment {
        self.at = chunks.end;
        let number = self.next_number;
        self.next_number += 1;
        Segment {
            number,
            chunks,
            runs,
            kept,
        }
    }

    /// The next chunks from `from` on that the next range of bytes touches.
    fn next_run(&mut self, from: u64) -> Result<Option<Range<u64>>, DeviceError> {
        if from >= self.chunk_count {
            return Ok(None);
        }
        let range = self.extents.next(from * self.chunk_size)?;
        Ok(range.map(|range| {
            let start = (range.start / self.chunk_size).max(from);
            start..range.end.div_ceil(self.chunk_size).min(self.chunk_count)
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: u64 = 64 << 10;

    fn all(ranges: Vec<Range<u64>>, size_bytes: u64) -> Vec<Segment> {
        let extents = Extents::given(ranges, size_bytes).unwrap();
        let mut plan = Plan::new(extents, size_bytes, u32::try_from(CHUNK).unwrap());
        std::iter::from_fn(|| plan.next().unwrap()).collect()
    }

    #[test]
    fn odd_ranges_become_whole_chunks() {
        let segments = all(
            vec![1..2, CHUNK..CHUNK + 1, 3 * CHUNK..3 * CHUNK + 7],
            4 * CHUNK - 5,
        );
        assert_eq!(
            segments,
            [Segment {
                number: 0,
                chunks: 0..4,
                runs: vec![0..2, 3..4],
                kept: Vec::new(),
            }]
        );
    }

    #[test]
    fn holes_cost_nothing() {
        let far = 64 << 40;
        let segments = all(vec![0..1, far - 1..far], far);
        assert_eq!(segments.len(), 2);
        let last = far / CHUNK - 1;
        assert_eq!(segments[1].runs, vec![last..last + 1]);
        assert!(all(Vec::new(), far).is_empty());
    }

    #[test]
    fn senseless_ranges_are_refused() {
        for ranges in [
            &[5..5, 6..7][..],
            &[0..1, 1..11],
            &[3..5, 4..6],
            &[3..5, 0..1],
        ] {
            assert!(Extents::given(ranges.to_vec(), 10).is_err());
        }
    }

    #[test]
    fn what_was_read_is_skipped() {
        let mut segment = Segment {
            number: 0,
            chunks: 0..64,
            runs: vec![0..10, 20..30, 40..50],
            kept: Vec::new(),
        };
        segment.skip([0..5, 8..22, 25..26, 40..64].iter());
        assert_eq!(segment.runs, [5..8, 22..25, 26..30]);
    }

    #[test]
    fn only_leaves_with_changes_are_handed_out() {
        let size = 2000 * CHUNK;
        let chunk_size = u32::try_from(CHUNK).unwrap();
        let ranges = [
            3 * CHUNK..4 * CHUNK,
            70 * CHUNK..70 * CHUNK + 1,
            1999 * CHUNK..size,
        ];
        let changed = Changed::new(&ranges, size, size, chunk_size).unwrap();
        let extents = Extents::given(vec![0..4 * CHUNK, 71 * CHUNK..size], size).unwrap();
        let mut plan = Plan::new(extents, size, chunk_size).only(Some(changed));
        let segments: Vec<_> = std::iter::from_fn(|| plan.next().unwrap()).collect();
        let expected = [
            (0..64, vec![(3, 4)], vec![(0, 3), (4, 64)]),
            // No data there any more: a hole now.
            (64..128, vec![], vec![(64, 70), (71, 128)]),
            (1984..2000, vec![(1999, 2000)], vec![(1984, 1999)]),
        ];
        let pairs =
            |ranges: Vec<Range<u64>>| ranges.iter().map(|r| (r.start, r.end)).collect::<Vec<_>>();
        let found: Vec<_> = segments
            .into_iter()
            .map(|segment| (segment.chunks, pairs(segment.runs), pairs(segment.kept)))
            .collect();
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn every_changed_chunk_is_read_once_and_all_beside_it_is_kept(
            ranges in proptest::collection::vec((0..3000_u64, 1..700_u64), 0..12),
            size in 1..3000_u64,
        ) {
            let chunk_size = u32::try_from(CHUNK).unwrap();
            let bytes: Vec<_> = ranges.iter().map(|(at, len)| at * CHUNK + 1..(at + len) * CHUNK).collect();
            let changed = Changed::new(&bytes, size * CHUNK, size * CHUNK, chunk_size).unwrap();
            let everything = std::iter::once(0..size * CHUNK).collect();
            let extents = Extents::given(everything, size * CHUNK).unwrap();
            let mut plan = Plan::new(extents, size * CHUNK, chunk_size).only(Some(changed.clone()));
            let mut end = 0;
            let mut read = 0;
            while let Some(segment) = plan.next().unwrap() {
                prop_assert!(segment.chunks.start >= end && segment.chunks.start % 64 == 0);
                prop_assert!(segment.chunks.end - segment.chunks.start <= 512);
                end = segment.chunks.end;
                prop_assert!(end % 64 == 0 || end == size);
                for chunk in segment.chunks {
                    let in_runs = segment.runs.iter().filter(|run| run.contains(&chunk)).count();
                    let in_kept = segment.kept.iter().filter(|run| run.contains(&chunk)).count();
                    prop_assert_eq!((in_runs, in_kept), if changed.contains(chunk) { (1, 0) } else { (0, 1) });
                    read += in_runs as u64;
                }
            }
            prop_assert_eq!(read, changed.count());
        }

        #[test]
        fn every_byte_of_a_range_is_in_one_run(
            pieces in proptest::collection::vec((0..40_u64 << 20, 1..9_u64 << 20), 0..12),
            odd in 1..CHUNK,
        ) {
            let mut at = 0;
            let mut ranges = Vec::new();
            for (gap, len) in pieces {
                ranges.push(at + gap..at + gap + len);
                at += gap + len;
            }
            let size = at + odd;
            let segments = all(ranges.clone(), size);
            let mut end = 0;
            let mut covered = Vec::new();
            for (i, segment) in segments.iter().enumerate() {
                prop_assert_eq!(segment.number, i as u64);
                prop_assert!(segment.chunks.start >= end && segment.chunks.start % 64 == 0);
                end = segment.chunks.end;
                prop_assert!(!segment.runs.is_empty());
                for run in &segment.runs {
                    prop_assert!(run.start >= segment.chunks.start && run.end <= segment.chunks.end);
                    covered.push(run.clone());
                }
            }
            let wanted = |chunk: u64| ranges.iter().any(|r| r.start < (chunk + 1) * CHUNK && r.end > chunk * CHUNK);
            for chunk in 0..size.div_ceil(CHUNK) {
                let times = covered.iter().filter(|run| run.contains(&chunk)).count();
                prop_assert_eq!(times, usize::from(wanted(chunk)), "chunk {}", chunk);
            }
        }
    }
}
