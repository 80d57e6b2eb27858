//! Ctrl-C and SIGTERM: the first asks the work to stop cleanly, the second ends the process at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether and how the process was asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    token: CancellationToken,
    happened: Arc<AtomicBool>,
}

impl Interrupt {
    pub(crate) fn new() -> Self {
        Self {
            token: CancellationToken::new(),
            happened: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The token that goes down every call.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Whether a signal came.
    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }

    /// Starts to listen. Must be called inside the runtime.
    pub(crate) fn listen(&self) {
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let this = self.clone();
            // Registering fails only where signals do not exist; then the default action stays.
            if let Ok(mut stream) = signal(kind) {
                tokio::spawn(async move {
                    while stream.recv().await.is_some() {
                        if this.happened.swap(true, Ordering::Relaxed) {
                            eprintln!(
                                "stockpot: stopped at once; what was half-open is cleaned up by the next run"
                            );
                            std::process::exit(i32::from(crate::EXIT_INTERRUPTED));
                        }
                        eprintln!("stockpot: stopping cleanly; once more to stop at once");
                        this.token.cancel();
                    }
                });
            }
        }
    }
}
