//! How far an upload, restore or verify has come: counters that the pipelines raise and anybody may read.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is being done at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Opening, asking the bucket, planning.
    Starting,
    /// Moving data.
    Data,
    /// Writing or checking the map and the list of packs.
    Map,
    /// Committing or flushing.
    Finishing,
    /// Done.
    Done,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Starting => "starting",
            Phase::Data => "moving data",
            Phase::Map => "map",
            Phase::Finishing => "finishing",
            Phase::Done => "done",
        })
    }
}

impl Phase {
    fn from_number(number: u8) -> Self {
        [
            Phase::Starting,
            Phase::Data,
            Phase::Map,
            Phase::Finishing,
            Phase::Done,
        ]
        .into_iter()
        .nth(usize::from(number))
        .unwrap_or(Phase::Starting)
    }
}

/// The counters. They only rise; a total of 0 means that it is not known yet.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    bytes_total: AtomicU64,
    bytes_scanned: AtomicU64,
    bytes_to_read: AtomicU64,
    bytes_read: AtomicU64,
    bytes_data: AtomicU64,
    bytes_moved: AtomicU64,
    requests: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// What is being done.
    pub phase: Phase,
    /// How much there is to go through, in bytes of the volume; 0 = not known yet.
    pub bytes_total: u64,
    /// How much of that is behind us, holes included.
    pub bytes_scanned: u64,
    /// How much of the source is to be read, where that is known before: without holes, and without what is as it was; 0 = not known.
    pub bytes_to_read: u64,
    /// How much of that was read.
    pub bytes_read: u64,
    /// Bytes of it that are data: chunks that are not all zeroes.
    pub bytes_data: u64,
    /// Bytes sent to the bucket (upload) or received from it (restore, verify).
    pub bytes_moved: u64,
    /// Requests made to the bucket for that.
    pub requests: u64,
}

impl Progress {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads all of them.
    #[must_use]
    pub fn snapshot(&self) -> ProgressSnapshot {
        let bytes_total = self.bytes_total.load(Ordering::Relaxed);
        let bytes_scanned = self.bytes_scanned.load(Ordering::Relaxed);
        ProgressSnapshot {
            phase: Phase::from_number(self.phase.load(Ordering::Relaxed)),
            bytes_total,
            // Whole chunks are counted; the last one may reach past the end.
            bytes_scanned: match bytes_total {
                0 => bytes_scanned,
                total => bytes_scanned.min(total),
            },
            bytes_to_read: self.bytes_to_read.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            bytes_data: self.bytes_data.load(Ordering::Relaxed),
            bytes_moved: self.bytes_moved.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn scanned(&self, bytes: u64) {
        self.bytes_scanned.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says how much is to be read from now on. What was read before, of a try that is begun anew, counts as done.
    pub(crate) fn set_to_read(&self, bytes: u64) {
        let read = self.bytes_read.load(Ordering::Relaxed);
        self.bytes_to_read.store(read + bytes, Ordering::Relaxed);
    }

    /// Of what was to be read, a part turns out to be another one.
    pub(crate) fn reads_instead(&self, planned: u64, now: u64) {
        if self.bytes_to_read.load(Ordering::Relaxed) > 0 {
            self.bytes_to_read.fetch_add(now, Ordering::Relaxed);
            self.bytes_to_read.fetch_sub(planned, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn data(&self, bytes: u64) {
        self.bytes_data.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn moved(&self, bytes: u64) {
        self.bytes_moved.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn requested(&self, requests: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_survive_the_counter() {
        let progress = Progress::new();
        for phase in [
            Phase::Data,
            Phase::Map,
            Phase::Finishing,
            Phase::Done,
            Phase::Starting,
        ] {
            progress.enter(phase);
            assert_eq!(progress.snapshot().phase, phase);
        }
    }
}
