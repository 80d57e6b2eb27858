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

    /// Returns when it is this late, or when the clock was put back.
    async fn sleep_until(&self, moment: Timestamp);
}

/// The clock of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, moment: Timestamp) {
        let mut last = self.now();
        loop {
            let now = self.now();
            if last.duration_since(now) > PUT_BACK {
                return;
            }
            last = now;
            match Duration::try_from(moment.duration_since(now)) {
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
        clock.sleep_until(Timestamp::MIN).await;
        let moment = clock.now() + SignedDuration::from_millis(30);
        clock.sleep_until(moment).await;
        assert!(clock.now() >= moment);
    }
}
