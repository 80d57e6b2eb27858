//! Volumes that are image files: up from one, down to another.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use stockpot_repository::{
    Progress, ReadSettings, RepositoryError, UploadSettings,
    device::{Source, SourceOptions, Target, TargetOptions},
    format::{ids::SnapshotId, manifest::Manifest},
    restore::{RestoreReport, restore},
    snapshots,
    upload::{UploadReport, UploadRequest, upload},
};
use stockpot_test_fixtures::image::Image;
use tokio_util::sync::CancellationToken;

use crate::support::Bench;

/// The smallest parts and packs, so that small images have many.
pub(crate) fn small_settings() -> UploadSettings {
    UploadSettings {
        part_size_bytes: 5 << 20,
        pack_size_bytes: 5 << 20,
        ..UploadSettings::default()
    }
}

impl Bench {
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
        let source = open_written(&path);
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

/// Opens a file that was just written. A server that another test starts at this moment may hold our descriptor until it
/// has become a program of its own: then the file counts as open for writing, for a moment.
fn open_written(path: &Path) -> Source {
    let mut tries = 0..100;
    loop {
        match Source::open(path, SourceOptions::default()) {
            Ok(source) => return source,
            Err(error) => assert!(tries.next().is_some(), "{error:?}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
