//! Uploads and restores that run in this process: how far each is, and how to stop one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use stockpot_repository::{Phase, Progress, ProgressSnapshot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    ManagerError,
    catalog::{JobKind, StreamDirection},
    config::{StreamsConfig, TransferConfig},
};

/// What a transfer works on: its kind and the id of the snapshot or volume.
pub(crate) type Key = (JobKind, String);

/// All transfers of this process.
#[derive(Debug)]
pub(crate) struct Transfers {
    running: Mutex<HashMap<Key, Arc<Running>>>,
    uploads: Semaphore,
    restores: Semaphore,
    /// Of streams, which wait for their other sides: nothing else waits with them.
    sends: Semaphore,
    receives: Semaphore,
    streams: Arc<Semaphore>,
}

/// One transfer, all its attempts.
#[derive(Debug)]
pub(crate) struct Running {
    cancel: CancellationToken,
    attempt: Mutex<Attempt>,
    /// Its end is about to be recorded.
    ending: AtomicBool,
    done: watch::Sender<bool>,
}

/// The attempt that runs, or ran last.
#[derive(Debug)]
struct Attempt {
    progress: Arc<Progress>,
    since: Instant,
    /// Why the one before it failed, or this one, if it has ended.
    failure: Option<String>,
    has_ended: bool,
}

/// How far a transfer is.
#[derive(Debug, Clone)]
pub(crate) struct HowFar {
    pub(crate) counters: ProgressSnapshot,
    pub(crate) elapsed: Duration,
    /// What it waits for: why the last attempt failed, until one gets further.
    pub(crate) waits_for: Option<String>,
}

impl HowFar {
    /// Bytes that are dealt with, and all of them: of what is to be read where that is known, else of the volume, holes included.
    pub(crate) fn done_of_total(&self) -> (u64, u64) {
        let counters = &self.counters;
        match counters.bytes_to_read {
            0 => (counters.bytes_scanned, counters.bytes_total),
            total => (counters.bytes_read.min(total), total),
        }
    }

    /// The phase in words.
    pub(crate) fn phase(&self) -> &'static str {
        match self.counters.phase {
            Phase::Starting => "starting",
            Phase::Data => "moving data",
            Phase::Map => "mapping",
            Phase::Finishing => "finishing",
            Phase::Done => "done",
        }
    }
}

/// Ends the entry of a transfer when dropped, also when its task panics.
#[derive(Debug)]
pub(crate) struct Entry {
    transfers: Arc<Transfers>,
    key: Key,
    running: Arc<Running>,
}

impl Transfers {
    pub(crate) fn new(config: &TransferConfig, streams: &StreamsConfig) -> Arc<Self> {
        Arc::new(Self {
            running: Mutex::default(),
            uploads: Semaphore::new(config.uploads_max),
            restores: Semaphore::new(config.restores_max),
            sends: Semaphore::new(streams.sends_max),
            receives: Semaphore::new(streams.receives_max),
            streams: Arc::new(Semaphore::new(streams.streams_max)),
        })
    }

