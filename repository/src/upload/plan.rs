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
    /// How many chunks are to be read.
    pub(super) fn read_chunks(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

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

    /// Has kept chunks read after all, of those that are given in ascending order; returns which.
    pub(super) fn take_back(&mut self, chunks: impl Iterator<Item = u64>) -> Vec<u64> {
        let is_kept = |chunk: &u64| self.kept.iter().any(|range| range.contains(chunk));
        let taken: Vec<u64> = chunks.filter(is_kept).collect();
        if taken.is_empty() {
            return taken;
        }
        let mut kept = Vec::new();
        for range in &self.kept {
            let mut at = range.start;
            for chunk in taken.iter().filter(|chunk| range.contains(chunk)) {
                push(&mut kept, at..*chunk);
                at = chunk + 1;
            }
            push(&mut kept, at..range.end);
        }
        self.kept = kept;
        self.runs
            .extend(taken.iter().map(|chunk| *chunk..chunk + 1));
        self.runs.sort_unstable_by_key(|run| run.start);
        let mut runs = Vec::new();
        for run in self.runs.drain(..) {
            push(&mut runs, run);
        }
        self.runs = runs;
        taken
    }
}

/// Appends to ascending ranges; what continues the last one becomes part of it.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ if range.is_empty() => {}
        _ => ranges.push(range),
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

    /// How many chunks all segments have to be read of. Goes through the plan to its end: make it anew for the work.
    pub(super) fn read_chunks(mut self) -> Result<u64, DeviceError> {
        let mut chunks = 0;
        while let Some(segment) = self.next()? {
            chunks += segment.read_chunks();
        }
        Ok(chunks)
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
            push(&mut runs, run);
            if end == chunks.end {
                break;
            }
            found = self.next_run(end)?;
        }
        Ok(Some(self.segment(chunks, runs, Vec::new())))
    }

    /// Whole leaves with changed chunks, side by side, no more of them than fit a segment.
    fn next_changed(&mut self, changed: &Changed) -> Result<Option<Segment>, DeviceError> {
        let from = self.at.next_multiple_of(LEAF_CHUNKS);
        let leaf = changed.next_leaf(from);
        let Some(start) = leaf.filter(|leaf| *leaf < self.chunk_count) else {
            self.at = self.chunk_count;
            return Ok(None);
        };
        let limit = (start + self.segment_chunks).min(self.chunk_count);
        let (mut runs, mut kept) = (Vec::new(), Vec::new());
        let mut end = start;
        while end < limit && changed.opens(end) {
            let mut at = end;
            end = (end + LEAF_CHUNKS).min(limit);
            while let Some(part) = changed.next(at).filter(|part| part.start < end) {
                let part = part.start..part.end.min(end);
                push(&mut kept, at..part.start);
                self.data_of(&part, &mut runs)?;
                at = part.end;
            }
            push(&mut kept, at..end);
        }
        Ok(Some(self.segment(start..end, runs, kept)))
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
            push(runs, run.start..at);
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
mod tests;
