//! A clock that a test drives.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::schedules::Clock;

/// It stands still until it is set or moved on.
#[derive(Debug)]
pub struct DrivenClock {
    now: watch::Sender<Timestamp>,
    /// The time that was read before the last sleep.
    slept_from: watch::Sender<Option<Timestamp>>,
}

impl DrivenClock {
    /// A clock that stands at a time.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            now: watch::Sender::new(now),
            slept_from: watch::Sender::new(None),
        }
    }

    /// Sets it, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.now.send_replace(now);
    }

    /// Moves it on.
    pub fn pass(&self, time: SignedDuration) {
        self.now.send_modify(|now| *now += time);
    }

    /// Waits until somebody has read the time that it shows, done what is to be done then, and sleeps again.
    pub async fn seen(&self) {
        let now = self.now();
        let is_seen = |from: &Option<Timestamp>| *from == Some(now);
        // The sender lives as long as this.
        let _ = self.slept_from.subscribe().wait_for(is_seen).await;
    }
}

#[async_trait]
impl Clock for DrivenClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    async fn sleep(&self, from: Timestamp, until: Timestamp) {
        let wakes = |now: &Timestamp| *now < from || *now >= until;
        self.slept_from.send_replace(Some(from));
        // The sender lives as long as this.
        let _ = self.now.subscribe().wait_for(wakes).await;
    }
}
