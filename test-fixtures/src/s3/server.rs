//! The server in the process.

mod contents;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use http::{Request, Response};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Result, StdError};
use tokio_rustls::TlsAcceptor;

use super::capabilities::Capabilities;
use super::faults::Faults;
use super::front::{Front, Upstream};
use super::journal::Journal;
use super::keys::{Credentials, Keys};
use super::listen::Listener;
use super::op::bucket_of_host;
use super::service::Service;
use crate::tls::{TestCa, TlsError};

pub use contents::{BucketSnapshot, ObjectInfo, UploadInfo};

/// How long a port may stay taken after the server let go of it: a child that another thread is starting has a copy of every
/// socket until it runs its program.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS could not be set up.
    #[error("cannot serve TLS")]
    Tls(#[from] TlsError),
}

/// How a server is to be; see [`Server::builder`].
#[derive(Debug)]
pub struct Builder {
    address: SocketAddr,
    buckets: Vec<String>,
    credentials: Credentials,
    capabilities: Capabilities,
    domains: Vec<String>,
    ca: Option<TestCa>,
}

impl Builder {
    /// Listens here instead of on a free port of 127.0.0.1.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Makes a bucket before the start.
    #[must_use]
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.buckets.push(name.into());
        self
    }

    /// The first accepted keys, instead of random ones.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// What the endpoint can do.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// One more name (beside `localhost`) below which a host name is a bucket: `BUCKET.name`.
    #[must_use]
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domains.push(name.into());
        self
    }

    /// Serves TLS, with a certificate of `ca` for 127.0.0.1, `::1`, the address, and the domains with their buckets.
    #[must_use]
    pub fn tls(mut self, ca: TestCa) -> Self {
        self.ca = Some(ca);
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// If it cannot listen, or cannot set up TLS.
    pub fn start(self) -> Result<Server, StartError> {
        let service = Service::default();
        service.set_capabilities(self.capabilities);
        let keys = Keys::default();
        keys.add(self.credentials.clone());
        let domains = self.domains;
        let mut builder = S3ServiceBuilder::new(service.clone());
        builder.set_auth(keys.clone());
        builder.set_access(keys.clone());
        builder.set_host(Domains(domains.clone()));
        let front = Front {
            upstream: Arc::new(InProcess(builder.build())),
            faults: Faults::default(),
            journal: Journal::default(),
            domains: domains.clone(),
        };
        let tls = match &self.ca {
            Some(ca) => Some(TlsAcceptor::from(
                ca.server_config(&certificate_names(self.address, &domains))?,
            )),
            None => None,
        };
        let front = Arc::new(front);
        let listener =
            Listener::start(self.address, tls.clone(), Arc::clone(&front)).map_err(|source| {
                StartError::Listen {
                    address: self.address,
                    source,
                }
            })?;
        let server = Server {
            address: listener.address(),
            listener: Mutex::new(Some(listener)),
            front,
            tls,
            ca: self.ca,
            service,
            keys,
            credentials: self.credentials,
        };
        for bucket in self.buckets {
            server.create_bucket(&bucket);
        }
        Ok(server)
    }
}

fn certificate_names(address: SocketAddr, domains: &[String]) -> Vec<String> {
    let mut names = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.ip().is_loopback() && !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    for domain in domains {
        names.push(domain.clone());
        names.push(format!("*.{domain}"));
    }
    names
}

/// An S3 server in this process, with everything in memory. It runs on threads of its own, so it answers while the
/// test blocks, and needs no runtime. Dropping it closes its port and every connection.
pub struct Server {
    address: SocketAddr,
    listener: Mutex<Option<Listener>>,
    front: Arc<Front>,
    tls: Option<TlsAcceptor>,
    ca: Option<TestCa>,
    service: Service,
    keys: Keys,
    credentials: Credentials,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Server")
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// The region that signatures may name (any is accepted).
    pub const REGION: &'static str = "us-east-1";

    /// Starts a server that can do everything, without TLS and without buckets.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// A server to be set up before it starts.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            buckets: Vec::new(),
            credentials: Credentials::random(),
            capabilities: Capabilities::default(),
            domains: vec!["localhost".to_owned()],
            ca: None,
        }
    }

    /// The endpoint's URL, without a slash at the end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The keys that it accepted first.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// All keys that it accepts.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The authority behind its certificate, if it serves TLS.
    #[must_use]
    pub const fn ca(&self) -> Option<&TestCa> {
        self.ca.as_ref()
    }

    /// Faults to order.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.front.faults
    }

    /// What it was asked.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.front.journal
    }

    /// Changes what it can do, from the next request on.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.service.set_capabilities(capabilities);
    }

    /// Stops listening and breaks every connection, as when the server dies. What it stored stays.
    pub fn stop(&self) {
        drop(self.listener().take());
    }

    /// Listens again on the same port after [`stop`](Self::stop).
    ///
    /// # Errors
    /// If another program took the port meanwhile.
    pub fn restart(&self) -> Result<(), StartError> {
        let mut listener = self.listener();
        drop(listener.take());
        let deadline = Instant::now() + FREE_WITHIN;
        loop {
            let started = Listener::start(self.address, self.tls.clone(), Arc::clone(&self.front));
            match started {
                Ok(started) => {
                    *listener = Some(started);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(source) => {
                    return Err(StartError::Listen {
                        address: self.address,
                        source,
                    });
                }
            }
        }
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct InProcess(S3Service);

#[async_trait::async_trait]
impl Upstream for InProcess {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, StdError> {
        Ok(self.0.call(request).await?)
    }
}

/// Reads buckets from host names below the domains; any other name means path style.
struct Domains(Vec<String>);

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let parsed = VirtualHost::new(host);
        Ok(match bucket_of_host(host, &self.0) {
            Some(bucket) => parsed.with_bucket(bucket),
            None => parsed,
        })
    }
}
