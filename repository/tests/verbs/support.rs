//! A bench for the verbs: a bucket, a folder, and short ways to say what a test does.

use std::{path::PathBuf, sync::Arc};

use stockpot_repository::{
    CreateOptions, Repository, UploadSettings,
    format::{ids::VolumeId, keys::KeySource},
    store::{MemoryStore, ObjectStore},
    upload::{BaseChoice, UploadRequest},
};
use tempfile::TempDir;

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
            source_check: None,
            changes: None,
            source_is_fixed: false,
            settings: UploadSettings::default(),
        }
    }
}
