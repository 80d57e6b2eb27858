//! A manager behind its socket, in a runtime of its own so that it can be killed at any moment.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use stockpot_manager::{
    Config, Manager, Parts,
    schedules::{Clock, SystemClock},
    serve_manager,
};
use stockpot_proto::stockpot::v1::{
    self as api, backups_client::BackupsClient, catalog_service_client::CatalogServiceClient,
    manager_client::ManagerClient, streams_client::StreamsClient, volumes_client::VolumesClient,
};
use tokio::{net::UnixStream, runtime::Runtime, sync::oneshot};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};

/// How long a single thing may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a test may take in all.
const STORY_PATIENCE: Duration = Duration::from_secs(300);

/// Beside the program of a test the manager's own is not there.
const WATCHDOG: &str = env!("CARGO_BIN_EXE_quiesce-watchdog");

pub(crate) type Client = ManagerClient<Channel>;
pub(crate) type Backups = BackupsClient<Channel>;
pub(crate) type Volumes = VolumesClient<Channel>;
pub(crate) type Streams = StreamsClient<Channel>;

/// One run of a manager.
pub(crate) struct Run {
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
    socket: PathBuf,
}

impl Run {
    /// Starts a manager and waits until it takes operations.
    pub(crate) fn start(config: Config, parts: Parts) -> Self {
        Self::start_early(config, parts).when_ready()
    }

