//! A transfer's attempts: what may pass by itself is tried again, with growing pauses; everything else is final. However far they
//! get, there is an end to them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use stockpot_repository::{Progress, RepositoryError};
use tokio_util::sync::CancellationToken;

use crate::{
    Manager, ManagerError, catalog::JobKind, config::TransferConfig, error::chain, transfers::Entry,
};

/// One attempt, with its counters.
pub(crate) type Attempt<'a, T> =
    dyn Fn(Arc<Progress>) -> BoxFuture<'a, Result<T, ManagerError>> + Send + Sync + 'a;

/// A transfer that has failed so often gets to no end, whatever the times are set to.
const ATTEMPTS_MAX: u32 = 10_000;

/// How long a transfer has got nowhere. Days of work with a failure now and then are not lost, so an attempt that read or moved
/// something counts for nothing there, however long it took; but it counts for how long there were attempts in all.
#[derive(Debug, Default)]
struct Patience {
    failures: u32,
    lost: Duration,
    total: Duration,
}

impl Patience {
    /// The pause after an attempt that failed: it took so long, and whether it got anywhere. `None`: there will be no other one.
    fn pause(
        &mut self,
        config: &TransferConfig,
        took: Duration,
        got_somewhere: bool,
    ) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if !got_somewhere {
            self.lost = self.lost.saturating_add(took);
        }
        self.total = self.total.saturating_add(took);
        let is_over = self.lost >= Duration::from_secs(config.give_up_after_seconds)
            || self.total >= Duration::from_secs(config.end_after_seconds)
            || self.failures >= ATTEMPTS_MAX;
        if is_over {
            return None;
        }
        let pause = config.pause_before(self.failures.saturating_add(1));
        // Without pauses there is an end all the same.
        let counted = pause.max(Duration::from_secs(1));
        self.lost = self.lost.saturating_add(counted);
        self.total = self.total.saturating_add(counted);
        Some(pause)
    }

    /// What it all came to, after an attempt that ended with this.
    fn gave_up(&self, kind: JobKind, last: ManagerError) -> ManagerError {
        ManagerError::GaveUp {
            kind,
            attempts: self.failures,
            seconds: self.total.as_secs(),
            source: Box::new(last),
        }
    }
}

impl Manager {
    /// Makes attempts until one succeeds, one fails for good, or they have got nowhere for as long as configured.
    ///
    /// # Errors
    /// [`ManagerError::Cancelled`] when it was stopped; the error of an attempt that was final; [`ManagerError::GaveUp`].
    pub(crate) async fn attempts<T>(
        &self,
        kind: JobKind,
        id: &str,
        entry: &Entry,
        once: &Attempt<'_, T>,
    ) -> Result<T, ManagerError> {
        let config = &self.config.transfers;
        let cancel = entry.cancel_token();
        let mut patience = Patience::default();
        loop {
            let _turn = or_cancelled(cancel, self.transfers.turn(kind)).await?;
            let (progress, begun) = (entry.new_attempt(), Instant::now());
            let attempt = async {
                self.catalog.job_begins(kind, id).await?;
                once(progress.clone()).await
            };
            let error = match attempt.await {
                Ok(done) => return Ok(done),
                Err(_) if cancel.is_cancelled() => return Err(ManagerError::Cancelled),
                Err(ManagerError::Repository(RepositoryError::Cancelled)) => {
                    return Err(ManagerError::Cancelled);
                }
                Err(error) => error,
            };
            // Where the runtime is ending, all that is asked of it fails, and that is no failure of this: nobody comes back from here.
            tokio::task::yield_now().await;
            if !error.is_passing() {
                return Err(error);
            }
            let counted = progress.snapshot();
            let got_somewhere = counted.bytes_scanned > 0 || counted.bytes_moved > 0;
            let Some(pause) = patience.pause(config, begun.elapsed(), got_somewhere) else {
                return Err(patience.gave_up(kind, error));
            };
            tracing::warn!(
                %kind,
                id,
                attempt = patience.failures,
                lost_seconds = patience.lost.as_secs(),
                pause_seconds = pause.as_secs(),
                error = chain(&error),
                "an attempt failed; another one follows"
            );
            entry.waits(chain(&error));
            if let Err(error) = self.catalog.job_waits(kind, id, chain(&error)).await {
                // What it waits for may be just that.
                tracing::warn!(%kind, id, error = chain(&error), "what is waited for cannot be written down");
            }
            self.notify();
            drop(_turn);
            or_cancelled(cancel, tokio::time::sleep(pause)).await?;
        }
    }
}

