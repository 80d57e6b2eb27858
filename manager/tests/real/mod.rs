mod adopt;
mod backups;
mod broken;
mod changed;
mod database;
mod elsewhere;
mod faults;
mod full;
mod in_place;
mod large;
mod limits;
mod meanwhile;
mod pauses;
mod quiesce;
mod rebuild;
mod schedules;
mod story;
mod streams;
mod watchdog;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use secrecy::ExposeSecret;
use stockpot_command::Command;
use stockpot_manager::{Config, Parts};
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::store::{
    ObjectStore, S3Store,
    s3::{CredentialSource, S3Config},
};
use stockpot_test_fixtures::{
    image::{Fill, Image},
    leak::LeakCheck,
    s3::{
        Server,
        real::{self, RealServer},
    },
    vg::ThrowAwayVg,
};

use crate::lab::{self, Client, Run};

pub(crate) const BUCKET: &str = "backups";
pub(crate) const SIZE: u64 = 96 << 20;

/// One test at a time has the machine: each looks at what it leaves behind.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which storage a test runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    LvmThin,
    LvmThick,
    /// With little room for changes, never looked at before it is all used.
    LvmThickTight,
    File,
}

enum Storage {
    LvmThin(ThrowAwayVg),
    /// With the settings of its pool.
    LvmThick(ThrowAwayVg, &'static str),
    File(Mounted),
}

/// A file system on a file, mounted.
struct Mounted {
    path: PathBuf,
}

/// Storage and an S3 server that outlive the managers run on them.
pub(crate) struct World {
    storage: Option<Storage>,
    pub(crate) server: Server,
    /// The server in use, where it is one that others wrote.
    real: Option<RealServer>,
    pub(crate) dir: tempfile::TempDir,
    leaks: LeakCheck,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with(kind, None, 1 << 30)
    }

    /// With a volume group of this size, in bytes.
    pub(crate) fn of_size(kind: Kind, size_bytes: u64) -> Self {
        Self::with(kind, None, size_bytes)
    }

    /// With a server that others wrote; `None` where `STOCKPOT_TEST_S3` does not ask for it.
    pub(crate) fn on_server(kind: Kind, server: real::Kind) -> Option<Self> {
        if !real::requested().unwrap().contains(&server) {
            eprintln!("not run: STOCKPOT_TEST_S3 does not name {}", server.name());
            return None;
        }
        Some(Self::with(kind, Some(server), 1 << 30))
    }

