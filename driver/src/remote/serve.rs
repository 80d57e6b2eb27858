//! The service on the network, for nodes that show a certificate.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

use super::{NodeCertificate, StorageService};

/// How often a caller that says nothing is asked whether it is there, and how long it may take to say so.
const ALIVE: Duration = Duration::from_secs(20);
/// Calls at once on one connection.
const CALLS_MAX: usize = 64;
/// How long calls under way get to be answered at the end.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

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

    /// Answers callers with certificates of the authority until `stop`; then calls under way get some seconds.
    ///
    /// # Errors
    /// `Certificate`, and `Ended` when one of the addresses fails.
    pub async fn serve(
        self,
        service: &StorageService,
        certificate: &NodeCertificate,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let mut serving = JoinSet::new();
        for (address, listener) in self.listeners {
            let router = Server::builder()
                .tls_config(certificate.server())
                .map_err(ServeError::Certificate)?
                .concurrency_limit_per_connection(CALLS_MAX)
                .http2_keepalive_interval(Some(ALIVE))
                .http2_keepalive_timeout(Some(ALIVE))
                .add_service(service.on_network());
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let stopped = stop.clone().cancelled_owned();
            let serve = router.serve_with_incoming_shutdown(incoming, stopped);
            let stop = stop.clone();
            serving.spawn(async move {
                // A caller that keeps its connection open must not hold up the end.
                let late = async {
                    stop.cancelled().await;
                    tokio::time::sleep(DRAIN_WITHIN).await;
                };
                tokio::select! {
                    ended = serve => ended.map_err(|source| ServeError::Ended { address, source }),
                    () = late => Ok(()),
                }
            });
        }
        while let Some(ended) = serving.join_next().await {
            match ended {
                Ok(ended) => ended?,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}
