//! What every handler has at hand.

use std::sync::Arc;

use crate::{config::GatewayConfig, manager::Manager};

/// Cheap to clone; the state of every router.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    /// Whom to ask.
    pub(crate) manager: Manager,
    /// What the administrator said.
    pub(crate) config: Arc<GatewayConfig>,
}
