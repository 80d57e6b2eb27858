//! A repository with some volumes' images, on which uploads, prunes and deletions meet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use stockpot_repository::{
    Progress, ReadSettings, Repository, RepositoryError,
    device::{Source, SourceOptions, Target, TargetOptions},
    forget,
    format::ids::{SnapshotId, VolumeId},
    prune::{Plan, PruneError, PruneSettings, Report, execute, plan},
    restore::restore,
    snapshots::{self, Status},
    store::{MemoryStore, ObjectStore},
    upload::{BaseChoice, UploadReport, UploadRequest, upload},
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, Gated, Lie};
use crate::{
    files::small_settings,
    support::{Bench, key},
};

pub(crate) const CHUNK: u64 = 64 << 10;

/// The image of an upload that is killed: two packs and more.
pub(crate) const LARGE: u64 = 1_000_000;

/// The image of a number: a common part, a part of its own, and holes.
pub(crate) fn image(number: u64) -> Image {
    if number == LARGE {
        return Image::new(200 * CHUNK).extent(0, 180 * CHUNK, Fill::Random(number));
    }
    Image::new(40 * CHUNK)
        .extent(0, 10 * CHUNK, Fill::Random(1000))
        .extent((number % 8) * CHUNK, CHUNK, Fill::Random(number))
        .extent((20 + number % 8) * CHUNK, 2 * CHUNK, Fill::Random(number))
}

/// A repository, the images in it by their snapshots, and a gate for those who meet there.
pub(crate) struct Scene {
    pub(crate) bench: Bench,
    pub(crate) gate: Arc<Gate>,
    pub(crate) images: Arc<Mutex<BTreeMap<SnapshotId, u64>>>,
    /// Packs of which less is needed are given up by uploads, however little room that makes.
    pub(crate) repack_below_percent: u32,
}

pub(crate) type Uploaded = Result<UploadReport, RepositoryError>;
pub(crate) type Pruned = Result<Report, PruneError>;

/// Gives up at once; takes all lists for left over.
pub(crate) fn at_once() -> PruneSettings {
    PruneSettings {
        give_up_after: Duration::ZERO,
        stale_after: Duration::ZERO,
        ..PruneSettings::default()
    }
}

