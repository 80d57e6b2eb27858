//! Where a manager and the gateway before it are run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use stockpot_gateway::GatewayConfig;
use stockpot_manager::{
    Config, Manager, Parts,
    fakes::{FakeHost, FakeStorage, FakeStores, Faults},
    serve_manager,
};
use stockpot_proto::{
    socket,
    stockpot::v1::{self as api, manager_client::ManagerClient},
};
use tokio::{net::UnixStream, task::JoinHandle};
use tonic::transport::Channel;

use super::PATIENCE;

/// Storage and buckets that are fakes, and a folder for all files. They outlive the daemons run on them.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    pub(crate) faults: Arc<Faults>,
    pub(crate) storage: Arc<FakeStorage>,
    pub(crate) stores: Arc<FakeStores>,
}

impl Site {
    /// Without a profile.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["data", "profiles"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let faults = Arc::new(Faults::default());
        Self {
            storage: FakeStorage::new(&dir.path().join("data"), faults.clone()),
            stores: FakeStores::new(faults.clone()),
            faults,
            dir,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn manager_socket(&self) -> PathBuf {
        self.path("m.sock")
    }

    /// Writes a profile by hand.
    pub(crate) fn add_profile(&self, name: &str, bucket: &str, prefix: &str) {
        let text = format!(
            "{{name: {name}, snapshotProperties: {{topology: {{bucket: {bucket}, prefix: {prefix}}}}}}}"
        );
        let file = self.path("profiles").join(format!("{name}.yaml"));
        fs::write(file, text).unwrap();
    }

    /// Starts a manager; `more` are settings besides those that all tests have, in YAML.
    pub(crate) async fn manager(
        &self,
        more: &str,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let text = format!(
            "{{nodeName: node-1, stateDir: {0}/state, socket: {0}/m.sock, profilesDir: {0}/profiles,
               credentialsDir: {0}, pools: [{{name: pool, driver: file, directory: {0}/images}}],
               transfers: {{pauseFirstSeconds: 0, pauseMaxSeconds: 0, giveUpAfterSeconds: 3, partSizeBytes: 5242880}},
               shutdownGraceSeconds: 20, {more}}}",
            self.dir.path().display()
        );
        let config: Config = serde_saphyr::from_str(&text).unwrap();
        let parts = Parts {
            pools: BTreeMap::from([("pool".to_owned(), self.storage.clone() as _)]),
            connector: Arc::new(FakeHost(self.storage.clone())),
            stores: self.stores.clone(),
        };
        self.until_unlocked().await;
        let manager = Manager::open(config, parts).await.unwrap();
        tokio::spawn(async move { serve_manager(manager, stop).await.unwrap() })
    }

    /// Starts a gateway before the manager of this place.
    pub(crate) fn gateway(
        &self,
        mut config: GatewayConfig,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        config.manager_socket = self.manager_socket();
        tokio::spawn(async move { stockpot_gateway::serve(config, stop).await.unwrap() })
    }

    /// A client of the manager, once it takes operations.
    pub(crate) async fn ready(&self) -> ManagerClient<Channel> {
        let mut client = socket::manager(self.manager_socket());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = client.get_info(api::GetInfoRequest {}).await;
            if info.is_ok_and(|info| info.into_inner().ready) {
                return client;
            }
            assert!(Instant::now() < deadline, "the manager is not ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until somebody listens at a socket of this place.
    pub(crate) async fn until_listening(&self, socket: &str) {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(self.path(socket)).await.is_err() {
            assert!(Instant::now() < deadline, "nobody listens at {socket}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The thread of a manager that ended lets go of its catalog a moment later.
    pub(crate) async fn until_unlocked(&self) {
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

    /// The file in which the storage keeps a volume.
    pub(crate) fn volume_file(&self, volume_id: &str) -> PathBuf {
        self.storage.volume_file(&volume_id.parse().unwrap())
    }
}
