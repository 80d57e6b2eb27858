//! Unix sockets: made for root alone, and reached.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::stockpot::v1::manager_client::ManagerClient;

/// Why a socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers on it.
    #[error("another process is serving on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is in its place.
    #[error("{} is there and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot make the socket {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Makes a socket that only its owner can open, and its directory where there is none. One that a crash left is
/// replaced, one that answers is not.
///
/// # Errors
/// See [`BindError`]; what was there before is there still.
pub async fn bind(path: &Path) -> Result<UnixListener, BindError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(BindError::InUse {
                path: path.to_owned(),
            });
        }
        _ => {}
    }
    bind_anew(path).map_err(|source| BindError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Bound under another name and moved when its mode is right, so that it is never open to others.
fn bind_anew(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
    }
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

/// A client of the manager that serves `socket`. It connects with the first call, and again when the connection broke.
/// Has to be called inside a tokio runtime.
#[must_use]
pub fn manager(socket: PathBuf) -> ManagerClient<Channel> {
    ManagerClient::new(channel(socket))
}

/// A channel to whatever serves `socket`, on the same terms.
#[must_use]
pub fn channel(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is a form only: the connector knows where to go.
    Endpoint::from_static("http://manager.invalid").connect_with_connector_lazy(connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_a_stale_one_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("run/manager.sock");
        let first = bind(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let taken = bind(&path).await.unwrap_err();
        assert!(matches!(taken, BindError::InUse { .. }), "{taken}");
        drop(first);
        drop(bind(&path).await.unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        let other = bind(&path).await.unwrap_err();
        assert!(matches!(other, BindError::NotASocket { .. }), "{other}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
        let long = home.path().join("x".repeat(200));
        assert!(matches!(bind(&long).await, Err(BindError::Io { .. })));
    }
}