    /// Waits until it takes operations.
    pub(crate) fn when_ready(self) -> Self {
        self.block_on(async {
            let mut client = ManagerClient::new(connect(&self.socket).await);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let info = client.get_info(api::GetInfoRequest {}).await;
                let info = info.unwrap().into_inner();
                if info.ready {
                    return;
                }
                assert!(Instant::now() < deadline, "{}", info.not_ready_reason);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        self
    }

    /// Starts a manager that may still be recovering.
    pub(crate) fn start_early(config: Config, parts: Parts) -> Self {
        Self::start_by(config, parts, Arc::new(SystemClock))
    }

    /// The same, with a clock for its schedules.
    pub(crate) fn start_by(config: Config, parts: Parts, clock: Arc<dyn Clock>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let socket = config.socket.clone();
        let (stop, stopped) = oneshot::channel();
        let manager = runtime.block_on(async {
            unlocked(&config.state_dir);
            Manager::open_by(config, parts, clock).await.unwrap()
        });
        let served = runtime.spawn(async move {
            let stop = async {
                // Nobody stops a manager that is killed.
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            serve_manager(manager, stop).await.unwrap();
        });
        Self {
            runtime: Some(runtime),
            stop: Some(stop),
            served: Some(served),
            socket,
        }
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.block_within(STORY_PATIENCE, work)
    }

    /// Waits for work that may take this long.
    pub(crate) fn block_within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> T {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.block_on(async { tokio::time::timeout(limit, work).await.expect("patience") })
    }

    pub(crate) fn client(&self) -> Client {
        ManagerClient::new(self.channel())
    }

    pub(crate) fn backups(&self) -> Backups {
        BackupsClient::new(self.channel())
    }

    pub(crate) fn channel(&self) -> Channel {
        self.block_on(connect(&self.socket))
    }

    pub(crate) fn volumes(&self) -> Volumes {
        VolumesClient::new(self.block_on(connect(&self.socket)))
    }

    pub(crate) fn streams(&self) -> Streams {
        StreamsClient::new(self.block_on(connect(&self.socket)))
    }

    pub(crate) fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel())
    }

    /// Everything that a check of the catalog finds.
    pub(crate) fn findings(&self, local_only: bool) -> Vec<api::CatalogFinding> {
        let mut client = self.catalog();
        let checked = client.check_catalog(api::CheckCatalogRequest { local_only });
        self.block_on(checked).unwrap().into_inner().findings
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        let served = self.served.take().unwrap();
        self.block_on(served).unwrap();
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Kills it: nothing is undone.
    pub(crate) fn kill(mut self) {
        drop(self.stop.take());
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// Waits until the catalog is held by nobody: the thread of a manager that is gone lets go of it a moment later.
pub(crate) fn unlocked(state_dir: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let is_locked = || {
        let lock = fs::File::open(state_dir.join("lock"));
        lock.is_ok_and(|lock| lock.try_lock().is_err())
    };
    while is_locked() {
        assert!(Instant::now() < deadline, "the catalog stays locked");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) async fn connect(socket: &Path) -> Channel {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://manager.invalid");
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => return channel,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Looks again and again until it is so.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A configuration whose folders lie in `dir`, which has one pool called `pool`.
pub(crate) fn config(dir: &Path) -> Config {
    let text = format!(
        "{{nodeName: node-1, stateDir: {0}/state, socket: {0}/run/m.sock, profilesDir: {0}/profiles,
           credentialsDir: {0}, pools: [{{name: pool, driver: file, directory: {0}/images}}],
           transfers: {{pauseFirstSeconds: 0, pauseMaxSeconds: 0, giveUpAfterSeconds: 3, partSizeBytes: 5242880}},
           quiesce: {{watchdog: {WATCHDOG}}}, shutdownGraceSeconds: 20}}",
        dir.display()
    );
    serde_saphyr::from_str(&text).unwrap()
}

pub(crate) fn write_profile(dir: &Path, name: &str, topology: &str) {
    let profiles = dir.join("profiles");
    fs::create_dir_all(&profiles).unwrap();
    let text = format!("{{name: {name}, snapshotProperties: {{topology: {topology}}}}}");
    fs::write(profiles.join(format!("{name}.yaml")), text).unwrap();
}

pub(crate) fn empty_volume(name: &str, size: u64) -> api::CreateVolumeRequest {
    api::CreateVolumeRequest {
        name: name.to_owned(),
        required_bytes: size,
        ..Default::default()
    }
}

pub(crate) fn volume_from(
    name: &str,
    snapshot: &str,
    copy: api::SourceCopy,
) -> api::CreateVolumeRequest {
    api::CreateVolumeRequest {
        name: name.to_owned(),
        source: Some(api::create_volume_request::Source::Snapshot(
            api::SnapshotSource {
                snapshot_id: snapshot.to_owned(),
                copy: copy.into(),
            },
        )),
        ..Default::default()
    }
}

pub(crate) fn snapshot_of(volume: &str, name: &str, profile: &str) -> api::CreateSnapshotRequest {
    api::CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume.to_owned(),
        profile: profile.to_owned(),
        metadata: Default::default(),
    }
}

/// Asks as a side-car does: again, unchanged, until the snapshot is ready or refused for good.
pub(crate) async fn ready_snapshot(
    client: &mut Client,
    request: &api::CreateSnapshotRequest,
) -> Result<api::Snapshot, Status> {
    loop {
        let snapshot = client.create_snapshot(request.clone()).await?.into_inner();
        if snapshot.ready {
            return Ok(snapshot);
        }
        assert!(snapshot.cut_at.is_some());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The same for a volume.
pub(crate) async fn available_volume(
    client: &mut Client,
    request: &api::CreateVolumeRequest,
) -> Result<api::Volume, Status> {
    let mut volume = client.create_volume(request.clone()).await?.into_inner();
    if volume.status() != api::VolumeStatus::Error {
        let id = api::GetVolumeRequest {
            volume_id: volume.volume_id.clone(),
        };
        volume = client.wait_volume(id).await?.into_inner();
    }
    match volume.status() {
        api::VolumeStatus::Error => {
            let code = Code::from_i32(i32::try_from(volume.error_code).unwrap());
            Err(Status::new(code, volume.error))
        }
        _ => Ok(volume),
    }
}

pub(crate) async fn delete_volume(client: &mut Client, id: &str) -> Result<(), Status> {
    let volume_id = id.to_owned();
    let request = api::DeleteVolumeRequest { volume_id };
    client.delete_volume(request).await.map(drop)
}

pub(crate) async fn delete_snapshot(client: &mut Client, id: &str) -> Result<(), Status> {
    let request = api::DeleteSnapshotRequest {
        snapshot_id: id.to_owned(),
        only: None,
    };
    client.delete_snapshot(request).await.map(drop)
}

pub(crate) async fn list(client: &mut Client) -> Vec<api::Snapshot> {
    let request = api::ListSnapshotsRequest::default();
    let listed = client.list_snapshots(request).await;
    listed.unwrap().into_inner().snapshots
}

/// A snapshot that is cut, however far its cloud copy is.
pub(crate) async fn cut(
    client: &mut Client,
    request: &api::CreateSnapshotRequest,
) -> api::Snapshot {
    let snapshot = client.create_snapshot(request.clone()).await;
    snapshot.unwrap().into_inner()
}

/// Brings something under management.
pub(crate) async fn adopt(
    volumes: &mut Volumes,
    source: &str,
    name: &str,
) -> Result<api::Volume, Status> {
    let request = api::AdoptVolumeRequest {
        source: source.to_owned(),
        name: name.to_owned(),
        metadata: [("owner".to_owned(), "shop".to_owned())].into(),
    };
    Ok(volumes.adopt_volume(request).await?.into_inner())
}

/// Lets a volume go; how it is called then.
pub(crate) async fn release(volumes: &mut Volumes, id: &str) -> Result<String, Status> {
    let request = api::ReleaseVolumeRequest {
        volume_id: id.to_owned(),
        lv_name: String::new(),
    };
    Ok(volumes.release_volume(request).await?.into_inner().released)
}

/// Every volume on record.
pub(crate) async fn volumes(client: &mut Client) -> Vec<api::Volume> {
    let listed = client.list_volumes(api::ListVolumesRequest::default());
    listed.await.unwrap().into_inner().volumes
}

/// Removes the local copy alone.
pub(crate) async fn drop_local_copy(client: &mut Client, id: &str) -> Result<(), Status> {
    let request = api::DeleteSnapshotRequest {
        snapshot_id: id.to_owned(),
        only: Some(api::delete_snapshot_request::Only::LocalOnly(true)),
    };
    client.delete_snapshot(request).await.map(drop)
}

pub(crate) fn backup(id: &str) -> api::GetBackupRequest {
    api::GetBackupRequest {
        backup_id: id.to_owned(),
    }
}

/// Asks for a backup, which is under way when this answers.
pub(crate) async fn back_up(
    backups: &mut Backups,
    volume: &str,
    name: &str,
    force: bool,
) -> Result<api::Backup, Status> {
    let request = api::CreateBackupRequest {
        name: name.to_owned(),
        volume: volume.to_owned(),
        profile: "offsite".to_owned(),
        force,
        ..Default::default()
    };
    Ok(backups.create_backup(request).await?.into_inner())
}

/// Watches a backup until it has ended.
pub(crate) async fn ended(backups: &mut Backups, id: &str) -> api::Backup {
    let stream = backups.watch_backup(backup(id)).await;
    let mut stream = stream.unwrap().into_inner();
    let mut last = None;
    while let Some(backup) = stream.message().await.unwrap() {
        last = Some(backup);
    }
    last.unwrap()
}

/// The same, until nothing temporary is left of it.
pub(crate) async fn cleaned(backups: &mut Backups, id: &str) -> api::Backup {
    loop {
        let ended = ended(backups, id).await;
        if ended.cleaned {
            return ended;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes a backup, which has to succeed.
pub(crate) async fn backed_up(
    backups: &mut Backups,
    volume: &str,
    name: &str,
    force: bool,
) -> api::Backup {
    back_up(backups, volume, name, force).await.unwrap();
    let done = ended(backups, name).await;
    assert_eq!(done.status(), api::BackupStatus::Available, "{done:?}");
    done
}
