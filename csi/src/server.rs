//! Binding the socket, answering, draining.

use std::{future::Future, path::PathBuf, time::Duration};

use stockpot_proto::{
    csi::v1::{
        controller_server::ControllerServer, identity_server::IdentityServer,
        node_server::NodeServer,
    },
    socket::{self, BindError},
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;

use crate::{
    config::{CsiConfig, EndpointError},
    controller::ControllerService,
    identity::IdentityService,
    locks::Locks,
    manager::Manager,
    node::NodeService,
};

/// How long calls at work get to end after the server was asked to stop.
const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// Why the frontend cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting cannot be used.
    #[error("the settings of the CSI frontend cannot be used")]
    Config(#[from] EndpointError),
    /// The socket cannot be made.
    #[error("the CSI frontend has no socket")]
    Socket(#[from] BindError),
    /// Serving ended by itself.
    #[error("serving on {} failed", .path.display())]
    Transport {
        /// The socket.
        path: PathBuf,
        /// The transport's error.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Serves CSI on the socket until `shutdown` is there; then calls at work get 30 s to end.
///
/// The manager need not be there yet: calls are answered `UNAVAILABLE`, `Probe` with `FAILED_PRECONDITION` until it is. A socket that a
/// killed process left is taken over; the socket is removed at the end.
///
/// # Errors
/// See [`ServeError`]; nothing was served unless it is [`ServeError::Transport`].
pub async fn serve(
    config: CsiConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    config.check()?;
    let path = config.endpoint.clone();
    let listener = socket::bind(&path).await?;
    tracing::info!(endpoint = %path.display(), driver = config.driver_name, "serving CSI");
    let stopping = CancellationToken::new();
    let tasks = TaskTracker::new();
    let manager = Manager::new(config.manager_socket.clone());
    let router = Server::builder()
        .add_service(IdentityServer::new(IdentityService {
            driver_name: config.driver_name.clone(),
            manager: manager.clone(),
        }))
        .add_service(ControllerServer::new(ControllerService {
            manager: manager.clone(),
            node_id: config.node_id.clone(),
            topology_key: config.topology_key(),
            stopping: stopping.clone(),
        }))
        .add_service(NodeServer::new(NodeService {
            manager,
            node_id: config.node_id.clone(),
            topology_key: config.topology_key(),
            locks: Locks::default(),
            tasks: tasks.clone(),
            stopping: stopping.clone(),
        }));
    let stopped = async {
        shutdown.await;
        stopping.cancel();
    };
    let serving = router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped);
    // A client that keeps its connection open must not hold up the end for ever.
    let result = tokio::select! {
        result = serving => result,
        () = async { stopping.cancelled().await; tokio::time::sleep(DRAIN_GRACE).await } => Ok(()),
    };
    tasks.close();
    if tokio::time::timeout(DRAIN_GRACE, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(calls = tasks.len(), "calls were still at work at the end");
    }
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(%error, "cannot remove the socket");
    }
    result.map_err(|source| ServeError::Transport { path, source })
}
