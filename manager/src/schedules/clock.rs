//! The time as schedules see it.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

/// Longest sleep without a look at the clock: somebody may set it meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Less is a clock that is being trimmed.
const PUT_BACK: SignedDuration = SignedDuration::from_secs(5);

/// A clock that tells the time and wakes at a time. What it tells may jump, in both directions.
#[async_trait]
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Returns when it is as late as `until`, or when the clock was put back to before `from`.
    async fn sleep(&self, from: Timestamp, until: Timestamp);
}

/// The clock of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, from: Timestamp, until: Timestamp) {
        loop {
            let now = self.now();
            if from.duration_since(now) > PUT_BACK {
                return;
            }
            match Duration::try_from(until.duration_since(now)) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LOOK_EVERY)).await,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_wakes_when_it_is_time_and_not_before() {
        let clock = SystemClock;
        let now = clock.now();
        clock.sleep(now, Timestamp::MIN).await;
        let moment = now + SignedDuration::from_millis(30);
        clock.sleep(now, moment).await;
        assert!(clock.now() >= moment);
        // It was an hour later when the sleeper last looked.
        let later = now + SignedDuration::from_hours(1);
        clock
            .sleep(later, later + SignedDuration::from_hours(1))
            .await;
    }
}
