//! How much one caller may ask for at the same time, so that its calls neither pile up nor keep the others' from being answered.
//!
//! A call is carried out to its end even if its caller went away, so connections do not bound them. They count here until they
//! have ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Caller;

/// Calls of one caller that are carried out at the same time.
const AT_ONCE: usize = 64;
/// Calls of one caller that wait for one of those to end; more are refused.
const WAITING: usize = 256;

/// Who asks for how much.
#[derive(Debug)]
pub(super) struct Callers {
    at_once: usize,
    waiting: usize,
    /// Only of callers that are let in, which are those that the configuration names.
    all: Mutex<BTreeMap<Caller, Shares>>,
}

/// What one caller has left.
#[derive(Debug, Clone)]
struct Shares {
    /// For all calls, those that wait included.
    places: Arc<Semaphore>,
    /// For those that are carried out.
    turns: Arc<Semaphore>,
}

/// The right to carry a call out; it ends with the call.
#[derive(Debug)]
pub(super) struct Permit {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl Default for Callers {
    fn default() -> Self {
        Self::new(AT_ONCE, WAITING)
    }
}

impl Callers {
    fn new(at_once: usize, waiting: usize) -> Self {
        Self {
            at_once,
            waiting,
            all: Mutex::default(),
        }
    }

    /// Waits until one more call of this caller may be carried out.
    ///
    /// # Errors
    /// If too many wait already: why, in words.
    pub(super) async fn enter(&self, caller: &Caller) -> Result<Permit, String> {
        let Shares { places, turns } = self.shares(caller);
        let place = places.try_acquire_owned().map_err(|_| {
            let who = match caller {
                Caller::Local => "this host",
                Caller::Node(name) => name,
            };
            format!(
                "{who} has {} calls under way here and {} waiting: ask again when some of them have ended",
                self.at_once, self.waiting
            )
        })?;
        let turn = turns.acquire_owned().await.expect("it is never closed");
        Ok(Permit {
            _place: place,
            _turn: turn,
        })
    }

    fn shares(&self, caller: &Caller) -> Shares {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Shares {
            places: Arc::new(Semaphore::new(self.at_once + self.waiting)),
            turns: Arc::new(Semaphore::new(self.at_once)),
        };
        all.entry(caller.clone()).or_insert_with(fresh).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn calls_wait_for_each_other_and_are_refused_when_too_many_do() {
        let callers = Arc::new(Callers::new(2, 1));
        let (one, other) = (
            Caller::Node("worker-1".to_owned()),
            Caller::Node("worker-2".to_owned()),
        );
        let first = callers.enter(&one).await.unwrap();
        let _second = callers.enter(&one).await.unwrap();
        let waiting = tokio::spawn({
            let (callers, one) = (callers.clone(), one.clone());
            async move { callers.enter(&one).await }
        });
        while callers.shares(&one).places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let why = callers.enter(&one).await.unwrap_err();
        assert!(why.contains("worker-1 has 2 calls"), "{why}");
        // Another caller has its own.
        callers.enter(&other).await.unwrap();
        drop(first);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_that_gives_up_waiting_makes_room() {
        let callers = Callers::new(1, 1);
        let held = callers.enter(&Caller::Local).await.unwrap();
        for _ in 0..3 {
            let waiting = callers.enter(&Caller::Local);
            assert!(timeout(SOON, waiting).await.is_err(), "it did not wait");
        }
        drop(held);
        callers.enter(&Caller::Local).await.unwrap();
    }
}
