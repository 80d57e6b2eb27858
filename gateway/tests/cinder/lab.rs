//! A manager and a gateway behind their sockets, and a client that sends what a test says and nothing else.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stockpot_gateway::GatewayConfig;
use stockpot_manager::{
    Config, Manager, Parts,
    fakes::{FakeHost, FakeStorage, FakeStores, Faults},
    serve_manager,
};
use stockpot_proto::stockpot::v1::{self as api, manager_client::ManagerClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
};
use tonic::transport::Channel;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the volumes that are backed up: less than Cinder can ask for, so that a test takes no minute.
pub(crate) const SIZE: u64 = 3 << 20;

/// Storage and buckets that outlive the daemons run on them.
pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) faults: Arc<Faults>,
    storage: Arc<FakeStorage>,
    stores: Arc<FakeStores>,
}

/// One run of manager and gateway.
pub(crate) struct Lab<'w> {
    pub(crate) world: &'w World,
    pub(crate) manager: ManagerClient<Channel>,
    stops: Vec<oneshot::Sender<()>>,
    served: Vec<JoinHandle<()>>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// `Null` without one.
    pub(crate) body: Value,
}

impl World {
    /// With a profile `offsite` whose repository has the prefix `nightlybackups`.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["data", "profiles"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let faults = Arc::new(Faults::default());
        let world = Self {
            storage: FakeStorage::new(&dir.path().join("data"), faults.clone()),
            stores: FakeStores::new(faults.clone()),
            faults,
            dir,
        };
        world.add_profile("offsite", "nightlybackups");
        world
    }

    pub(crate) fn add_profile(&self, name: &str, prefix: &str) {
        let text = format!(
            "{{name: {name}, snapshotProperties: {{topology: {{bucket: backups, prefix: {prefix}}}}}}}"
        );
        let file = self.path("profiles").join(format!("{name}.yaml"));
        fs::write(file, text).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> Config {
        let text = format!(
            "{{nodeName: node-1, stateDir: {0}/state, socket: {0}/run/m.sock, profilesDir: {0}/profiles,
               credentialsDir: {0}, pools: [{{name: pool, driver: file, directory: {0}/images}}],
               transfers: {{pauseFirstSeconds: 0, pauseMaxSeconds: 0, giveUpAfterSeconds: 3, partSizeBytes: 5242880}},
               shutdownGraceSeconds: 20}}",
            self.dir.path().display()
        );
        serde_saphyr::from_str(&text).unwrap()
    }

    /// Nothing is on record any more; the storage and the bucket are what they were.
    pub(crate) async fn forget_catalog(&self) {
        self.until_unlocked().await;
        fs::remove_dir_all(self.path("state")).unwrap();
    }

    /// Content that tells volumes apart.
    pub(crate) fn fill(&self, volume: &str, byte: u8) {
        let file = self.storage.volume_file(&volume.parse().unwrap());
        fs::write(file, content(byte)).unwrap();
    }

    /// Of a volume as it is shown.
    pub(crate) fn assert_content(&self, volume: &Value, byte: u8) {
        let id = volume["provider_id"].as_str().unwrap();
        let file = self.storage.volume_file(&id.parse().unwrap());
        assert!(fs::read(file).unwrap() == content(byte), "{volume}");
    }

    /// Nothing is half-open.
    pub(crate) fn assert_tidy(&self) {
        assert_eq!(self.stores.content().1, 0, "multipart uploads are open");
    }

    /// Whether the bucket answers.
    pub(crate) fn set_out_of_reach(&self, out_of_reach: bool) {
        self.stores.set_out_of_reach(out_of_reach);
    }

    /// The thread of a manager that ended lets go of its catalog a moment later.
    async fn until_unlocked(&self) {
        let deadline = Instant::now() + PATIENCE;
        let is_locked = || {
            let lock = fs::File::open(self.path("state/lock"));
            lock.is_ok_and(|lock| lock.try_lock().is_err())
        };
        while is_locked() {
            assert!(Instant::now() < deadline, "the catalog stays locked");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Starts both, and waits until they take operations.
    pub(crate) async fn start(&self) -> Lab<'_> {
        let parts = Parts {
            pools: BTreeMap::from([("pool".to_owned(), self.storage.clone() as _)]),
            connector: Arc::new(FakeHost(self.storage.clone())),
            stores: self.stores.clone(),
        };
        let config = self.config();
        self.until_unlocked().await;
        let manager_socket = config.socket.clone();
        let manager = Manager::open(config, parts).await.unwrap();
        let mut lab = Lab {
            world: self,
            manager: stockpot_proto::socket::manager(manager_socket.clone()),
            stops: Vec::new(),
            served: Vec::new(),
        };
        let stopped = lab.stop_signal();
        lab.served.push(tokio::spawn(async move {
            serve_manager(manager, stopped).await.unwrap();
        }));
        let text = format!(
            "{{socket: {}, limits: {{requestsPerSecondMax: 10000, requestsBurstMax: 10000}}}}",
            self.path("gateway.sock").display()
        );
        let mut config: GatewayConfig = serde_saphyr::from_str(&text).unwrap();
        config.manager_socket = manager_socket;
        let stopped = lab.stop_signal();
        lab.served.push(tokio::spawn(async move {
            stockpot_gateway::serve(config, stopped).await.unwrap();
        }));
        lab.until_ready().await;
        lab
    }
}

