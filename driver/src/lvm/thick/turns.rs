//! One task at a time makes, grows or removes a volume, and one that removes it does not wait for one that fills it.
//!
//! Filling a volume takes as long as its size asks for, so it happens outside the volume group's lock. Among processes the
//! exclusively opened device keeps the second one out.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::VolumeId;

#[derive(Debug, Default)]
struct Turn {
    lock: Arc<Mutex<()>>,
    cancelled: Arc<AtomicBool>,
}

/// Who works on which volume.
#[derive(Debug, Default)]
pub(super) struct Turns(StdMutex<HashMap<VolumeId, Turn>>);

/// Held while a volume is worked on.
#[derive(Debug)]
pub(super) struct Held {
    _guard: OwnedMutexGuard<()>,
    /// Raised by whoever wants the work to end.
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Turns {
    /// Waits for a volume's turn.
    pub(super) async fn take(&self, id: &VolumeId) -> Held {
        let (lock, cancelled) = self.entry(id, |turn| (turn.lock.clone(), turn.cancelled.clone()));
        let guard = lock.lock_owned().await;
        cancelled.store(false, Ordering::Relaxed);
        Held {
            _guard: guard,
            cancelled,
        }
    }

    /// Asks whoever works on the volume to stop, then waits for its turn.
    pub(super) async fn take_over(&self, id: &VolumeId) -> Held {
        self.entry(id, |turn| turn.cancelled.store(true, Ordering::Relaxed));
        self.take(id).await
    }

    /// Whether nobody works on it.
    pub(super) fn is_free(&self, id: &VolumeId) -> bool {
        self.entry(id, |turn| turn.lock.try_lock().is_ok())
    }

    fn entry<T>(&self, id: &VolumeId, look: impl FnOnce(&Turn) -> T) -> T {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(&turn.lock) > 1);
        look(turns.entry(id.clone()).or_default())
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
        let removing = tokio::spawn({
            let (turns, id) = (turns.clone(), id.clone());
            async move { turns.take_over(&id).await.cancelled.load(Ordering::Relaxed) }
        });
        while !making.cancelled.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        assert!(!removing.is_finished());
        drop(making);
        assert!(!removing.await.unwrap(), "the next one starts afresh");
        assert!(turns.is_free(&id));
    }
}