    fn with(kind: Kind, real: Option<real::Kind>, size_bytes: u64) -> Self {
        let turn = turn();
        let leaks = LeakCheck::start();
        let dir = tempfile::tempdir().unwrap();
        let server = Server::builder().bucket(BUCKET).start().unwrap();
        let storage = match kind {
            Kind::LvmThin => Storage::LvmThin(ThrowAwayVg::new(size_bytes).unwrap()),
            Kind::LvmThick => Storage::LvmThick(without_pool(size_bytes), ""),
            Kind::LvmThickTight => Storage::LvmThick(
                without_pool(512 << 20),
                ", snapshotPercent: 1, snapshotLeastBytes: 8388608, extendAtPercent: 100",
            ),
            Kind::File => Storage::File(Mounted::new(dir.path())),
        };
        let real = real.map(|kind| {
            let server = RealServer::start(kind).unwrap_or_else(|e| panic!("{}: {e}", kind.name()));
            server.create_bucket(BUCKET).unwrap();
            server
        });
        let (endpoint, keys) = match &real {
            Some(real) => (real.endpoint(), real.credentials()),
            None => (server.endpoint(), server.credentials()),
        };
        let credentials = dir.path().join("credentials");
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            keys.access_key,
            keys.secret_key.expose_secret()
        );
        fs::write(&credentials, text).unwrap();
        fs::write(dir.path().join("key"), [42; 32]).unwrap();
        fs::set_permissions(dir.path().join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        let topology = format!(
            "{{bucket: {BUCKET}, prefix: site, endpoint: '{}', region: us-east-1,
               credentials: {{file: credentials}}, key: {{file: key}}}}",
            endpoint
        );
        lab::write_profile(dir.path(), "offsite", &topology);
        Self {
            storage: Some(storage),
            server,
            real,
            dir,
            leaks,
            _turn: turn,
        }
    }

    pub(crate) fn config(&self) -> Config {
        Self::config_of(self.dir.path(), &self.pool())
    }

    /// The configuration of a world, as another process has it.
    pub(crate) fn config_of(dir: &Path, pool: &str) -> Config {
        let mut config = lab::config(dir);
        config.pools = serde_saphyr::from_str(&format!("[{pool}]")).unwrap();
        config
    }

    /// What its configuration says of its pool.
    pub(crate) fn pool(&self) -> String {
        match self.storage.as_ref().unwrap() {
            Storage::LvmThin(vg) => format!(
                "{{name: pool, driver: lvm-thin, volumeGroup: {}, thinPool: {}}}",
                vg.name(),
                ThrowAwayVg::POOL
            ),
            Storage::LvmThick(vg, settings) => format!(
                "{{name: pool, driver: lvm-thick, volumeGroup: {}{settings}}}",
                vg.name()
            ),
            Storage::File(mounted) => format!(
                "{{name: pool, driver: file, directory: {}/images}}",
                mounted.path.display()
            ),
        }
    }

    /// Whether snapshots need their volume, as classic ones do.
    pub(crate) fn snapshots_need_their_volume(&self) -> bool {
        matches!(self.storage, Some(Storage::LvmThick(..)))
    }

    pub(crate) fn start(&self) -> Run {
        let config = self.config();
        let parts = Parts::new(&config).unwrap();
        Run::start(config, parts)
    }

    /// The name of the volume group, where the storage is LVM's.
    pub(crate) fn volume_group(&self) -> &str {
        match self.storage.as_ref().unwrap() {
            Storage::LvmThin(vg) | Storage::LvmThick(vg, _) => vg.name(),
            Storage::File(_) => panic!("no volume group"),
        }
    }

    pub(crate) fn forget_catalog(&self) {
        fs::remove_dir_all(self.dir.path().join("state")).unwrap();
    }

    /// No multipart upload is open, and no device is attached.
    pub(crate) fn assert_tidy(&self, when: &str) {
        assert_eq!(self.open_uploads(), 0, "{when}: open uploads");
        self.assert_detached(when);
    }

    pub(crate) fn open_uploads(&self) -> usize {
        match &self.real {
            Some(real) => ask(real, |store| async move {
                store.multipart_list("").await.unwrap().len()
            }),
            None => self.server.uploads(BUCKET).len(),
        }
    }

    /// Keys in the repository that start with `prefix`.
    pub(crate) fn keys(&self, prefix: &'static str) -> Vec<String> {
        match &self.real {
            Some(real) => ask(real, move |store| async move {
                let page = store.list(prefix, None).await.unwrap();
                page.objects.into_iter().map(|object| object.key).collect()
            }),
            None => self
                .server
                .keys_with_prefix(BUCKET, &format!("site/{prefix}")),
        }
    }

    fn assert_detached(&self, when: &str) {
        let active: Vec<String> = fs::read_dir("/sys/block")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("dm/name")).ok())
            .filter(|name| name.contains("stockpot"))
            .collect();
        assert!(active.is_empty(), "{when}: active: {active:?}");
        let loops: Vec<String> = fs::read_dir("/sys/block")
            .unwrap()
            .filter_map(|e| fs::read_to_string(e.unwrap().path().join("loop/backing_file")).ok())
            .filter(|file| file.contains("/images/"))
            .collect();
        assert!(loops.is_empty(), "{when}: attached: {loops:?}");
    }

    /// Removes the storage and looks whether anything of the machine is not as it was.
    pub(crate) fn close(mut self) {
        self.assert_tidy("at the end");
        drop(self.storage.take());
        self.leaks.assert_clean();
    }
}

/// Looks into a server's repository past the manager, on a runtime of its own: callers may be on one.
fn ask<T: Send + 'static, F: Future<Output = T>>(
    real: &RealServer,
    question: impl FnOnce(S3Store) -> F + Send + 'static,
) -> T {
    let keys = real.credentials();
    let config = S3Config {
        endpoint: Some(real.endpoint()),
        region: Some("us-east-1".to_owned()),
        credentials: CredentialSource::Static {
            access_key_id: keys.access_key.clone(),
            secret_access_key: keys.secret_key.clone(),
            session_token: None,
        },
        ..S3Config::from_url(&format!("s3://{BUCKET}/site")).unwrap()
    };
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = S3Store::connect(config).await.unwrap();
            let report = store.probe().await.unwrap();
            store.adopt(&report);
            question(store).await
        })
    });
    thread.join().unwrap()
}

