//! The service on the network, for nodes that show a certificate.
//!
//! A server keeps the certificate that it began with. So each certificate of this node has a server of its own: once it is
//! renewed, the next connection goes to a new one, and the one before ends when the calls on its connections are answered.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::{
    CertificateError, NodeCertificate, RenewedCertificate, StorageService,
    arrivals::{Arrivals, Guest},
};

/// How often a caller that says nothing is asked whether it is there, and how long it may take to say so.
const ALIVE: Duration = Duration::from_secs(20);
/// Calls at once on one connection.
const CALLS_MAX: usize = 64;
/// How long a caller may take to show its certificate.
const TLS_WITHIN: Duration = Duration::from_secs(10);
/// How long calls under way get to be answered at the end.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Connections that wait for their server.
const WAITING_MAX: usize = 16;
/// How long nothing is accepted after that failed: the process may be out of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Why the service is not on the network.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The certificate, the key and the authority do not make a server.
    #[error("the certificate, its key and the authority do not go together")]
    Certificate(#[source] tonic::transport::Error),
    /// Its files cannot be used.
    #[error("this node's certificate")]
    Files(#[from] CertificateError),
    /// Serving ended by itself.
    #[error("serving on {address} failed")]
    Ended {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Addresses that are listened on.
#[derive(Debug)]
pub struct Listeners {
    listeners: Vec<(SocketAddr, TcpListener)>,
}

impl Listeners {
    /// Listens on all of these; nobody is answered yet.
    ///
    /// # Errors
    /// `Bind`; then none of them is listened on.
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Self, ServeError> {
        let mut listeners = Vec::new();
        for address in addresses {
            let failed = |source| ServeError::Bind {
                address: *address,
                source,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            listeners.push((address, listener));
        }
        Ok(Self { listeners })
    }

    /// Where they listen; ports that were asked for as 0 are known now.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|(address, _)| *address)
    }

    /// Answers callers with certificates of the authority until `stop`; then calls under way get some seconds. A certificate
    /// that was renewed is shown from the next connection on.
    ///
    /// # Errors
    /// `Files`, `Certificate`, and `Ended` when one of the addresses fails.
    pub async fn serve(
        self,
        service: &StorageService,
        certificate: &Arc<RenewedCertificate>,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let mut serving = JoinSet::new();
        let arrivals = Arrivals::default();
        for (address, listener) in self.listeners {
            let front = Front {
                address,
                service: service.clone(),
                certificate: certificate.clone(),
                arrivals: arrivals.clone(),
                stop: stop.clone(),
            };
            let stop = stop.clone();
            serving.spawn(async move {
                // A caller that keeps its connection open must not hold up the end.
                let late = async {
                    stop.cancelled().await;
                    tokio::time::sleep(DRAIN_WITHIN).await;
                };
                tokio::select! {
                    ended = front.serve(listener) => ended,
                    () = late => Ok(()),
                }
            });
        }
        while let Some(ended) = serving.join_next().await {
            result_of(ended)?;
        }
        Ok(())
    }
}

/// One address, and whatever servers answer there.
#[derive(Debug)]
struct Front {
    address: SocketAddr,
    service: StorageService,
    certificate: Arc<RenewedCertificate>,
    arrivals: Arrivals,
    stop: CancellationToken,
}

/// A server in its own task, and how connections get there.
#[derive(Debug)]
struct Answering {
    with: Arc<NodeCertificate>,
    connections: mpsc::Sender<Guest>,
}

type Servers = JoinSet<Result<(), ServeError>>;

impl Front {
    async fn serve(self, listener: TcpListener) -> Result<(), ServeError> {
        let mut servers = Servers::new();
        let first = self.certificate.current().await?;
        let mut answering = self.start(&mut servers, first)?;
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
                // One before this, or one that failed.
                Some(ended) = servers.join_next() => {
                    result_of(ended)?;
                    continue;
                }
            };
            let connection = match accepted {
                Ok((connection, from)) => {
                    if let Err(error) = connection.set_nodelay(true) {
                        tracing::debug!(%error, "a connection stays with its delays");
                    }
                    let Some(guest) = self.arrivals.take(connection, from.ip()) else {
                        continue;
                    };
                    guest
                }
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let now = self.certificate.current().await?;
            if !Arc::ptr_eq(&now, &answering.with) {
                answering = self.start(&mut servers, now)?;
            }
            // A server that is gone has told why, or is about to.
            let _ = answering.connections.send(connection).await;
        }
        drop((listener, answering));
        while let Some(ended) = servers.join_next().await {
            result_of(ended)?;
        }
        Ok(())
    }

    fn start(
        &self,
        servers: &mut Servers,
        with: Arc<NodeCertificate>,
    ) -> Result<Answering, ServeError> {
        let router = Server::builder()
            .tls_config(with.server().timeout(TLS_WITHIN))
            .map_err(ServeError::Certificate)?
            .concurrency_limit_per_connection(CALLS_MAX)
            .http2_keepalive_interval(Some(ALIVE))
            .http2_keepalive_timeout(Some(ALIVE))
            .add_service(self.service.on_network());
        let (connections, coming) = mpsc::channel(WAITING_MAX);
        let incoming = ReceiverStream::new(coming).map(Ok::<_, io::Error>);
        let stopped = self.stop.clone().cancelled_owned();
        let address = self.address;
        servers.spawn(async move {
            let ended = router.serve_with_incoming_shutdown(incoming, stopped).await;
            ended.map_err(|source| ServeError::Ended { address, source })
        });
        Ok(Answering { with, connections })
    }
}

fn result_of(ended: Result<Result<(), ServeError>, JoinError>) -> Result<(), ServeError> {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Ok(()),
    }
}
