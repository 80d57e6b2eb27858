//! The end of a task of ours.

use tokio::task::JoinError;

use crate::RepositoryError;

/// What a task that was waited for came to. One that was cancelled by nobody here was cancelled by the end of the runtime, and with it
/// goes who waits: then this never comes, so that the end of a process is not told as a failure.
///
/// # Errors
/// `Internal` with `what` it was if it panicked.
pub(crate) async fn ended<T>(
    result: Result<T, JoinError>,
    what: &str,
) -> Result<T, RepositoryError> {
    match result {
        Ok(result) => Ok(result),
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => Err(RepositoryError::Internal(format!("{what}: {error}"))),
    }
}
