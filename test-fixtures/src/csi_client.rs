//! An orchestrator in miniature: a client of a CSI driver on a unix socket.
//!
//! It asks as Kubernetes' side-cars do: with a deadline on every call, and again, unchanged, where the answer was
//! "not yet" ([`is_not_yet`]) or a snapshot was not ready.

mod node;
mod snapshots;
mod volumes;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use stockpot_proto::csi::v1::{
    self as csi, controller_client::ControllerClient, identity_client::IdentityClient,
    node_client::NodeClient,
};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Uri},
};

pub use self::{
    snapshots::NewSnapshot,
    volumes::{Access, ContentSource, NewVolume},
};

/// How long one call may take: what external-provisioner allows by default.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often "not yet" is asked again.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Why the client got nowhere.
#[derive(Debug, thiserror::Error)]
pub enum CsiClientError {
    /// Nobody answered on the socket in time.
    #[error("nobody answers on {}", .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The last attempt's error.
        #[source]
        source: tonic::transport::Error,
    },
    /// The driver refused.
    #[error("{rpc}: {:?}: {}", .status.code(), .status.message())]
    Refused {
        /// Name of the call.
        rpc: &'static str,
        /// The driver's answer.
        status: Status,
    },
    /// The answer lacks what it must have.
    #[error("{rpc}: the answer has no {field}")]
    Incomplete {
        /// Name of the call.
        rpc: &'static str,
        /// Name of the field.
        field: &'static str,
    },
    /// It was asked again and again, and was never done.
    #[error("{rpc}: not done after {} s; last: {last}", .waited.as_secs())]
    NeverDone {
        /// Name of the call.
        rpc: &'static str,
        /// How long it was asked.
        waited: Duration,
        /// The last answer.
        last: String,
    },
}

impl CsiClientError {
    /// The driver's code, where it answered.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { status, .. } => Some(status.code()),
            _ => None,
        }
    }
}

/// Whether the caller has to ask again: the codes that side-cars treat so.
#[must_use]
pub fn is_not_yet(code: Code) -> bool {
    matches!(
        code,
        Code::Aborted | Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled
    )
}

/// A connection to a driver.
#[derive(Debug, Clone)]
pub struct CsiClient {
    /// The Identity service, for what this type has no method for.
    pub identity: IdentityClient<Channel>,
    /// The Controller service, for what this type has no method for.
    pub controller: ControllerClient<Channel>,
    /// The Node service, for what this type has no method for.
    pub node: NodeClient<Channel>,
}

/// A request with the deadline that side-cars give it.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn refused(rpc: &'static str) -> impl FnOnce(Status) -> CsiClientError {
    move |status| CsiClientError::Refused { rpc, status }
}

impl CsiClient {
    /// Connects, and waits that long for somebody to answer.
    ///
    /// # Errors
    /// [`CsiClientError::Connect`] if nobody does.
    pub async fn connect(socket: &Path, wait: Duration) -> Result<Self, CsiClientError> {
        let started = Instant::now();
        loop {
            let path = socket.to_owned();
            let connector = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            let endpoint = Endpoint::from_static("http://csi.invalid");
            match endpoint.connect_with_connector(connector).await {
                Ok(channel) => {
                    return Ok(Self {
                        identity: IdentityClient::new(channel.clone()),
                        controller: ControllerClient::new(channel.clone()),
                        node: NodeClient::new(channel),
                    });
                }
                Err(_) if started.elapsed() < wait => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(source) => {
                    let path = socket.to_owned();
                    return Err(CsiClientError::Connect { path, source });
                }
            }
        }
    }

    /// Waits until the driver says that it can work.
    ///
    /// # Errors
    /// [`CsiClientError::NeverDone`] if it does not in time.
    pub async fn wait_until_ready(&mut self, wait: Duration) -> Result<(), CsiClientError> {
        let started = Instant::now();
        loop {
            let last = match self.identity.probe(timed(csi::ProbeRequest {})).await {
                Ok(answer) if answer.get_ref().ready != Some(false) => return Ok(()),
                Ok(_) => "not ready".to_owned(),
                Err(status) => status.message().to_owned(),
            };
            if started.elapsed() >= wait {
                return Err(CsiClientError::NeverDone {
                    rpc: "Probe",
                    waited: wait,
                    last,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
