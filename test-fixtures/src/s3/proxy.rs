//! Faults in front of another server.
//!
//! Requests go on as they came, `Host` header included, so signatures made for the proxy hold at the server: clients
//! use the proxy's endpoint with the server's credentials.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{Request, Response, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::{Body, StdError};
use tokio::net::TcpStream;

use super::faults::Faults;
use super::front::{Front, Upstream};
use super::journal::Journal;
use super::listen::Listener;

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The URL is not `http://HOST[:PORT]`.
    #[error("not an http:// endpoint: {url}")]
    Url {
        /// The URL.
        url: String,
    },
    /// No port of 127.0.0.1 can be listened on.
    #[error("cannot listen on 127.0.0.1")]
    Listen(#[source] std::io::Error),
}

/// A proxy on a free port of 127.0.0.1. Dropping it closes the port and every connection.
pub struct FaultProxy {
    listener: Listener,
    front: Arc<Front>,
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FaultProxy")
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Starts a proxy for the server at `url`, an endpoint without TLS.
    ///
    /// # Errors
    /// If the URL is none, or no port can be had.
    pub fn to(url: &str) -> Result<Self, ProxyError> {
        let bad = || ProxyError::Url {
            url: url.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
            return Err(bad());
        }
        let authority = uri.authority().ok_or_else(bad)?;
        let address = format!(
            "{}:{}",
            authority.host(),
            authority.port_u16().unwrap_or(80)
        );
        let front = Arc::new(Front {
            upstream: Arc::new(Remote { address }),
            faults: Faults::default(),
            journal: Journal::default(),
            domains: vec!["localhost".to_owned()],
        });
        let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener =
            Listener::start(any_port, None, Arc::clone(&front)).map_err(ProxyError::Listen)?;
        Ok(Self { listener, front })
    }

    /// The endpoint that clients use.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// Faults to order.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.front.faults
    }

    /// What went through.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.front.journal
    }
}

/// A server elsewhere. Each request has a connection of its own: a fault on one touches no other.
struct Remote {
    address: String,
}

#[async_trait::async_trait]
impl Upstream for Remote {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, StdError> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the server behind ended");
            }
        });
        Ok(sender.send_request(request).await?.map(Body::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_endpoints() {
        for url in [
            "https://127.0.0.1:1",
            "127.0.0.1:1",
            "http://127.0.0.1:1/bucket",
            "",
        ] {
            assert!(
                matches!(FaultProxy::to(url), Err(ProxyError::Url { .. })),
                "{url}"
            );
        }
    }
}
