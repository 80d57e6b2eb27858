//! `stockpot.v1` on a unix socket, from start to a clean end.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use stockpot_proto::stockpot::v1::manager_server::ManagerServer;
use stockpot_repository::store::Bandwidth;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{Config, Manager, ManagerError, Parts, service::Service};

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
    let listener = listen(&path).await.map_err(|source| ManagerError::Socket {
        path: path.clone(),
        source,
    })?;
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
    let service = ManagerServer::new(Service(manager.clone()));
    let serving = Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            drained.clone().cancelled_owned(),
        );
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
            ended.map_err(ManagerError::Server)
        }
        None => {
            drained.cancel();
            let drain = tokio::time::timeout(DRAIN_WITHIN, &mut serving);
            let (drain, ()) = tokio::join!(drain, stop);
            match drain {
                Ok(ended) => ended.map_err(ManagerError::Server),
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

/// Binds the socket for root alone. One that a crash left is replaced, one that answers is not.
async fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else is in its place",
            ));
        }
        Ok(_) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process serves it",
                ));
            }
            fs::remove_file(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Bound under another name and moved when its mode is right, so that it is never open to others.
    let hidden = path.with_extension("new");
    match fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
    fs::rename(&hidden, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_private_and_a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/manager.sock");
        let first = listen(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let taken = listen(&path).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(listen(&path).await.unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        let kind = listen(&path).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AlreadyExists);
    }
}
