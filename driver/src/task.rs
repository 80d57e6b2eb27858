//! Work that comes to its end whatever its caller does, and work that blocks.

use std::future::Future;

use tokio::task::JoinError;

use crate::DriverError;

/// Runs to its end even if the caller goes away meanwhile.
pub(crate) async fn to_the_end<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Stopping> + Send + 'static,
{
    answer(tokio::spawn(work).await).await
}

/// Runs something that blocks, on a thread for that; to its end, too.
pub(crate) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Stopping> + Send + 'static,
{
    answer(tokio::task::spawn_blocking(work).await).await
}

/// Nobody cancels such work: where that happens the runtime ends, and with it who waits here. It is not told as a failure, which somebody
/// might write down.
async fn answer<T, E: From<Stopping>>(result: Result<Result<T, E>, JoinError>) -> Result<T, E> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => ended(error),
    }
}

/// The runtime ended before the work did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopping;

impl From<Stopping> for DriverError {
    fn from(_: Stopping) -> Self {
        Self::Host("the process is stopping".into())
    }
}

/// What became of a task that gave no answer: its panic goes on here; else it was never run to its end.
pub(crate) fn ended<T, E: From<Stopping>>(error: JoinError) -> Result<T, E> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Stopping.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_was_cut_off_by_the_end_of_its_runtime_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let task = runtime.spawn(std::future::pending::<()>());
        drop(runtime);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let result: Result<(), DriverError> =
            runtime.block_on(async { task.await.map_or_else(ended, Ok) });
        assert!(matches!(result, Err(DriverError::Host(_))), "{result:?}");
    }

    #[tokio::test]
    #[should_panic(expected = "at work")]
    async fn a_panic_is_passed_on() {
        let work = || -> Result<(), DriverError> { panic!("at work") };
        let _ = blocking(work).await;
    }
}
