//! A transfer's attempts: what may pass by itself is tried again, with growing pauses; everything else is final.

use std::sync::Arc;

use futures::future::BoxFuture;
use stockpot_repository::{Progress, RepositoryError};
use tokio_util::sync::CancellationToken;

use crate::{Manager, ManagerError, catalog::JobKind, error::chain, transfers::Entry};

/// One attempt, with its counters.
pub(crate) type Attempt<'a, T> =
    dyn Fn(Arc<Progress>) -> BoxFuture<'a, Result<T, ManagerError>> + Send + Sync + 'a;

impl Manager {
    /// Makes attempts until one succeeds, one fails for good, or there were as many as configured.
    ///
    /// # Errors
    /// [`ManagerError::Cancelled`] when it was stopped, else the last attempt's error.
    pub(crate) async fn attempts<T>(
        &self,
        kind: JobKind,
        id: &str,
        entry: &Entry,
        once: &Attempt<'_, T>,
    ) -> Result<T, ManagerError> {
        let config = &self.config.transfers;
        let cancel = entry.cancel_token();
        for number in 1.. {
            let _turn = or_cancelled(cancel, self.transfers.turn(kind)).await?;
            self.catalog.job_begins(kind, id).await?;
            let error = match once(entry.new_attempt()).await {
                Ok(done) => return Ok(done),
                Err(_) if cancel.is_cancelled() => return Err(ManagerError::Cancelled),
                Err(ManagerError::Repository(RepositoryError::Cancelled)) => {
                    return Err(ManagerError::Cancelled);
                }
                Err(error) => error,
            };
            if !error.is_passing() || number >= config.attempts_max {
                return Err(error);
            }
            let pause = config.pause_before(number + 1);
            tracing::warn!(
                %kind,
                id,
                attempt = number,
                pause_seconds = pause.as_secs(),
                error = chain(&error),
                "an attempt failed; another one follows"
            );
            self.catalog.job_waits(kind, id, chain(&error)).await?;
            self.notify();
            drop(_turn);
            or_cancelled(cancel, tokio::time::sleep(pause)).await?;
        }
        unreachable!("the loop ends by returning")
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
