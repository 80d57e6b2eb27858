//! A bench for the verbs: a bucket, a folder, and short ways to say what a test does.

use std::{path::PathBuf, sync::Arc};

use stockpot_repository::{
    CreateOptions, Progress, ReadSettings, Repository, RepositoryError, UploadSettings,
    device::{Source, SourceOptions, Target, TargetOptions},
    format::{
        ids::{SnapshotId, VolumeId},
        keys::KeySource,
        manifest::Manifest,
    },
    restore::{RestoreReport, restore},
    snapshots,
    store::{MemoryStore, ObjectStore},
    upload::{BaseChoice, UploadReport, UploadRequest, upload},
};
use stockpot_test_fixtures::image::Image;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The smallest parts and packs, so that small images have many.
pub(crate) fn small_settings() -> UploadSettings {
    UploadSettings {
        part_size_bytes: 5 << 20,
        pack_size_bytes: 5 << 20,
        ..UploadSettings::default()
    }
}

pub(crate) fn key() -> KeySource {
    KeySource::from_secret(&[7; 32]).unwrap()
}

pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) repository: Repository,
}

impl Bench {
    pub(crate) async fn new(sealed: bool) -> Self {
        Self::on(Arc::new(MemoryStore::new()), sealed).await
    }

    pub(crate) async fn on(store: Arc<dyn ObjectStore>, sealed: bool) -> Self {
        let options = CreateOptions {
            key: sealed.then(key),
            ..CreateOptions::default()
        };
        let (repository, _) = Repository::open_or_create(store.clone(), options)
            .await
            .unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            store,
            repository,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn request(&self) -> UploadRequest {
        UploadRequest {
            snapshot_id: self.repository.new_snapshot_id(),
            volume_id: VolumeId::new("vol-1").unwrap(),
            volume_name: "a volume".to_owned(),
            metadata: [("file-system".to_owned(), "ext4".to_owned())].into(),
            cut_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            extents: None,
            base: BaseChoice::Newest,
            settings: UploadSettings::default(),
        }
    }

    /// Writes the image to a file and uploads it.
    pub(crate) async fn up(&self, image: &Image) -> UploadReport {
        self.try_up(image, self.request()).await.unwrap()
    }

    pub(crate) async fn try_up(
        &self,
        image: &Image,
        request: UploadRequest,
    ) -> Result<UploadReport, RepositoryError> {
        let path = self.path("source.img");
        let _ = std::fs::remove_file(&path);
        image.write_to(&path).unwrap();
        let source = Source::open(&path, SourceOptions::default()).unwrap();
        let progress = Arc::new(Progress::new());
        upload(
            &self.repository,
            source,
            request,
            &progress,
            &CancellationToken::new(),
        )
        .await
    }

    /// Restores into a new file and returns its path.
    pub(crate) async fn down(&self, manifest: &Manifest) -> PathBuf {
        let path = self.path("target.img");
        let _ = std::fs::remove_file(&path);
        self.try_down(manifest).await.unwrap();
        path
    }

    pub(crate) async fn try_down(
        &self,
        manifest: &Manifest,
    ) -> Result<RestoreReport, RepositoryError> {
        let path = self.path("target.img");
        let _ = std::fs::remove_file(&path);
        let target = Target::open(&path, manifest.size_bytes, TargetOptions::default())?;
        restore(
            &self.repository,
            manifest,
            target,
            &ReadSettings::default(),
            &Arc::new(Progress::new()),
            &CancellationToken::new(),
        )
        .await
    }

    pub(crate) async fn find(&self, id: &SnapshotId) -> Manifest {
        snapshots::find(&self.repository, id.as_str())
            .await
            .unwrap()
    }
}
