//! `stockpot.v1` on a unix socket, and what other nodes may ask on the network, from start to a clean end.

use std::{fs, io, sync::Arc, time::Duration};

use stockpot_proto::{
    socket,
    stockpot::v1::{
        backups_server::BackupsServer, catalog_service_server::CatalogServiceServer,
        manager_server::ManagerServer, profiles_server::ProfilesServer,
        schedules_server::SchedulesServer, streams_server::StreamsServer,
        volumes_server::VolumesServer,
    },
};
use stockpot_repository::store::Bandwidth;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{Config, Manager, ManagerError, Parts, service::Service, storage_node::Network};

/// How long calls under way may take to be answered after the stop has begun, besides the grace of transfers.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Serves a manager with the parts that its configuration names, until `shutdown`. A clone of `bandwidth` changes the
/// limits on what goes over the network meanwhile.
///
/// # Errors
/// What [`Manager::open`] and [`serve_manager`] say.
pub async fn serve(
    config: Config,
    bandwidth: Bandwidth,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ManagerError> {
    config.check()?;
    let parts = Parts::within(&config, bandwidth)?;
    let manager = Manager::open(config, parts).await?;
    serve_manager(manager, shutdown).await
}

/// Serves a manager until `shutdown`, then stops it: calls under way are answered, transfers are cancelled cleanly
/// and go on at the next start.
///
/// # Errors
/// `Socket` when it cannot be served; `Server` when serving ends by itself. What recovery meets is told to callers.
pub async fn serve_manager(
    manager: Arc<Manager>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ManagerError> {
    let path = manager.config.socket.clone();
    manager.start_certificate_watch().await?;
    let network = Network::bind(&manager.config).await?;
    let listener = socket::bind(&path).await?;
    tracing::info!(socket = %path.display(), node = %manager.node, "serving");
    let recovering = {
        let manager = manager.clone();
        async move {
            if let Err(error) = manager.recover().await {
                tracing::error!(error = crate::error::chain(&error), "recovery failed");
            }
        }
    };
    let recovery = manager.tasks.spawn(recovering);
    let drained = CancellationToken::new();
    let serving = answer(&manager, listener, network, &drained);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        () = shutdown => None,
    };
    tracing::info!("stopping");
    let stop = async {
        manager.stopping.cancel();
        // It is in no state to be interrupted, and short.
        let _ = recovery.await;
        manager.stop().await;
    };
    let outcome = match ended {
        Some(ended) => {
            stop.await;
            ended
        }
        None => {
            drained.cancel();
            let drain = tokio::time::timeout(DRAIN_WITHIN, &mut serving);
            let (drain, ()) = tokio::join!(drain, stop);
            match drain {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!(
                        "calls were still open at the end; their connections are closed"
                    );
                    Ok(())
                }
            }
        }
    };
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(socket = %path.display(), %error, "the socket cannot be removed");
    }
    outcome
}

/// Answers calls on the socket, and those of other nodes, until `drained`.
async fn answer(
    manager: &Arc<Manager>,
    listener: UnixListener,
    network: Option<Network>,
    drained: &CancellationToken,
) -> Result<(), ManagerError> {
    let storage = manager.storage_service();
    let on_socket = Server::builder()
        .add_service(ManagerServer::new(Service(manager.clone())))
        .add_service(BackupsServer::new(Service(manager.clone())))
        .add_service(ProfilesServer::new(Service(manager.clone())))
        .add_service(CatalogServiceServer::new(Service(manager.clone())))
        .add_service(SchedulesServer::new(Service(manager.clone())))
        .add_service(VolumesServer::new(Service(manager.clone())))
        .add_service(StreamsServer::new(Service(manager.clone())))
        .add_service(storage.on_socket())
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            drained.clone().cancelled_owned(),
        );
    let on_socket = async { on_socket.await.map_err(ManagerError::Server) };
    let on_network = async {
        match network {
            Some(network) => network.serve(&storage, drained.clone()).await,
            None => Ok(()),
        }
    };
    tokio::try_join!(on_socket, on_network).map(drop)
}
