//! Where callers come from: a unix socket, TCP, TLS over TCP.

mod tls;

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use stockpot_proto::socket::{self, BindError};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

pub(crate) use self::tls::Tls;
pub use self::tls::TlsError;
use crate::{
    access::Peer,
    config::{GatewayConfig, SocketMode},
};

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The unix socket cannot be made.
    #[error("the gateway has no socket")]
    Socket(#[from] BindError),
    /// The unix socket cannot be opened to its group.
    #[error("cannot set the mode of {}", path.display())]
    Mode {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// One place where callers come from.
#[derive(Debug)]
pub(crate) enum Listener {
    /// The unix socket.
    Unix(UnixListener),
    /// An address, with TLS if there is a certificate.
    Tcp(TcpListener, Option<Arc<Tls>>),
}

/// Somebody who has connected.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// On the unix socket.
    Unix(UnixStream, Peer),
    /// On an address.
    Tcp(TcpStream, SocketAddr, Option<Arc<Tls>>),
}

impl Listener {
    /// Waits for the next one.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
                Ok(Accepted::Unix(stream, Peer::Local { uid }))
            }
            Self::Tcp(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                // An answer is one small write.
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, address, tls.clone()))
            }
        }
    }
}

impl Accepted {
    /// The host that it comes from; `None` on the unix socket.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Unix(..) => None,
            Self::Tcp(_, address, _) => Some(address.ip()),
        }
    }
}

/// How long to wait after the system refused a connection: it has no more files, most likely.
pub(crate) const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// All that the configuration names, bound.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) all: Vec<Listener>,
    socket: Option<PathBuf>,
}

impl Listeners {
    /// Binds them; none is bound when one cannot be.
    pub(crate) async fn bind(
        config: &GatewayConfig,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, ListenError> {
        let mut these = Self {
            all: Vec::new(),
            socket: None,
        };
        for address in &config.listen {
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|source| ListenError::Bind {
                address: *address,
                source,
            })?;
            // Where port 0 was asked for, the system chose one.
            let bound = listener.local_addr().unwrap_or(*address);
            tracing::info!(address = %bound, tls = tls.is_some(), "the gateway serves");
            these.all.push(Listener::Tcp(listener, tls.clone()));
        }
        if let Some(path) = &config.socket {
            let listener = socket::bind(path).await?;
            these.socket = Some(path.clone());
            open_to(path, config.socket_mode)?;
            tracing::info!(socket = %path.display(), "the gateway serves");
            these.all.push(Listener::Unix(listener));
        }
        Ok(these)
    }

    /// What is bound, and the guard that removes the socket's file.
    pub(crate) fn split(mut self) -> (Vec<Listener>, SocketFile) {
        let all = std::mem::take(&mut self.all);
        (all, SocketFile(self.socket.take()))
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        drop(SocketFile(self.socket.take()));
    }
}

/// Removes the socket's file at the end.
#[derive(Debug)]
pub(crate) struct SocketFile(Option<PathBuf>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(socket = %path.display(), %error, "cannot remove the socket");
        }
    }
}

fn open_to(path: &Path, mode: SocketMode) -> Result<(), ListenError> {
    let mode = fs::Permissions::from_mode(mode.bits());
    fs::set_permissions(path, mode).map_err(|source| ListenError::Mode {
        path: path.to_owned(),
        source,
    })
}
