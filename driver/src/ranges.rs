//! Byte ranges as drivers answer them: ascending, merged, and in bounded memory.

use crate::ByteRange;

/// How many ranges are kept apart: 4 MiB of memory. Beyond that, the closest ones are joined over the gap between
/// them, so that an answer may cover more than it has to, and never less.
const RANGES_MAX: usize = 1 << 18;

/// Collects ranges that come in ascending order.
#[derive(Debug)]
pub(crate) struct Ranges {
    found: Vec<ByteRange>,
    end_bytes: u64,
    ranges_max: usize,
    /// Ranges that lie no further apart than this are one.
    gap_bytes: u64,
}

/// The ranges do not ascend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfOrder;

impl Ranges {
    /// Keeps what lies in the first `end_bytes`.
    pub(crate) fn within(end_bytes: u64) -> Self {
        Self::limited(end_bytes, RANGES_MAX)
    }

    fn limited(end_bytes: u64, ranges_max: usize) -> Self {
        Self {
            found: Vec::new(),
            end_bytes,
            ranges_max,
            gap_bytes: 0,
        }
    }

    /// Adds `start..end`, which may be empty or lie behind the end, but not before what was added last.
    pub(crate) fn add(&mut self, start: u64, end: u64) -> Result<(), OutOfOrder> {
        let (start, end) = (start.min(self.end_bytes), end.min(self.end_bytes));
        if start >= end {
            return Ok(());
        }
        match self.found.last_mut() {
            Some(last) if start < last.offset_bytes => return Err(OutOfOrder),
            Some(last) if start <= last.end_bytes().saturating_add(self.gap_bytes) => {
                last.length_bytes = last.length_bytes.max(end - last.offset_bytes);
            }
            _ => {
                self.found.push(ByteRange {
                    offset_bytes: start,
                    length_bytes: end - start,
                });
                if self.found.len() > self.ranges_max {
                    self.thin_out();
                }
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Vec<ByteRange> {
        self.found
    }

    /// Joins over ever larger gaps until half the room is free again.
    fn thin_out(&mut self) {
        while self.found.len() > self.ranges_max / 2 {
            self.gap_bytes = (self.gap_bytes * 2).max(4096);
            let gap = self.gap_bytes;
            self.found.dedup_by(|next, kept| {
                let joins = next.offset_bytes <= kept.end_bytes().saturating_add(gap);
                if joins {
                    kept.length_bytes = next.end_bytes() - kept.offset_bytes;
                }
                joins
            });
        }
    }
}

impl ByteRange {
    /// The byte behind the last one.
    #[must_use]
    pub fn end_bytes(&self) -> u64 {
        self.offset_bytes.saturating_add(self.length_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(end: u64, max: usize, added: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut ranges = Ranges::limited(end, max);
        for &(start, end) in added {
            ranges.add(start, end).unwrap();
        }
        let pairs = ranges.finish();
        pairs
            .iter()
            .map(|r| (r.offset_bytes, r.end_bytes()))
            .collect()
    }

    #[test]
    fn ranges_are_merged_and_end_with_the_device() {
        assert_eq!(of(100, 9, &[]), []);
        assert_eq!(of(100, 9, &[(5, 5), (100, 120), (300, 400)]), []);
        assert_eq!(
            of(100, 9, &[(0, 10), (10, 20), (15, 18), (30, 130)]),
            [(0, 20), (30, 100)]
        );
        let mut ranges = Ranges::within(100);
        ranges.add(50, 60).unwrap();
        assert_eq!(ranges.add(40, 70), Err(OutOfOrder));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_little_added(
            pieces in proptest::collection::vec((0_u64..20_000, 1_u64..20_000), 0..200),
            max in 2_usize..40,
            cut in 0_u64..30_000,
        ) {
            let mut at = 0;
            let mut added = Vec::new();
            for (gap, length) in pieces {
                added.push((at + gap, at + gap + length));
                at += gap + length;
            }
            let end = at.saturating_sub(cut);
            let kept = of(end, max, &added);
            prop_assert!(kept.len() <= max);
            prop_assert!(kept.windows(2).all(|pair| pair[0].1 < pair[1].0));
            prop_assert!(kept.iter().all(|range| range.0 < range.1 && range.1 <= end));
            for &(start, stop) in &added {
                let (start, stop) = (start.min(end), stop.min(end));
                prop_assert!(start == stop || kept.iter().any(|k| k.0 <= start && stop <= k.1));
            }
            if added.len() <= max {
                let bytes = |ranges: &[(u64, u64)]| ranges.iter().map(|r| r.1 - r.0).sum::<u64>();
                let wanted: Vec<_> = added.iter().map(|r| (r.0.min(end), r.1.min(end))).collect();
                prop_assert_eq!(bytes(&kept), bytes(&wanted));
            }
        }
    }
}
