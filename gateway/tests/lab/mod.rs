//! A gateway before a manager on fakes, and a client that says exactly what a test wants.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use stockpot_gateway::GatewayConfig;
use stockpot_manager::{
    Config, Manager, Parts,
    fakes::{FakeHost, FakeStorage, FakeStores, Faults},
    serve_manager,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A manager on fakes, and gateways before it.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) storage: Arc<FakeStorage>,
    pub(crate) stores: Arc<FakeStores>,
    stop: CancellationToken,
    served: Vec<JoinHandle<()>>,
}

impl Lab {
    /// A manager that takes operations, with a profile `offsite` written by hand.
    pub(crate) async fn start() -> Self {
        let mut lab = Self::without_manager();
        let profiles = lab.dir.path().join("profiles");
        fs::create_dir(&profiles).unwrap();
        let text = "{name: offsite, snapshotProperties: {topology: {bucket: backups, prefix: a}}}";
        fs::write(profiles.join("offsite.yaml"), text).unwrap();
        let parts = Parts {
            pools: BTreeMap::from([("pool".to_owned(), lab.storage.clone() as _)]),
            connector: Arc::new(FakeHost(lab.storage.clone())),
            stores: lab.stores.clone(),
        };
        let manager = Manager::open(lab.manager_config(), parts).await.unwrap();
        let stop = lab.stop.clone().cancelled_owned();
        lab.served.push(tokio::spawn(async move {
            serve_manager(manager, stop).await.unwrap()
        }));
        lab
    }

    /// Only the places where things would be.
    pub(crate) fn without_manager() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let faults = Arc::new(Faults::default());
        Self {
            storage: FakeStorage::new(&data, faults.clone()),
            stores: FakeStores::new(faults),
            dir,
            stop: CancellationToken::new(),
            served: Vec::new(),
        }
    }

    fn manager_config(&self) -> Config {
        let text = format!(
            "{{nodeName: node-1, stateDir: {0}/state, socket: {0}/m.sock, profilesDir: {0}/profiles,
               credentialsDir: {0}, pools: [{{name: pool, driver: file, directory: {0}/images}}],
               transfers: {{pauseFirstSeconds: 0, pauseMaxSeconds: 0, giveUpAfterSeconds: 3}},
               shutdownGraceSeconds: 20}}",
            self.dir.path().display()
        );
        serde_saphyr::from_str(&text).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Settings as an administrator writes them; `DIR` is the lab's folder.
    pub(crate) fn gateway_config(&self, yaml: &str) -> GatewayConfig {
        let yaml = yaml.replace("DIR", &self.dir.path().display().to_string());
        let mut config: GatewayConfig = serde_saphyr::from_str(&yaml).unwrap();
        config.manager_socket = self.path("m.sock");
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
        let serving = async move { stockpot_gateway::serve(config, stop).await.unwrap() };
        self.served.push(tokio::spawn(serving));
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

/// Both ends of it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {} {}", self.status, self.text());
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of an answer with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() {
            return Value::Null;
        }
        self.json()
    }
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
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut request = (head + "\r\n").into_bytes();
        request.extend(body.unwrap_or_default());
        exchange(&mut stream, &request).await
    }
}

/// Writes a request and reads what comes until the other end closes.
pub(crate) async fn exchange(stream: &mut (impl Stream + ?Sized), request: &[u8]) -> Reply {
    let talking = async {
        // The other end may answer, and close, before it has read all.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, talking)
        .await
        .expect("an answer in time");
    parse(&answer)
}

/// An answer that ends with its connection.
pub(crate) fn parse(answer: &[u8]) -> Reply {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(answer)));
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Reply {
        status,
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: answer[end + 4..].to_vec(),
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
