//! What every handler has at hand.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::GatewayConfig, cstor::Unbegun, manager::Manager};

/// Cheap to clone; the state of every router.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    /// Whom to ask.
    pub(crate) manager: Manager,
    /// What the administrator said.
    pub(crate) config: Arc<GatewayConfig>,
    /// What goes on after its answer.
    pub(crate) behind: Behind,
    /// Backups that were asked for and of which nothing stands at the manager.
    pub(crate) unbegun: Unbegun,
}

/// Work that goes on after its request was answered. The server waits for it at its end as long as for requests, and ends it then.
#[derive(Debug, Clone)]
pub(crate) struct Behind {
    pub(crate) tasks: TaskTracker,
    pub(crate) end: CancellationToken,
}

impl Behind {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks
            .spawn(self.end.clone().run_until_cancelled_owned(work));
    }
}
