//! What a restore that goes on past damage could not read. Damage may be scattered over all of a volume: so many places are listed, and all bytes
//! are counted.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Places that are listed at most; with their reasons they take a few MiB.
const LISTED_MAX: usize = 10_000;

/// A part of a volume that could not be read, and is zeroes in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// Bytes of the volume.
    pub bytes: Range<u64>,
    /// Why: of the first chunk in it, if the others have other reasons.
    pub why: String,
}

/// All of a volume that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses {
    /// Where, ascending: 10,000 places at most.
    pub ranges: Vec<LostRange>,
    /// How much, in bytes of the volume, whether it is listed or not.
    pub bytes: u64,
    /// How much of that is at places that are not listed, in bytes.
    pub unlisted_bytes: u64,
    /// Something was read as it was first written, because what is there now is gone or damaged: none of that is lost.
    pub read_first: bool,
}

/// Lost chunks, as they are found.
#[derive(Debug)]
pub(super) struct Lost {
    chunk_size: u64,
    size_bytes: u64,
    listed_max: usize,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// By the first chunk of each row the one behind it, and why. Rows that touch are one.
    rows: BTreeMap<u64, (u64, String)>,
    unlisted_bytes: u64,
}

impl Lost {
    /// Nothing yet, of a volume of that size.
    pub(super) fn new(chunk_size: u64, size_bytes: u64) -> Self {
        Self {
            chunk_size,
            size_bytes,
            listed_max: LISTED_MAX,
            found: Mutex::default(),
        }
    }

    /// Notes chunks that were not noted before.
    pub(super) fn add(&self, chunks: Range<u64>, why: String) {
        let mut found = self.found();
        let rows = &mut found.rows;
        let (mut start, mut end, mut why) = (chunks.start, chunks.end, why);
        let behind = rows.remove(&end);
        let is_full = rows.len() >= self.listed_max;
        let before = rows.range_mut(..start).next_back();
        let before = before.filter(|(_, (behind, _))| *behind == start);
        if is_full && behind.is_none() && before.is_none() {
            let bytes = self.bytes(&chunks);
            found.unlisted_bytes += bytes.end - bytes.start;
            return;
        }
        if let Some((behind, _)) = behind {
            end = behind;
        }
        if let Some((first, (_, reason))) = before {
            (start, why) = (*first, std::mem::take(reason));
        }
        rows.insert(start, (end, why));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found().rows.is_empty()
    }

    /// All that was noted.
    pub(super) fn losses(&self) -> Losses {
        let found = self.found();
        let row = |(start, (end, why)): (&u64, &(u64, String))| LostRange {
            bytes: self.bytes(&(*start..*end)),
            why: why.clone(),
        };
        let ranges: Vec<LostRange> = found.rows.iter().map(row).collect();
        let listed: u64 = ranges
            .iter()
            .map(|row| row.bytes.end - row.bytes.start)
            .sum();
        Losses {
            ranges,
            bytes: listed + found.unlisted_bytes,
            unlisted_bytes: found.unlisted_bytes,
            read_first: false,
        }
    }

    /// The last chunk of a volume may reach past its end.
    fn bytes(&self, chunks: &Range<u64>) -> Range<u64> {
        let at = |chunk: u64| (chunk * self.chunk_size).min(self.size_bytes);
        at(chunks.start)..at(chunks.end)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(bytes: Range<u64>, why: &str) -> LostRange {
        LostRange {
            bytes,
            why: why.to_owned(),
        }
    }

    #[test]
    fn rows_that_touch_are_one() {
        let lost = Lost::new(10, 95);
        for (start, end) in [(5, 6), (1, 2), (3, 5), (2, 3), (9, 10)] {
            lost.add(start..end, format!("from {start}"));
        }
        let losses = Losses {
            ranges: vec![range(10..60, "from 1"), range(90..95, "from 9")],
            bytes: 55,
            unlisted_bytes: 0,
            read_first: false,
        };
        assert_eq!(lost.losses(), losses);
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        let lost = Lost {
            listed_max: 2,
            ..Lost::new(10, 95)
        };
        // Two places; one that is left out; what touches a place; what joins two, which makes room; the volume's end.
        for (start, end) in [
            (0, 1),
            (4, 5),
            (7, 8),
            (1, 2),
            (3, 4),
            (2, 3),
            (6, 7),
            (9, 10),
        ] {
            lost.add(start..end, format!("from {start}"));
        }
        let losses = Losses {
            ranges: vec![range(0..50, "from 0"), range(60..70, "from 6")],
            bytes: 75,
            unlisted_bytes: 15,
            read_first: false,
        };
        assert_eq!(lost.losses(), losses);
    }
}