    /// Registers a transfer; `None` when it is running already. One whose end is being recorded is waited for: what
    /// it records may be the reason for this one.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        key: Key,
        parent: &CancellationToken,
    ) -> Option<Entry> {
        loop {
            let there = match self.register(&key, parent) {
                Ok(entry) => return Some(entry),
                Err(there) => there,
            };
            if !there.ending.load(Ordering::SeqCst) {
                return None;
            }
            let mut done = there.done.subscribe();
            // The sender is part of what is held here, so the wait ends by the value only.
            let _ = done.wait_for(|done| *done).await;
        }
    }

    /// A new entry, or the one that is there.
    fn register(
        self: &Arc<Self>,
        key: &Key,
        parent: &CancellationToken,
    ) -> Result<Entry, Arc<Running>> {
        let mut running = self.lock();
        if let Some(there) = running.get(key) {
            return Err(there.clone());
        }
        let new = Arc::new(Running {
            cancel: parent.child_token(),
            attempt: Mutex::new(Attempt {
                progress: Arc::default(),
                since: Instant::now(),
                failure: None,
                has_ended: false,
            }),
            ending: AtomicBool::new(false),
            done: watch::Sender::new(false),
        });
        running.insert(key.clone(), new.clone());
        Ok(Entry {
            transfers: self.clone(),
            key: key.clone(),
            running: new,
        })
    }

    /// How far a transfer is; `None` when it is not running.
    pub(crate) fn how_far(&self, kind: JobKind, id: &str) -> Option<HowFar> {
        let running = self.find(kind, id)?;
        let attempt = running.attempt();
        let counters = attempt.progress.snapshot();
        let waits = attempt.has_ended || counters.phase == Phase::Starting;
        Some(HowFar {
            counters,
            elapsed: attempt.since.elapsed(),
            waits_for: attempt.failure.clone().filter(|_| waits),
        })
    }

    /// Whether a transfer is under way; one whose end is being recorded is not.
    pub(crate) fn is_running(&self, kind: JobKind, id: &str) -> bool {
        self.find(kind, id)
            .is_some_and(|running| !running.ending.load(Ordering::SeqCst))
    }

    /// Cancels a transfer and waits until it has undone what it did. None is success.
    ///
    /// # Errors
    /// `Busy` when that takes longer than `limit`; it goes on.
    pub(crate) async fn cancel(
        &self,
        kind: JobKind,
        id: &str,
        limit: Duration,
    ) -> Result<(), ManagerError> {
        let Some(running) = self.find(kind, id) else {
            return Ok(());
        };
        running.cancel.cancel();
        let mut done = running.done.subscribe();
        match tokio::time::timeout(limit, done.wait_for(|done| *done)).await {
            // The sender is part of what is held here, so the wait ends by the value only.
            Ok(_) => Ok(()),
            Err(_) => Err(ManagerError::Busy(format!(
                "the {kind} of {id} is being cancelled: ask again"
            ))),
        }
    }

    /// Waits for a turn; as many as configured run at the same time.
    pub(crate) async fn turn(&self, kind: JobKind) -> SemaphorePermit<'_> {
        let semaphore = match kind {
            JobKind::Upload => &self.uploads,
            JobKind::Restore => &self.restores,
        };
        semaphore.acquire().await.expect("never closed")
    }

    /// Takes one of the places of streams, those that wait for their turn included.
    ///
    /// # Errors
    /// `Busy` when there is none.
    pub(crate) fn stream_place(&self) -> Result<OwnedSemaphorePermit, ManagerError> {
        let place = self.streams.clone().try_acquire_owned();
        place.map_err(|_| {
            let why = "as many streams as may be (`streams.streamsMax`) are under way: ask again";
            ManagerError::Busy(why.to_owned())
        })
    }

    /// Waits for the turn of a stream.
    pub(crate) async fn stream_turn(&self, direction: StreamDirection) -> SemaphorePermit<'_> {
        let semaphore = match direction {
            StreamDirection::Send => &self.sends,
            StreamDirection::Receive => &self.receives,
        };
        semaphore.acquire().await.expect("never closed")
    }

    fn find(&self, kind: JobKind, id: &str) -> Option<Arc<Running>> {
        self.lock().get(&(kind, id.to_owned())).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Cancelled when the transfer is to stop.
    pub(crate) fn cancel_token(&self) -> &CancellationToken {
        &self.running.cancel
    }

    /// Says that the end is about to be recorded: nothing more is done than that.
    pub(crate) fn ending(&self) {
        self.running.ending.store(true, Ordering::SeqCst);
    }

    /// Counters at zero, for a new attempt.
    pub(crate) fn new_attempt(&self) -> Arc<Progress> {
        let progress = Arc::new(Progress::new());
        let mut attempt = self.running.attempt();
        attempt.progress = progress.clone();
        attempt.since = Instant::now();
        attempt.has_ended = false;
        progress
    }

    /// Says why an attempt failed, after which another one follows.
    pub(crate) fn waits(&self, failure: String) {
        let mut attempt = self.running.attempt();
        attempt.failure = Some(failure);
        attempt.has_ended = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.transfers.lock().remove(&self.key);
        self.running.done.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transfer_runs_once_and_can_be_cancelled() {
        let transfers = Transfers::new(&TransferConfig::default(), &StreamsConfig::default());
        let parent = CancellationToken::new();
        let key = (JobKind::Upload, "snap-1".to_owned());
        let limit = Duration::from_millis(100);
        let entry = transfers.begin(key.clone(), &parent).await.unwrap();
        assert!(transfers.begin(key.clone(), &parent).await.is_none());
        assert!(transfers.how_far(JobKind::Upload, "snap-1").is_some());
        assert!(transfers.how_far(JobKind::Restore, "snap-1").is_none());
        assert!(transfers.is_running(JobKind::Upload, "snap-1"));
        assert!(!transfers.is_running(JobKind::Restore, "snap-1"));

        let late = transfers.cancel(JobKind::Upload, "snap-1", limit).await;
        assert!(matches!(late, Err(ManagerError::Busy(_))));
        assert!(entry.cancel_token().is_cancelled());
        assert!(!parent.is_cancelled());
        let ending = async {
            tokio::time::sleep(limit / 2).await;
            drop(entry);
        };
        let (cancelled, ()) =
            tokio::join!(transfers.cancel(JobKind::Upload, "snap-1", limit), ending);
        cancelled.unwrap();
        assert!(transfers.begin(key, &parent).await.is_some());
    }

    /// What is asked for because of an end that was recorded just now must not be taken for what ended.
    #[tokio::test]
    async fn the_next_begins_when_the_last_has_ended() {
        let transfers = Transfers::new(&TransferConfig::default(), &StreamsConfig::default());
        let parent = CancellationToken::new();
        let key = (JobKind::Upload, "snap-1".to_owned());
        let entry = transfers.begin(key.clone(), &parent).await.unwrap();
        assert!(transfers.is_running(JobKind::Upload, "snap-1"));
        entry.ending();
        assert!(!transfers.is_running(JobKind::Upload, "snap-1"));
        let ending = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(entry);
        };
        let (next, ()) = tokio::join!(transfers.begin(key, &parent), ending);
        assert!(!next.unwrap().cancel_token().is_cancelled());
    }
}
