//! One task at a time makes, grows or removes a volume, and one that removes it does not wait for one that fills it.
//!
//! Filling a volume takes as long as its size asks for, so it happens outside the volume group's lock. Among processes the
//! exclusively opened device keeps the second one out.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::VolumeId;

#[derive(Debug, Default)]
struct Turn {
    lock: Arc<Mutex<()>>,
    stop: Stop,
}

/// Who works on which volume.
#[derive(Debug, Default)]
pub(super) struct Turns(StdMutex<HashMap<VolumeId, Turn>>);

/// How many wait to remove a volume: while there are any, nobody goes on making it, whoever came first.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Whether the work is to end.
    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// Held while a volume is worked on.
#[derive(Debug)]
pub(super) struct Held {
    _guard: OwnedMutexGuard<()>,
    /// Raised by whoever wants the work to end.
    pub(super) stop: Stop,
}

/// One who waits to remove it; no longer, when dropped.
struct Wish(Stop);

impl Wish {
    fn new(stop: Stop) -> Self {
        stop.0.fetch_add(1, Ordering::Relaxed);
        Self(stop)
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    /// Waits for a volume's turn.
    pub(super) async fn take(&self, id: &VolumeId) -> Held {
        let (lock, stop) = self.entry(id);
        let guard = lock.lock_owned().await;
        Held {
            _guard: guard,
            stop,
        }
    }

    /// Asks whoever works on the volume to stop, and who would come next, then waits for its turn.
    pub(super) async fn take_over(&self, id: &VolumeId) -> Held {
        let (_, stop) = self.entry(id);
        let _wish = Wish::new(stop);
        self.take(id).await
    }

    /// Whether nobody works on it.
    pub(super) fn is_free(&self, id: &VolumeId) -> bool {
        self.entry(id).0.try_lock().is_ok()
    }

    fn entry(&self, id: &VolumeId) -> (Arc<Mutex<()>>, Stop) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_used =
            |turn: &Turn| Arc::strong_count(&turn.lock) > 1 || Arc::strong_count(&turn.stop.0) > 1;
        turns.retain(|_, turn| is_used(turn));
        let turn = turns.entry(id.clone()).or_default();
        (turn.lock.clone(), turn.stop.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn removing_stops_making() {
        let turns = Arc::new(Turns::default());
        let id: VolumeId = "a".parse().unwrap();
        let making = turns.take(&id).await;
        assert!(!turns.is_free(&id) && turns.is_free(&"b".parse().unwrap()));
        // Another one waits to make it, and was first.
        let mut next = tokio::spawn({
            let (turns, id) = (turns.clone(), id.clone());
            async move {
                let held = turns.take(&id).await;
                let is_asked = held.stop.is_asked();
                tokio::task::yield_now().await;
                is_asked
            }
        });
        tokio::task::yield_now().await;
        let removing = tokio::spawn({
            let (turns, id) = (turns.clone(), id.clone());
            async move { turns.take_over(&id).await.stop.is_asked() }
        });
        while !making.stop.is_asked() {
            tokio::task::yield_now().await;
        }
        assert!(!removing.is_finished());
        drop(making);
        let is_asked = (&mut next).await.unwrap();
        assert!(is_asked, "the one before it would make it all the same");
        assert!(!removing.await.unwrap(), "the next one starts afresh");
        assert!(turns.is_free(&id));
    }

    #[tokio::test]
    async fn a_removal_that_was_given_up_stops_nobody() {
        let turns = Turns::default();
        let id: VolumeId = "a".parse().unwrap();
        let making = turns.take(&id).await;
        let soon = std::time::Duration::from_millis(1);
        let removing = tokio::time::timeout(soon, turns.take_over(&id));
        assert!(removing.await.is_err());
        assert!(!making.stop.is_asked());
    }
}
