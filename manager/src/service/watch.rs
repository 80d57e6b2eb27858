//! Streams of changes: what is watched is told whenever it is not what was told last, until it is final.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{Manager, ManagerError};

/// How often the progress of what is watched is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// What a watching call answers.
pub(super) type Changes<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Follows what `look` tells, and whether that is final.
pub(super) fn stream<T, F>(
    manager: Arc<Manager>,
    look: impl Fn(Arc<Manager>) -> F + Send + 'static,
) -> Changes<T>
where
    T: Clone + PartialEq + Send + Sync + 'static,
    F: Future<Output = Result<(T, bool), ManagerError>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(4);
    let tasks = manager.tasks.clone();
    tasks.spawn(async move {
        if let Err(error) = follow(&manager, look, &sender).await {
            // A watcher that has gone needs no error.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Sends each change until it is final, the watcher goes away, or the manager stops.
async fn follow<T, F>(
    manager: &Arc<Manager>,
    look: impl Fn(Arc<Manager>) -> F,
    sender: &mpsc::Sender<Result<T, Status>>,
) -> Result<(), ManagerError>
where
    T: Clone + PartialEq,
    F: Future<Output = Result<(T, bool), ManagerError>>,
{
    let mut last = None;
    let mut changes = manager.changes();
    loop {
        changes.mark_unchanged();
        let (now, is_final) = look(manager.clone()).await?;
        if last.as_ref() != Some(&now) {
            if sender.send(Ok(now.clone())).await.is_err() {
                return Ok(());
            }
            last = Some(now);
        }
        if is_final {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            // The sender lives as long as the manager.
            _ = changes.changed() => {}
            () = sender.closed() => return Ok(()),
            () = manager.stopping.cancelled() => {
                return Err(ManagerError::NotReady("the manager is stopping".to_owned()));
            }
        }
    }
}
