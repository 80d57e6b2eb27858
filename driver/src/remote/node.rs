//! One call to a storage node: connecting, repeating, giving up.

use std::{sync::Arc, time::Duration};

use stockpot_proto::{socket, stockpot::v1::storage::storage_node_client::StorageNodeClient};
use tokio::{sync::Mutex, time::timeout};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::{
    Address, CertificateError, NodeCertificate, NodeError, RemoteConfig, RenewedCertificate,
    failure,
};
use crate::DriverError;

/// Largest message that is taken; long lists come in many.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

pub(super) type Client = StorageNodeClient<Channel>;

/// What a call is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whether it is there and well: made once, and given up soon.
    Look,
    /// A matter of moments; made again when its answer is lost.
    Quick,
    /// May copy or zero a whole volume; made again when its answer is lost.
    Long,
    /// Not idempotent: made once.
    Once,
}

/// A storage node as its callers have it. Connects with the first call, and again when the connection broke or this node's
/// certificate was renewed.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: RemoteConfig,
    certificate: Option<Arc<RenewedCertificate>>,
    connected: Mutex<Option<Connected>>,
}

/// A connection that is made with the first call on it.
#[derive(Debug)]
struct Connected {
    client: Client,
    /// None is needed on a socket.
    with: Option<Arc<NodeCertificate>>,
}

impl Node {
    pub(super) fn new(config: RemoteConfig) -> Self {
        let files = config.certificate.clone();
        Self {
            certificate: files.map(|files| Arc::new(RenewedCertificate::new(files))),
            config,
            connected: Mutex::default(),
        }
    }

    /// Makes a call, and makes it again while the node cannot be reached, unless it is to be made once.
    pub(super) async fn call<R, T, F>(
        &self,
        name: &'static str,
        kind: Kind,
        message: R,
        work: impl Fn(Client, Request<R>) -> F + Send + Sync,
    ) -> Result<T, DriverError>
    where
        R: Clone + Send + Sync,
        T: Send,
        F: Future<Output = Result<T, Status>> + Send,
    {
        let limits = &self.config.limits;
        let (limit, attempts) = match kind {
            Kind::Look => (limits.look, 1),
            Kind::Quick => (limits.call, limits.attempts),
            Kind::Long => (limits.long_call, limits.attempts),
            Kind::Once => (limits.call, 1),
        };
        let mut pause = limits.pause;
        let mut attempt = 1;
        loop {
            let client = self.client().await?;
            let mut request = Request::new(message.clone());
            request.set_timeout(limit);
            let answer = match timeout(limit, work(client, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(Status::deadline_exceeded("")),
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(status) => self.error(&status, name, limit),
            };
            if attempt >= attempts || !may_be_repeated(&error) {
                return Err(error);
            }
            tracing::warn!(call = name, %error, "a call to a storage node is made again");
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    fn error(&self, status: &Status, call: &'static str, limit: Duration) -> DriverError {
        let address = self.config.address.to_string();
        failure::error_of(status, &self.config.node, &address, call, limit.as_secs())
    }

    /// An answer that cannot be meant.
    pub(super) fn malformed(&self, call: &'static str, what: impl Into<String>) -> DriverError {
        let error = NodeError::Malformed {
            node: self.config.node.clone(),
            call,
            what: what.into(),
        };
        error.into()
    }

    async fn client(&self) -> Result<Client, NodeError> {
        let with = match self.config.address {
            Address::Unix(_) => None,
            Address::Network(_) => Some(self.valid_certificate().await?),
        };
        let mut connected = self.connected.lock().await;
        if let Some(there) = &*connected
            && there.with.as_ref().map(Arc::as_ptr) == with.as_ref().map(Arc::as_ptr)
        {
            return Ok(there.client.clone());
        }
        let client = self.connect_later(with.as_deref())?;
        *connected = Some(Connected {
            client: client.clone(),
            with,
        });
        Ok(client)
    }

    fn connect_later(&self, certificate: Option<&NodeCertificate>) -> Result<Client, NodeError> {
        let channel = match &self.config.address {
            Address::Unix(path) => socket::channel(path.clone()),
            Address::Network(authority) => {
                let certificate = certificate.ok_or(CertificateError::None)?;
                self.endpoint(authority, certificate)
                    .map_err(|error| NodeError::Unreachable {
                        node: self.config.node.clone(),
                        address: authority.clone(),
                        why: failure::chain(&error),
                    })?
                    .connect_lazy()
            }
        };
        Ok(StorageNodeClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// This node's certificate as it is now. With one that has expired the other node would only hang up, or refuse the call.
    async fn valid_certificate(&self) -> Result<Arc<NodeCertificate>, NodeError> {
        let certificate = self.certificate.as_ref().ok_or(CertificateError::None)?;
        let certificate = certificate.current().await?;
        match &self.config.certificate {
            Some(files) if certificate.facts().left().is_zero() => {
                let path = files.certificate.clone();
                Err(CertificateError::Expired { path }.into())
            }
            _ => Ok(certificate),
        }
    }

    fn endpoint(
        &self,
        authority: &str,
        certificate: &NodeCertificate,
    ) -> Result<Endpoint, tonic::transport::Error> {
        let limits = &self.config.limits;
        Ok(Endpoint::from_shared(format!("https://{authority}"))?
            .tls_config(certificate.client(&self.config.node, limits.connect))?
            .connect_timeout(limits.connect)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(limits.alive)
            .keep_alive_timeout(limits.alive))
    }
}

/// A call without an answer in time is not made again: its next caller decides.
fn may_be_repeated(error: &DriverError) -> bool {
    match error {
        DriverError::Node(error) => matches!(
            **error,
            NodeError::Unreachable { .. } | NodeError::NotReady { .. }
        ),
        _ => false,
    }
}
