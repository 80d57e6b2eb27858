//! The end of a task of ours.

use tokio::task::{JoinError, JoinHandle};

use crate::ManagerError;

/// What a task came to. Nobody here cancels one: where that happens the runtime ends, and with it who waits. Then this never
/// comes, so that the end of a process is not written down as the failure of what it was doing.
///
/// # Errors
/// `Internal` if it panicked.
pub(crate) async fn joined<T>(task: JoinHandle<T>) -> Result<T, ManagerError> {
    ended(task.await).await
}

/// The same of a task that was waited for.
///
/// # Errors
/// `Internal` if it panicked.
pub(crate) async fn ended<T>(result: Result<T, JoinError>) -> Result<T, ManagerError> {
    match result {
        Ok(result) => Ok(result),
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => Err(ManagerError::Internal(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_end_of_the_runtime_is_no_failure() {
        assert_eq!(joined(tokio::spawn(async { 7 })).await.unwrap(), 7);
        let task = tokio::spawn(async { panic!("as a bug would") });
        let error = joined::<()>(task).await.unwrap_err();
        assert!(matches!(error, ManagerError::Internal(_)), "{error}");
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        let waited = tokio::time::timeout(Duration::from_millis(20), joined(task));
        assert!(waited.await.is_err());
    }
}