fn content(byte: u8) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(SIZE).unwrap()];
    content[70_000..200_000].fill(byte);
    content
}

impl Lab<'_> {
    fn stop_signal(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let (stop, stopped) = oneshot::channel();
        self.stops.insert(0, stop);
        async move {
            let _ = stopped.await;
        }
    }

    async fn until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = self.manager.get_info(api::GetInfoRequest {}).await;
            let is_ready = info.is_ok_and(|info| info.into_inner().ready);
            if is_ready
                && UnixStream::connect(self.world.path("gateway.sock"))
                    .await
                    .is_ok()
            {
                return;
            }
            assert!(Instant::now() < deadline, "it does not get ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The gateway first, then the manager.
    pub(crate) async fn stop(self) {
        for (stop, served) in self.stops.into_iter().zip(self.served.into_iter().rev()) {
            let _ = stop.send(());
            served.await.unwrap();
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    /// With a microversion.
    pub(crate) async fn at(&self, version: &str, method: &str, path: &str, body: &str) -> Answer {
        let version = format!("volume {version}");
        let header = ("OpenStack-API-Version", version.as_str());
        self.send(method, path, &[header], body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let socket = self.world.path("gateway.sock");
        let sending = send(&socket, method, path, headers, body);
        tokio::time::timeout(PATIENCE, sending).await.unwrap()
    }

    /// The id under which Cinder shows a volume.
    pub(crate) async fn shown(&self, volume: &str) -> String {
        let shown = self.get(&format!("/v3/p/volumes/{volume}")).await;
        let id = shown.body["volume"]["id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36, "{id} is no UUID");
        id
    }

    /// A volume with content, which the manager made, as CSI would have it; its id there.
    pub(crate) async fn volume(&mut self, name: &str, byte: u8) -> String {
        let request = api::CreateVolumeRequest {
            name: name.to_owned(),
            required_bytes: SIZE,
            ..Default::default()
        };
        let made = self.manager.create_volume(request).await.unwrap();
        let id = made.into_inner().volume_id;
        self.world.fill(&id, byte);
        id
    }

    pub(crate) async fn attach(&mut self, volume: &str) {
        let request = api::AttachVolumeRequest {
            volume_id: volume.to_owned(),
            read_only: false,
            as_attached: false,
        };
        self.manager.attach_volume(request).await.unwrap();
    }

    pub(crate) async fn detach(&mut self, volume: &str) {
        let request = api::DetachVolumeRequest {
            volume_id: volume.to_owned(),
        };
        self.manager.detach_volume(request).await.unwrap();
    }

    /// Asks for a backup and waits until it is available.
    pub(crate) async fn backed_up(&self, volume: &str, name: &str) -> String {
        let body = json!({"backup": {"volume_id": volume, "name": name, "force": true}});
        let begun = self.post("/v3/p/backups", &body).await;
        assert_eq!(begun.status, 202, "{begun:?}");
        let id = begun.body["backup"]["id"].as_str().unwrap().to_owned();
        self.until("backup", &id, "available").await;
        id
    }

    /// Looks at a thing until it has a status; an error ends that.
    pub(crate) async fn until(&self, kind: &str, id: &str, wanted: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let path = format!("/v3/p/{kind}s/{id}");
            let answer = self.at("latest", "GET", &path, "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let thing = answer.body[kind].clone();
            if thing["status"] == wanted {
                return thing;
            }
            assert_ne!(thing["status"], "error", "{thing}");
            assert!(Instant::now() < deadline, "{thing}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Answer {
    /// The message of a fault, which has to be of this name and status.
    pub(crate) fn fault(&self, status: u16, name: &str) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        let fault = &self.body[name];
        assert_eq!(fault["code"], status, "{self:?}");
        let message = fault["message"].as_str().unwrap();
        assert!(!message.is_empty());
        message
    }
}

async fn send(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: cinder.example:8776\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    Answer {
        status: status.parse().unwrap(),
        headers: headers.collect(),
        body: match body {
            "" => Value::Null,
            body => serde_json::from_str(body).unwrap(),
        },
    }
}
