//! How all parts of a pipeline learn that it is over: the first failure wins, everybody else just stops.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::RepositoryError;

/// Shared by the parts of one pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    token: CancellationToken,
    first: Arc<Mutex<Option<RepositoryError>>>,
}

impl Stop {
    /// Stops when `cancel` does, or at the first failure.
    pub(crate) fn new(cancel: &CancellationToken) -> Self {
        Self {
            token: cancel.child_token(),
            first: Arc::default(),
        }
    }

    /// Stops everything; the first error is kept as the reason.
    pub(crate) fn fail(&self, error: RepositoryError) {
        {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            // What fails because of the stop says nothing.
            if first.is_none() && !matches!(error, RepositoryError::Cancelled) {
                *first = Some(error);
            }
        }
        self.token.cancel();
    }

    /// Fails once stopped.
    ///
    /// # Errors
    /// [`RepositoryError::Cancelled`]: the caller ends, [`reason`](Self::reason) has the cause.
    pub(crate) fn check(&self) -> Result<(), RepositoryError> {
        if self.token.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        Ok(())
    }

    /// Ends when stopped.
    pub(crate) async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// Waits for `work`, which may be dropped anywhere, until stopped.
    ///
    /// # Errors
    /// [`RepositoryError::Cancelled`]: stopped first.
    pub(crate) async fn unless<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, RepositoryError> {
        tokio::select! {
            done = work => Ok(done),
            () = self.stopped() => Err(RepositoryError::Cancelled),
        }
    }

    /// Stops everything when dropped.
    pub(crate) fn drop_guard(&self) -> DropGuard {
        self.token.clone().drop_guard()
    }

    /// Why it stopped; [`RepositoryError::Cancelled`] if nothing failed. Takes the error out.
    pub(crate) fn reason(&self) -> RepositoryError {
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or(RepositoryError::Cancelled)
    }
}