impl Scene {
    pub(crate) async fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            bench: Bench::on(store, true).await,
            gate: Arc::default(),
            images: Arc::default(),
            repack_below_percent: 0,
        }
    }

    /// In a bucket in memory, which the test may meddle with.
    pub(crate) async fn in_memory() -> (Self, MemoryStore) {
        let memory = MemoryStore::new();
        (Self::new(Arc::new(memory.clone())).await, memory)
    }

    pub(crate) fn volume() -> VolumeId {
        VolumeId::new("vol-1").unwrap()
    }

    /// The repository as an actor sees it.
    pub(crate) async fn seen_by(&self, name: &'static str, lie: Option<Lie>) -> Repository {
        let store = Gated::over(&self.bench.store, &self.gate, name, lie);
        let gate = self.gate.clone();
        let opening = gate.spawn(
            name,
            async move { Repository::open(store, Some(key())).await },
        );
        self.gate.run_out(name).await;
        opening.await.unwrap().unwrap()
    }

    fn request(&self, number: u64) -> (UploadRequest, std::path::PathBuf) {
        let mut request = self.bench.request();
        request.settings = small_settings();
        request.settings.workers = 1;
        request.settings.parts_in_flight = 1;
        request.settings.repack_below_percent = self.repack_below_percent;
        request.settings.repack_gain_bytes_min = 1;
        request.base = BaseChoice::Newest;
        self.images
            .lock()
            .unwrap()
            .insert(request.snapshot_id.clone(), number);
        let path = self
            .bench
            .path(&format!("source-{}.img", request.snapshot_id));
        image(number).write_to(&path).unwrap();
        (request, path)
    }

    /// Uploads an image at once, with nobody else around.
    pub(crate) async fn up(&self, number: u64) -> SnapshotId {
        let (request, path) = self.request(number);
        let id = request.snapshot_id.clone();
        let uploaded = run_upload(self.bench.repository.clone(), request, path).await;
        uploaded.unwrap();
        id
    }

    /// An actor that uploads an image.
    pub(crate) fn upload(
        &self,
        name: &'static str,
        repository: &Repository,
        number: u64,
    ) -> tokio::task::JoinHandle<Uploaded> {
        let (request, path) = self.request(number);
        self.gate
            .spawn(name, run_upload(repository.clone(), request, path))
    }

    /// An upload that was killed: a pack and its intent are there, and a multipart upload is open.
    pub(crate) async fn dead_upload(&self) -> SnapshotId {
        let repository = self.seen_by("dead", None).await;
        let (request, path) = self.request(LARGE);
        let id = request.snapshot_id.clone();
        let upload = self
            .gate
            .spawn("dead", run_upload(repository, request, path));
        assert!(self.gate.run_until("dead", "complete packs/").await);
        let waiting = self.gate.waiting().await;
        let complete = waiting
            .iter()
            .find(|(name, what)| *name == "dead" && what.starts_with("complete packs/"));
        self.gate.grant("dead", &complete.unwrap().1);
        assert!(self.gate.run_until("dead", "complete packs/").await);
        self.gate.kill("dead");
        upload.await.unwrap().unwrap_err();
        assert_eq!(self.bench.store.multipart_list("").await.unwrap().len(), 1);
        id
    }

    /// An actor that goes on with what [`dead_upload`](Self::dead_upload) left: as another attempt at the same snapshot,
    /// whose source is what it was, or as another snapshot.
    pub(crate) fn go_on(
        &self,
        name: &'static str,
        repository: &Repository,
        same: Option<SnapshotId>,
    ) -> tokio::task::JoinHandle<Uploaded> {
        let (mut request, path) = self.request(LARGE);
        if let Some(id) = same {
            request.snapshot_id = id;
            request.source_is_fixed = true;
        }
        self.gate
            .spawn(name, run_upload(repository.clone(), request, path))
    }

    /// An actor that prunes.
    pub(crate) fn prune(
        &self,
        name: &'static str,
        repository: &Repository,
        settings: PruneSettings,
    ) -> tokio::task::JoinHandle<Pruned> {
        let repository = repository.clone();
        self.gate.spawn(name, async move {
            let none = CancellationToken::new();
            execute(plan(&repository, &settings, &none).await?).await
        })
    }

    /// What a prune would do now, with nobody else around.
    pub(crate) async fn planned(&self, settings: PruneSettings) -> Result<Plan, PruneError> {
        let none = CancellationToken::new();
        plan(&self.bench.repository, &settings, &none).await
    }

    /// Prunes at once.
    pub(crate) async fn pruned(&self, settings: PruneSettings) -> Pruned {
        execute(self.planned(settings).await?).await
    }

    /// Deletes a snapshot at once.
    pub(crate) async fn delete(&self, id: &SnapshotId) {
        snapshots::delete(&self.bench.repository, &Self::volume(), id)
            .await
            .unwrap();
    }

    /// What `stockpot forget ID` does.
    pub(crate) async fn forget_named(&self, id: &SnapshotId) {
        let repository = &self.bench.repository;
        let found = snapshots::list(repository).await.unwrap();
        let named = forget::named(repository, &found, &[id.to_string()]).await;
        for target in named.unwrap() {
            self.delete(&target.snapshot_id).await;
        }
    }

    /// How many things are wrong with what is committed; reads every byte.
    pub(crate) async fn problems(&self) -> usize {
        self.told().await.len()
    }

    /// What verify says is wrong.
    pub(crate) async fn told(&self) -> Vec<String> {
        let settings = VerifySettings {
            read_data: true,
            ..VerifySettings::default()
        };
        let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
        let report = verify(&self.bench.repository, None, &settings, &progress, &none).await;
        let problems = report.unwrap().problems;
        problems.iter().map(ToString::to_string).collect()
    }

    /// Restores every committed snapshot and compares it with its image. Returns how many there are.
    pub(crate) async fn check_images(&self) -> usize {
        let found = snapshots::list(&self.bench.repository).await.unwrap();
        let mut checked = 0;
        for summary in found.iter().filter(|s| s.status == Status::Committed) {
            let manifest = summary.manifest.as_ref().unwrap();
            let number = self.images.lock().unwrap()[&summary.snapshot_id];
            let path = self.bench.path("restored.img");
            let _ = std::fs::remove_file(&path);
            let target = Target::open(&path, manifest.size_bytes, TargetOptions::default());
            let restored = restore(
                &self.bench.repository,
                manifest,
                target.unwrap(),
                &ReadSettings::default(),
                &Arc::new(Progress::new()),
                &CancellationToken::new(),
            )
            .await;
            restored.unwrap_or_else(|e| panic!("{} is lost: {e}", summary.snapshot_id));
            assert_eq!(image(number).first_difference(&path).unwrap(), None);
            checked += 1;
        }
        checked
    }

    /// With nobody else around: prunes, and makes sure that exactly what is needed is left.
    pub(crate) async fn check_tidy(&self) {
        self.pruned(at_once()).await.unwrap();
        let none = CancellationToken::new();
        let settings = VerifySettings::default();
        let progress = Arc::new(Progress::new());
        let report = verify(&self.bench.repository, None, &settings, &progress, &none).await;
        let report = report.unwrap();
        assert_eq!(report.problems, []);
        let store = &self.bench.store;
        let packs = store.list("packs/", None).await.unwrap().objects;
        assert_eq!(packs.len() as u64, report.packs, "{packs:?}");
        for prefix in ["intents/", "condemned/"] {
            let left = store.list(prefix, None).await.unwrap().objects;
            assert_eq!(left, [], "below {prefix}");
        }
        assert_eq!(store.multipart_list("").await.unwrap(), []);
    }

    /// Puts an object in place, whatever is there.
    pub(crate) async fn show(&self, object: &str, body: bytes::Bytes) {
        let mode = stockpot_repository::store::PutMode::Overwrite;
        self.bench.store.put(object, body, mode).await.unwrap();
    }
}

async fn run_upload(
    repository: Repository,
    request: UploadRequest,
    path: std::path::PathBuf,
) -> Uploaded {
    let source = Source::open(&path, SourceOptions::default())?;
    let progress = Arc::new(Progress::new());
    upload(
        &repository,
        source,
        request,
        &progress,
        &CancellationToken::new(),
    )
    .await
}
