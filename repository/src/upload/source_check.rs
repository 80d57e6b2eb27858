//! A question to whoever owns the source, asked when everything was read and before anything is committed.

use std::{error::Error, fmt, sync::Arc};

use futures::future::BoxFuture;

type Answer = Result<(), Box<dyn Error + Send + Sync>>;

/// Asks whether what was read is what was to be read.
///
/// A source can become void while it is read and still answer reads: a snapshot whose room for changes ran out. Its
/// owner knows. An error keeps the upload from being committed.
#[derive(Clone)]
pub struct SourceCheck(Arc<dyn Fn() -> BoxFuture<'static, Answer> + Send + Sync>);

impl SourceCheck {
    /// A check that runs `ask`.
    pub fn new<F, A, E>(ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Arc::new(move || {
            let asking = ask();
            Box::pin(async move { asking.await.map_err(Into::into) })
        }))
    }

    pub(super) async fn ask(&self) -> Answer {
        (self.0)().await
    }
}

impl fmt::Debug for SourceCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceCheck")
    }
}
