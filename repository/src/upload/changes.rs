//! What is said to have changed since the base, in chunks.

use std::{collections::BTreeSet, ops::Range};

use crate::{RepositoryError, format::limits::FAN_OUT};

/// Chunks that may differ from the base: ascending, not touching each other, none past the end of the volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changed {
    ranges: Vec<Range<u64>>,
    /// First chunks of leaves of the map that are looked at though nothing of them is said to have changed.
    opened: BTreeSet<u64>,
}

impl Changed {
    /// From ranges of bytes, in any order; what lies past the end is cut off. What the volume has grown by counts as
    /// changed, and so does the chunk that a new end cuts through.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`] for a range that ends before it starts.
    pub(super) fn new(
        ranges: &[Range<u64>],
        base_size_bytes: u64,
        size_bytes: u64,
        chunk_size_bytes: u32,
    ) -> Result<Self, RepositoryError> {
        let chunk_size = u64::from(chunk_size_bytes);
        let mut chunks = Vec::with_capacity(ranges.len() + 1);
        for range in ranges {
            if range.end < range.start {
                return Err(RepositoryError::Settings(format!(
                    "changed range {}..{} ends before it starts",
                    range.start, range.end
                )));
            }
            let end = range.end.min(size_bytes);
            if range.start < end {
                chunks.push(range.start / chunk_size..end.div_ceil(chunk_size));
            }
        }
        let count = size_bytes.div_ceil(chunk_size);
        if base_size_bytes < size_bytes {
            chunks.push(base_size_bytes / chunk_size..count);
        } else if size_bytes < base_size_bytes {
            chunks.push(count - 1..count);
        }
        Ok(Self {
            ranges: merged(chunks),
            opened: BTreeSet::new(),
        })
    }

    /// Has a leaf looked at, named by its first chunk.
    pub(super) fn open(&mut self, leaf: u64) {
        self.opened.insert(leaf);
    }

    /// Whether a leaf, named by its first chunk, is looked at.
    pub(super) fn opens(&self, leaf: u64) -> bool {
        self.next_leaf(leaf) == Some(leaf)
    }

    /// First chunk of the first leaf at or after a leaf's first chunk that is looked at.
    pub(super) fn next_leaf(&self, from: u64) -> Option<u64> {
        let changed = self.next(from).map(|range| leaf_of(range.start));
        let opened = self.opened.range(from..).next().copied();
        changed.into_iter().chain(opened).min()
    }

    /// About how many leaves have changed chunks.
    pub(super) fn leaves(&self) -> u64 {
        let leaves = |range: &Range<u64>| range.end.div_ceil(FAN_OUT) - range.start / FAN_OUT;
        self.ranges.iter().map(leaves).sum()
    }

    /// Takes some chunks more for changed.
    pub(super) fn add(&mut self, chunks: impl IntoIterator<Item = u64>, chunk_count: u64) {
        let mut ranges = std::mem::take(&mut self.ranges);
        let inside = chunks.into_iter().filter(|chunk| *chunk < chunk_count);
        ranges.extend(inside.map(|chunk| chunk..chunk + 1));
        self.ranges = merged(ranges);
    }

    /// Number of changed chunks.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Whether the chunk is said to have changed.
    pub(super) fn contains(&self, chunk: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.end <= chunk);
        self.ranges
            .get(after)
            .is_some_and(|range| range.start <= chunk)
    }

    /// The first changed chunks at or after a chunk.
    pub(super) fn next(&self, from: u64) -> Option<Range<u64>> {
        let after = self.ranges.partition_point(|range| range.end <= from);
        let range = self.ranges.get(after)?;
        Some(range.start.max(from)..range.end)
    }
}

/// First chunk of the leaf of the map that a chunk is in.
pub(super) fn leaf_of(chunk: u64) -> u64 {
    chunk / FAN_OUT * FAN_OUT
}

fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 64 << 10;

    fn changed(ranges: &[Range<u64>], base: u64, size: u64) -> Vec<(u64, u64)> {
        let chunk_size = u32::try_from(CHUNK).unwrap();
        let changed = Changed::new(ranges, base, size, chunk_size).unwrap();
        let ranges = changed.ranges.into_iter();
        ranges.map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn ranges_become_chunks() {
        let size = 10 * CHUNK;
        assert_eq!(changed(&[], size, size), []);
        assert_eq!(
            changed(&[CHUNK - 1..CHUNK + 1, 5 * CHUNK..5 * CHUNK], size, size),
            [(0, 2)]
        );
        assert_eq!(
            changed(&[7 * CHUNK..9 * CHUNK, 0..1, 1..2 * CHUNK], size, size),
            [(0, 2), (7, 9)]
        );
        let backwards = Range { start: 2, end: 1 };
        assert!(Changed::new(&[backwards], size, size, 64 << 10).is_err());
    }

    #[test]
    fn growth_and_the_cut_of_a_new_end_count_as_changed() {
        assert_eq!(changed(&[], 3 * CHUNK + 5, 9 * CHUNK), [(3, 9)]);
        assert_eq!(changed(&[], 3 * CHUNK, 9 * CHUNK + 1), [(3, 10)]);
        assert_eq!(changed(&[], 9 * CHUNK, 3 * CHUNK + 5), [(3, 4)]);
        // Past the end: cut off, or of no matter.
        let far = [2 * CHUNK..200 * CHUNK, 300 * CHUNK..400 * CHUNK];
        assert_eq!(changed(&far, 9 * CHUNK, 3 * CHUNK), [(2, 3)]);
    }

    #[test]
    fn single_chunks_are_found_and_added() {
        let mut changed = Changed {
            ranges: vec![2..4, 8..9],
            ..Changed::default()
        };
        assert_eq!(changed.count(), 3);
        let found: Vec<u64> = (0..10).filter(|chunk| changed.contains(*chunk)).collect();
        assert_eq!(found, [2, 3, 8]);
        assert_eq!(changed.next(3), Some(3..4));
        assert_eq!(changed.next(4), Some(8..9));
        assert_eq!(changed.next(9), None);
        changed.add([4, 11, 6], 10);
        assert_eq!(changed.ranges, [2..5, 6..7, 8..9]);
    }

    #[test]
    fn leaves_are_looked_at_for_a_change_or_without_one() {
        let mut changed = Changed {
            ranges: vec![10..12, 60..65, 300..301],
            ..Changed::default()
        };
        assert_eq!(changed.leaves(), 4);
        changed.open(192);
        changed.open(64);
        let mut leaves = Vec::new();
        let mut from = 0;
        while let Some(leaf) = changed.next_leaf(from) {
            assert!(changed.opens(leaf));
            leaves.push(leaf);
            from = leaf + 64;
        }
        assert_eq!(leaves, [0, 64, 192, 256]);
        assert!(!changed.opens(128));
    }
}
