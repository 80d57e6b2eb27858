//! A manager on storage and buckets that are fakes, and the gateway before it, each on its socket.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use stockpot_gateway::GatewayConfig;
use stockpot_manager::{
    Config, Manager, Parts,
    fakes::{FakeHost, FakeStorage, FakeStores, Faults},
    serve_manager,
};
use stockpot_proto::{
    socket,
    stockpot::v1::{self as api, manager_client::ManagerClient, streams_client::StreamsClient},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Of every volume, in bytes.
pub(crate) const SIZE: usize = 3 << 20;

/// All of it, until it is stopped.
pub(crate) struct Bench {
    pub(crate) storage: Arc<FakeStorage>,
    pub(crate) socket: PathBuf,
    /// Where the plugin's data goes.
    pub(crate) address: String,
    client: ManagerClient<Channel>,
    manager_socket: PathBuf,
    stop: CancellationToken,
    stop_gateway: CancellationToken,
    served: Vec<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::create_dir(dir.path().join("profiles")).unwrap();
        let profile =
            "{name: offsite, snapshotProperties: {topology: {bucket: backups, prefix: a}}}";
        fs::write(dir.path().join("profiles/offsite.yaml"), profile).unwrap();
        let profile = "{name: second, snapshotProperties: {topology: {bucket: second, prefix: b}}}";
        fs::write(dir.path().join("profiles/second.yaml"), profile).unwrap();
        let faults = Arc::new(Faults::default());
        let storage = FakeStorage::new(&data, faults.clone());
        let parts = Parts {
            pools: BTreeMap::from([("pool".to_owned(), storage.clone() as _)]),
            connector: Arc::new(FakeHost(storage.clone())),
            stores: FakeStores::new(faults),
        };
        // A port that is free now, and that the plugin opens when it needs it.
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap().to_string();
        drop(port);
        let config = config(dir.path(), &address);
        let manager_socket = config.socket.clone();
        let stop = CancellationToken::new();
        let manager = Manager::open(config, parts).await.unwrap();
        let stopped = stop.clone();
        let managing = tokio::spawn(async move {
            let stop = async move { stopped.cancelled().await };
            serve_manager(manager, stop).await.unwrap();
        });
        let client = ready(&manager_socket).await;
        let socket = dir.path().join("gateway.sock");
        let gateway = GatewayConfig {
            manager_socket: manager_socket.clone(),
            socket: Some(socket.clone()),
            ..GatewayConfig::default()
        };
        let stop_gateway = stop.child_token();
        let stopped = stop_gateway.clone();
        let serving = tokio::spawn(async move {
            let stop = async move { stopped.cancelled().await };
            stockpot_gateway::serve(gateway, stop).await.unwrap();
        });
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self {
            storage,
            socket,
            address,
            client,
            manager_socket,
            stop,
            stop_gateway,
            served: vec![serving, managing],
            _dir: dir,
        }
    }

    /// The bytes that a volume of this number has.
    pub(crate) fn bytes(number: u8) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        bytes[10..90_000].fill(number);
        bytes[1 << 20..(1 << 20) + 5000].fill(number.wrapping_mul(3));
        bytes[SIZE - 1] = number;
        bytes
    }

    /// Makes a volume if it is not there, and writes what this number stands for.
    pub(crate) async fn volume(&self, name: &str, number: u8) {
        let request = api::CreateVolumeRequest {
            name: name.to_owned(),
            required_bytes: SIZE as u64,
            ..Default::default()
        };
        let made = self.client.clone().create_volume(request).await.unwrap();
        let path = self.file(&made.into_inner().volume_id);
        fs::write(path, Self::bytes(number)).unwrap();
    }

    /// Makes more volumes than a page of a list has, and a snapshot of each.
    pub(crate) async fn crowd(&self) {
        let mut client = self.client.clone();
        for number in 0..=500 {
            let request = api::CreateVolumeRequest {
                name: format!("crowd-{number}"),
                required_bytes: 1,
                ..Default::default()
            };
            let made = client.create_volume(request).await.unwrap();
            let request = api::CreateSnapshotRequest {
                name: format!("crowd-{number}"),
                source_volume_id: made.into_inner().volume_id,
                ..Default::default()
            };
            client.create_snapshot(request).await.unwrap();
        }
        // What comes next has a later id.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    /// Asks the gateway alone to stop.
    pub(crate) fn stop_gateway(&self) {
        self.stop_gateway.cancel();
    }

    pub(crate) fn gateway_is_up(&self) -> bool {
        !self.served[0].is_finished()
    }

    /// How all streams went.
    pub(crate) async fn streams(&self) -> Vec<api::StreamStatus> {
        let mut client = StreamsClient::new(socket::channel(self.manager_socket.clone()));
        let asked = api::ListStreamsRequest::default();
        let listed = client.list_streams(asked).await.unwrap().into_inner();
        listed.streams.iter().map(api::Stream::status).collect()
    }

    /// What the volume of a name holds, without the zeroes beyond.
    pub(crate) async fn content(&self, name: &str) -> Vec<u8> {
        let request = api::ListVolumesRequest::default();
        let listed = self.client.clone().list_volumes(request).await.unwrap();
        let volumes = listed.into_inner().volumes;
        let volume = volumes.iter().find(|volume| volume.name == name).unwrap();
        assert_eq!(volume.status(), api::VolumeStatus::Available, "{volume:?}");
        let mut bytes = fs::read(self.file(&volume.volume_id)).unwrap();
        assert!(bytes[SIZE..].iter().all(|byte| *byte == 0));
        bytes.truncate(SIZE);
        bytes
    }

    fn file(&self, volume_id: &str) -> PathBuf {
        self.storage.volume_file(&volume_id.parse().unwrap())
    }

    /// Nothing is attached.
    pub(crate) fn assert_tidy(&self) {
        let left = self.storage.leftovers();
        assert!(left.attached.is_empty(), "{left:?}");
    }

    /// Nothing was made besides one volume.
    pub(crate) fn assert_only_the_volume(&self) {
        let left = self.storage.leftovers();
        assert_eq!(
            (left.volumes.len(), left.snapshots.len()),
            (1, 0),
            "{left:?}"
        );
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for served in self.served {
            served.await.unwrap();
        }
        let left = self.storage.leftovers();
        assert!(left.attached.is_empty(), "{left:?}");
    }
}

fn config(dir: &Path, address: &str) -> Config {
    let text = format!(
        "{{nodeName: node-1, stateDir: {0}/state, socket: {0}/m.sock, profilesDir: {0}/profiles,
           credentialsDir: {0}, pools: [{{name: pool, driver: file, directory: {0}/images}}],
           transfers: {{pauseFirstSeconds: 0, pauseMaxSeconds: 0, giveUpAfterSeconds: 3, partSizeBytes: 5242880}},
           streams: {{allowedDestinations: ['{address}'], connectWithinSeconds: 2, silentSecondsMax: 5, lingerSeconds: 0}}}}",
        dir.display()
    );
    serde_saphyr::from_str(&text).unwrap()
}

async fn ready(path: &Path) -> ManagerClient<Channel> {
    let mut client = socket::manager(path.to_owned());
    loop {
        let info = client.get_info(api::GetInfoRequest {}).await;
        if info.is_ok_and(|info| info.into_inner().ready) {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
