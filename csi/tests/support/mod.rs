//! A frontend in the test's own process, between a client and a fake manager.

pub(crate) mod fake_manager;

use std::{path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use stockpot_csi::CsiConfig;
use stockpot_proto::csi::v1::{
    self as csi,
    controller_client::ControllerClient,
    identity_client::IdentityClient,
    node_client::NodeClient,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
};
use tokio::{net::UnixStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

use fake_manager::FakeManager;

/// The frontend, its manager and a connection to it.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) manager: Arc<FakeManager>,
    pub(crate) identity: IdentityClient<Channel>,
    pub(crate) controller: ControllerClient<Channel>,
    pub(crate) node: NodeClient<Channel>,
    frontend: Option<Frontend>,
    manager_task: JoinHandle<()>,
}

struct Frontend {
    stop: CancellationToken,
    task: JoinHandle<Result<(), stockpot_csi::ServeError>>,
}

impl Bench {
    /// Starts both; volumes are images on loop devices if `on_loop_devices`, else they are numbers only.
    pub(crate) async fn start(on_loop_devices: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manager = Arc::new(FakeManager::new(
            on_loop_devices.then(|| dir.path().join("images")),
        ));
        let socket = dir.path().join("manager.sock");
        let manager_task = fake_manager::serve(manager.clone(), &socket);
        let endpoint = dir.path().join("csi.sock");
        let frontend = Frontend::start(CsiConfig::new(&endpoint, &socket, "node-1"));
        let channel = connect(endpoint).await;
        Self {
            dir,
            manager,
            identity: IdentityClient::new(channel.clone()),
            controller: ControllerClient::new(channel.clone()),
            node: NodeClient::new(channel),
            frontend: Some(frontend),
            manager_task,
        }
    }

    /// Stops the frontend and starts a new one: nothing may be lost.
    pub(crate) async fn restart_frontend(&mut self) {
        self.stop_frontend().await;
        let config = CsiConfig::new(
            self.dir.path().join("csi.sock"),
            self.dir.path().join("manager.sock"),
            "node-1",
        );
        self.frontend = Some(Frontend::start(config));
        let channel = connect(self.dir.path().join("csi.sock")).await;
        self.identity = IdentityClient::new(channel.clone());
        self.controller = ControllerClient::new(channel.clone());
        self.node = NodeClient::new(channel);
    }

    /// A path of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Ends the manager and takes its socket away.
    pub(crate) fn cut_off_manager(&self) {
        self.manager_task.abort();
        std::fs::remove_file(self.path("manager.sock")).unwrap();
    }

    pub(crate) async fn stop_frontend(&mut self) {
        if let Some(frontend) = self.frontend.take() {
            frontend.stop.cancel();
            frontend.task.await.unwrap().unwrap();
            assert!(!self.path("csi.sock").exists());
        }
    }

    /// Stops everything.
    pub(crate) async fn stop(mut self) {
        self.stop_frontend().await;
        self.manager_task.abort();
    }
}

impl Frontend {
    fn start(config: CsiConfig) -> Self {
        let stop = CancellationToken::new();
        let shutdown = stop.clone().cancelled_owned();
        let task = tokio::spawn(stockpot_csi::serve(config, shutdown));
        Self { stop, task }
    }
}

/// Connects as soon as the socket answers.
async fn connect(path: PathBuf) -> Channel {
    for _ in 0..500 {
        let path = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://csi.invalid");
        if let Ok(channel) = endpoint.connect_with_connector(connector).await {
            return channel;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nobody answers on {}", path.display());
}

pub(crate) fn mounted(mode: Mode, fs_type: &str) -> csi::VolumeCapability {
    csi::VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            ..Default::default()
        })),
    }
}

pub(crate) fn block(mode: Mode) -> csi::VolumeCapability {
    csi::VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Block(BlockVolume {})),
    }
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

pub(crate) fn create_volume(name: &str, size_bytes: i64) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(csi::CapacityRange {
            required_bytes: size_bytes,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![mounted(Mode::SingleNodeWriter, "ext4")],
        ..Default::default()
    }
}
