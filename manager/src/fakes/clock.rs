//! A clock that a test drives.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::schedules::Clock;

/// It stands still until it is set or moved on.
#[derive(Debug)]
pub struct DrivenClock(watch::Sender<Timestamp>);

impl DrivenClock {
    /// A clock that stands at a time.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(watch::Sender::new(now))
    }

    /// Sets it, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.send_replace(now);
    }

    /// Moves it on.
    pub fn pass(&self, time: SignedDuration) {
        self.0.send_modify(|now| *now += time);
    }
}

#[async_trait]
impl Clock for DrivenClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    async fn sleep(&self, from: Timestamp, until: Timestamp) {
        let wakes = |now: &Timestamp| *now < from || *now >= until;
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(wakes).await;
    }
}
