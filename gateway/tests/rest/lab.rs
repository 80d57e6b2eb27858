//! A gateway before a manager on fakes, and a client that says exactly what a test wants.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use stockpot_gateway::GatewayConfig;
use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    PATIENCE, Site,
    http::{Reply, Stream, exchange, request},
};

/// A manager on fakes, and gateways before it.
pub(crate) struct Lab {
    pub(crate) site: Site,
    stop: CancellationToken,
    served: Vec<JoinHandle<()>>,
}

impl Lab {
    /// A manager that takes operations, with a profile `offsite` written by hand.
    pub(crate) async fn start() -> Self {
        let mut lab = Self::without_manager();
        lab.site.add_profile("offsite", "backups", "a");
        let stop = lab.stop.clone().cancelled_owned();
        lab.served.push(lab.site.manager("", stop).await);
        lab
    }

    /// Only the places where things would be.
    pub(crate) fn without_manager() -> Self {
        Self {
            site: Site::new(),
            stop: CancellationToken::new(),
            served: Vec::new(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Settings as an administrator writes them; `DIR` is the lab's folder.
    pub(crate) fn gateway_config(&self, yaml: &str) -> GatewayConfig {
        let yaml = yaml.replace("DIR", &self.site.dir().display().to_string());
        let mut config: GatewayConfig = serde_saphyr::from_str(&yaml).unwrap();
        config.manager_socket = self.site.manager_socket();
        config
    }

    /// Starts a gateway, and waits until it answers that the manager is ready.
    pub(crate) async fn gateway(&mut self, yaml: &str) -> Client {
        let client = self.gateway_before_nothing(yaml).await;
        let deadline = Instant::now() + PATIENCE;
        while client.get("/healthz").await.status != 200 {
            assert!(Instant::now() < deadline, "the manager is not ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client
    }

    /// Starts a gateway, and waits until it answers at all.
    pub(crate) async fn gateway_before_nothing(&mut self, yaml: &str) -> Client {
        let config = self.gateway_config(yaml);
        let client = Client::to(&config);
        let stop = self.stop.clone().cancelled_owned();
        self.served.push(self.site.gateway(config, stop));
        let deadline = Instant::now() + PATIENCE;
        while client.connect().await.is_none() {
            assert!(Instant::now() < deadline, "the gateway does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client
    }

    /// Stops all of it, which has to end by itself.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        for served in self.served.drain(..) {
            tokio::time::timeout(PATIENCE, served)
                .await
                .unwrap()
                .unwrap();
        }
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Where a gateway is, and what is shown to it.
#[derive(Clone)]
pub(crate) struct Client {
    socket: Option<PathBuf>,
    address: Option<SocketAddr>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Client {
    /// Of the unix socket, else of the first address.
    pub(crate) fn to(config: &GatewayConfig) -> Self {
        Self {
            socket: config.socket.clone(),
            address: config.listen.first().copied(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn on_tcp(mut self) -> Self {
        self.socket = None;
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) async fn connect(&self) -> Option<Box<dyn Stream>> {
        match (&self.socket, self.address) {
            (Some(path), _) => Some(Box::new(UnixStream::connect(path).await.ok()?)),
            (None, Some(address)) => Some(Box::new(TcpStream::connect(address).await.ok()?)),
            (None, None) => None,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, Some(body.to_string().into_bytes()))
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.send("PUT", path, Some(body.to_string().into_bytes()))
            .await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Reply {
        let mut stream = self.connect().await.unwrap();
        let mut headers = vec![("Host", "localhost")];
        headers.extend(
            self.headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let request = request(method, path, &headers, body.as_deref());
        exchange(&mut stream, &request).await
    }
}

/// Asks until the object at a path has this status.
pub(crate) async fn until(client: &Client, path: &str, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let object = client.get(path).await.expect(200);
        if object["status"] == status {
            return object;
        }
        assert_ne!(object["status"], "error", "{object}");
        assert!(Instant::now() < deadline, "{object}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}
