//! What a server was asked: one record per request, in the order of arrival.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::op::{Op, Target};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// Counts from 1, over the life of the server.
    pub number: u64,
    /// The operation.
    pub op: Op,
    /// The bucket, if the request named one.
    pub bucket: Option<String>,
    /// The key; for listings, the prefix.
    pub key: Option<String>,
    /// The access key that signed it.
    pub access_key: Option<String>,
    /// The answer's status; `None` while there is none, and where the connection was dropped.
    pub status: Option<u16>,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were sent.
    pub bytes_out: u64,
    /// The fault that was applied, by its name.
    pub fault: Option<&'static str>,
    /// From arrival to the end of the answer's body; `None` while it is under way.
    pub elapsed: Option<Duration>,
}

#[derive(Debug)]
struct Live {
    number: u64,
    target: Target,
    started: Instant,
    status: AtomicU16,
    bytes_in: Arc<AtomicU64>,
    bytes_out: Arc<AtomicU64>,
    fault: OnceLock<&'static str>,
    elapsed: OnceLock<Duration>,
}

impl Live {
    fn record(&self) -> RequestRecord {
        let status = self.status.load(Ordering::Relaxed);
        RequestRecord {
            number: self.number,
            op: self.target.op,
            bucket: self.target.bucket.clone(),
            key: self.target.key.clone(),
            access_key: self.target.access_key.clone(),
            status: (status != 0).then_some(status),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            fault: self.fault.get().copied(),
            elapsed: self.elapsed.get().copied(),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    numbered: u64,
    requests: Vec<Arc<Live>>,
    in_flight: HashMap<Op, InFlight>,
}

#[derive(Debug, Default, Clone, Copy)]
struct InFlight {
    now: usize,
    peak: usize,
}

/// The journal of a server. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    inner: Arc<Mutex<Inner>>,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every request since the start or the last [`clear`](Self::clear).
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.lock()
            .requests
            .iter()
            .map(|live| live.record())
            .collect()
    }

    /// How many requests of `op` arrived.
    #[must_use]
    pub fn count(&self, op: Op) -> usize {
        self.lock()
            .requests
            .iter()
            .filter(|live| live.target.op == op)
            .count()
    }

    /// How many requests arrived.
    #[must_use]
    pub fn total(&self) -> usize {
        self.lock().requests.len()
    }

    /// Bytes of bodies read from clients.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.lock()
            .requests
            .iter()
            .map(|live| live.bytes_in.load(Ordering::Relaxed))
            .sum()
    }

    /// Bytes of bodies sent to clients.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.lock()
            .requests
            .iter()
            .map(|live| live.bytes_out.load(Ordering::Relaxed))
            .sum()
    }

    /// The most requests of `op` that were under way at one time.
    #[must_use]
    pub fn peak_in_flight(&self, op: Op) -> usize {
        self.lock()
            .in_flight
            .get(&op)
            .map_or(0, |in_flight| in_flight.peak)
    }

    /// Forgets what was recorded; numbers go on.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.requests.clear();
        for in_flight in inner.in_flight.values_mut() {
            in_flight.peak = in_flight.now;
        }
    }

    /// Opens the record of a request.
    pub(crate) fn begin(&self, target: Target) -> Ticket {
        let mut inner = self.lock();
        inner.numbered += 1;
        let in_flight = inner.in_flight.entry(target.op).or_default();
        in_flight.now += 1;
        in_flight.peak = in_flight.peak.max(in_flight.now);
        let live = Arc::new(Live {
            number: inner.numbered,
            target,
            started: Instant::now(),
            status: AtomicU16::new(0),
            bytes_in: Arc::default(),
            bytes_out: Arc::default(),
            fault: OnceLock::new(),
            elapsed: OnceLock::new(),
        });
        inner.requests.push(Arc::clone(&live));
        Ticket {
            journal: self.clone(),
            live,
        }
    }
}

/// A request under way: its record is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    journal: Journal,
    live: Arc<Live>,
}

impl Ticket {
    pub(crate) fn number(&self) -> u64 {
        self.live.number
    }

    pub(crate) fn target(&self) -> &Target {
        &self.live.target
    }

    pub(crate) fn bytes_in(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.live.bytes_in)
    }

    pub(crate) fn bytes_out(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.live.bytes_out)
    }

    pub(crate) fn set_status(&self, status: http::StatusCode) {
        self.live.status.store(status.as_u16(), Ordering::Relaxed);
    }

    /// Notes the fault that was applied; the first one stays.
    pub(crate) fn set_fault(&self, name: &'static str) {
        let _first_stays = self.live.fault.set(name);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let _set_once = self.live.elapsed.set(self.live.started.elapsed());
        if let Some(in_flight) = self.journal.lock().in_flight.get_mut(&self.live.target.op) {
            in_flight.now -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(op: Op) -> Target {
        Target {
            op,
            bucket: Some("b".into()),
            key: None,
            access_key: None,
        }
    }

    #[test]
    fn records_open_and_close() {
        let journal = Journal::default();
        let first = journal.begin(target(Op::UploadPart));
        let second = journal.begin(target(Op::UploadPart));
        first.set_status(http::StatusCode::OK);
        first.bytes_in().fetch_add(7, Ordering::Relaxed);
        second.set_fault("a");
        second.set_fault("b");
        drop(first);
        let records = journal.requests();
        assert_eq!(records[0].status, Some(200));
        assert!(records[0].elapsed.is_some() && records[1].elapsed.is_none());
        assert_eq!(records[1].fault, Some("a"));
        assert_eq!(
            (
                journal.count(Op::UploadPart),
                journal.peak_in_flight(Op::UploadPart)
            ),
            (2, 2)
        );
        assert_eq!((journal.bytes_in(), journal.bytes_out()), (7, 0));
        journal.clear();
        assert_eq!(
            (journal.total(), journal.peak_in_flight(Op::UploadPart)),
            (0, 1)
        );
        drop(second);
        assert_eq!(journal.begin(target(Op::GetObject)).number(), 3);
    }
}