/// A volume group that is all for thick volumes.
fn without_pool(size_bytes: u64) -> ThrowAwayVg {
    let vg = ThrowAwayVg::new(size_bytes).unwrap();
    let pool = format!("{}/{}", vg.name(), ThrowAwayVg::POOL);
    run("lvremove", &["--yes", &pool]);
    vg
}

impl Mounted {
    fn new(dir: &Path) -> Self {
        let image = dir.join("xfs.image");
        fs::File::create(&image).unwrap().set_len(2 << 30).unwrap();
        let path = dir.join("mounted");
        fs::create_dir(&path).unwrap();
        run(
            "mkfs.xfs",
            &["-q", "-m", "reflink=1", image.to_str().unwrap()],
        );
        run(
            "mount",
            &[
                "-o",
                "loop",
                image.to_str().unwrap(),
                path.to_str().unwrap(),
            ],
        );
        Self { path }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.path.to_str().unwrap()]);
    }
}

/// Runs a command that has to succeed.
fn run(program: &str, args: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run_async(program, args));
}

async fn run_async(program: &str, args: &[&str]) {
    Command::new(program).args(args).run().await.unwrap();
}

pub(crate) fn content(seed: u64) -> Image {
    Image::new(SIZE)
        .extent(0, 5 << 20, Fill::Text(seed))
        .extent(20 << 20, 30 << 20, Fill::Random(seed + 1))
        .extent(SIZE - 4096, 4096, Fill::Random(seed + 2))
}

/// An available volume that holds `image`.
pub(crate) async fn filled_volume(client: &mut Client, image: &Image) -> api::Volume {
    let request = lab::empty_volume("source", SIZE);
    let volume = lab::available_volume(client, &request).await.unwrap();
    let path = attach(client, &volume.volume_id).await;
    let device = fs::OpenOptions::new().write(true).open(&path).unwrap();
    image.write_extents(&device).unwrap();
    device.sync_all().unwrap();
    drop(device);
    detach(client, &volume.volume_id).await;
    volume
}

pub(crate) async fn attach(client: &mut Client, volume_id: &str) -> PathBuf {
    attach_as(client, volume_id, false).await
}

pub(crate) async fn attach_as(client: &mut Client, volume_id: &str, as_attached: bool) -> PathBuf {
    let request = api::AttachVolumeRequest {
        volume_id: volume_id.to_owned(),
        read_only: false,
        as_attached,
    };
    let attached = client.attach_volume(request).await.unwrap().into_inner();
    attached.device_path.into()
}

pub(crate) async fn detach(client: &mut Client, volume_id: &str) {
    let request = api::DetachVolumeRequest {
        volume_id: volume_id.to_owned(),
    };
    client.detach_volume(request).await.unwrap();
}

/// The volume begins with the image; what is beyond reads as zeroes.
pub(crate) async fn assert_holds(client: &mut Client, volume_id: &str, image: &Image) {
    let path = attach(client, volume_id).await;
    let mut device = fs::File::open(&path).unwrap();
    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut device, &mut found).unwrap();
    drop(device);
    detach(client, volume_id).await;
    let expected = image.to_vec();
    let (head, tail) = found.split_at(expected.len());
    assert!(head == expected, "volume {volume_id} holds something else");
    assert!(
        tail.iter().all(|byte| *byte == 0),
        "volume {volume_id} is not clean beyond"
    );
}

/// Deletes them, each with all its copies.
pub(crate) async fn delete_all(client: &mut Client, volumes: [&str; 2], snapshot: &str) {
    for id in volumes {
        lab::delete_volume(client, id).await.unwrap();
    }
    lab::delete_snapshot(client, snapshot).await.unwrap();
}

pub(crate) async fn snapshot(client: &mut Client, id: &str) -> api::Snapshot {
    let snapshot_id = id.to_owned();
    let request = api::GetSnapshotRequest { snapshot_id };
    client.get_snapshot(request).await.unwrap().into_inner()
}