async fn or_cancelled<T>(
    cancel: &CancellationToken,
    waiting: impl Future<Output = T>,
) -> Result<T, ManagerError> {
    tokio::select! {
        () = cancel.cancelled() => Err(ManagerError::Cancelled),
        done = waiting => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts, and how long, until it is given up, when each attempt fails after `took`.
    fn until_given_up(
        config: &TransferConfig,
        took: Duration,
        got_somewhere: bool,
    ) -> (u32, Duration) {
        let mut patience = Patience::default();
        let mut elapsed = took;
        while let Some(pause) = patience.pause(config, took, got_somewhere) {
            assert!(pause <= Duration::from_mins(5));
            elapsed += pause + took;
        }
        (patience.failures, elapsed)
    }

    #[test]
    fn a_bucket_that_is_gone_for_hours_ends_no_transfer() {
        let config = TransferConfig::default();
        let day = Duration::from_hours(24);
        let (attempts, elapsed) = until_given_up(&config, Duration::from_secs(20), false);
        assert!(elapsed >= day && elapsed < day + Duration::from_mins(10));
        // The first ones come quickly, and none is more than some minutes late.
        assert!((250..350).contains(&attempts), "{attempts}");
    }

    #[test]
    fn work_is_not_lost() {
        let config = TransferConfig::default();
        let mut patience = Patience::default();
        // Two failures far apart in an upload of two days.
        for _ in 0..2 {
            let worked = patience.pause(&config, Duration::from_hours(25), true);
            assert!(worked.is_some_and(|pause| pause < Duration::from_mins(1)));
        }
        // One that gets to the same place again and again ends as well.
        let (attempts, _) = until_given_up(&config, Duration::from_mins(1), true);
        assert!((250..350).contains(&attempts), "{attempts}");
    }

    /// Each attempt reads for hours and then meets the same failure: nothing of that counts as lost.
    #[test]
    fn getting_somewhere_again_and_again_is_no_reason_to_go_on_for_ever() {
        let config = TransferConfig::default();
        let days = |days: u64| Duration::from_hours(24 * days);
        let (_, elapsed) = until_given_up(&config, Duration::from_hours(25), true);
        assert!(elapsed >= days(30) && elapsed < days(32), "{elapsed:?}");
        // Nor are failures without any pause counted for ever.
        let hasty = TransferConfig {
            pause_first_seconds: 0,
            pause_max_seconds: 0,
            give_up_after_seconds: u64::MAX,
            end_after_seconds: u64::MAX,
            ..TransferConfig::default()
        };
        let (attempts, _) = until_given_up(&hasty, Duration::ZERO, true);
        assert_eq!(attempts, ATTEMPTS_MAX);
    }

    #[test]
    fn what_was_waited_for_is_said() {
        let config = TransferConfig {
            give_up_after_seconds: 0,
            ..TransferConfig::default()
        };
        let mut patience = Patience::default();
        let took = Duration::from_secs(7);
        assert_eq!(patience.pause(&config, took, false), None);
        let last = ManagerError::NoAnswer {
            what: "the bucket".to_owned(),
            seconds: 5,
        };
        let error = patience.gave_up(JobKind::Upload, last);
        assert_eq!(
            chain(&error),
            "the upload was given up after 1 attempt in 7 s: the bucket did not answer within 5 s"
        );
        assert!(error.is_passing());
    }

    #[test]
    fn without_pauses_there_is_an_end_too() {
        let config = |give_up_after_seconds| TransferConfig {
            give_up_after_seconds,
            pause_first_seconds: 0,
            pause_max_seconds: 0,
            ..TransferConfig::default()
        };
        let attempts = |seconds| until_given_up(&config(seconds), Duration::ZERO, true).0;
        assert_eq!((attempts(0), attempts(3)), (1, 4));
    }
}
