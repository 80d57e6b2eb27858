//! What has happened outside is a fact, whether or not it can be written down now: a full state disk passes, and then it is.

use std::time::Duration;

use crate::{Manager, ManagerError, error::chain};

/// The least and the longest pause between trials.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Manager {
    /// Does something that ends with a word in the catalog, again and again until the catalog takes it or the manager stops. It
    /// must be good for being done twice.
    ///
    /// # Errors
    /// Every other one than that the catalog cannot be written now; and that one when the manager stops.
    pub(crate) async fn persist<T, F>(
        &self,
        what: &str,
        write: impl Fn() -> F,
    ) -> Result<T, ManagerError>
    where
        F: Future<Output = Result<T, ManagerError>>,
    {
        let mut trial = 1_u32;
        loop {
            let error = match write().await {
                Err(ManagerError::Catalog(error))
                    if error.is_passing() && !self.stopping.is_cancelled() =>
                {
                    error
                }
                ended => return ended,
            };
            trial = trial.saturating_add(1);
            let pause = self.config.transfers.pause_before(trial);
            let pause = pause.clamp(PAUSE_MIN, PAUSE_MAX);
            tracing::warn!(
                error = chain(&error),
                pause_seconds = pause.as_secs(),
                "{what} cannot be recorded yet; it is tried again until it is"
            );
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
