//! What cannot be seen from outside: restores onto something that does not read as zeroes.

use std::time::Duration;

use super::*;
use crate::{
    CreateOptions, UploadSettings,
    device::{Source, SourceOptions},
    format::ids::VolumeId,
    store::MemoryStore,
    upload::{BaseChoice, UploadRequest, upload},
};

/// A snapshot of a file with nothing in it.
async fn empty_snapshot(folder: &std::path::Path, size_bytes: u64) -> (Repository, Manifest) {
    let store = Arc::new(MemoryStore::new());
    let made = Repository::create(store, CreateOptions::default()).await;
    let repository = made.unwrap().0;
    let path = folder.join("source.img");
    std::fs::File::create(&path)
        .and_then(|file| file.set_len(size_bytes))
        .unwrap();
    let source = Source::open(&path, SourceOptions { force: true }).unwrap();
    let request = UploadRequest {
        snapshot_id: repository.new_snapshot_id(),
        volume_id: VolumeId::new("vol-1").unwrap(),
        volume_name: String::new(),
        metadata: BTreeMap::new(),
        cut_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        extents: None,
        base: BaseChoice::Nothing,
        source_check: None,
        changes: None,
        source_is_fixed: false,
        settings: UploadSettings::default(),
    };
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let report = upload(&repository, source, request, &progress, &none).await;
    (repository, report.unwrap().manifest)
}

#[tokio::test(flavor = "multi_thread")]
async fn zeroing_a_large_hole_can_be_stopped() {
    // Tens of thousands of steps.
    let size_bytes = 8 << 40;
    let folder = tempfile::tempdir().unwrap();
    let (repository, manifest) = empty_snapshot(folder.path(), size_bytes).await;
    let target = Target::unknown(&folder.path().join("target.img"), size_bytes).unwrap();
    let (progress, cancel) = (Arc::new(Progress::new()), CancellationToken::new());
    let restoring = {
        let (progress, cancel) = (progress.clone(), cancel.clone());
        tokio::spawn(async move {
            let settings = ReadSettings::default();
            restore(
                &repository,
                &manifest,
                target,
                &settings,
                &progress,
                &cancel,
            )
            .await
        })
    };
    while progress.snapshot().bytes_scanned == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cancel.cancel();
    let ended = restoring.await.unwrap();
    assert!(ended.unwrap_err().is_cancelled());
    let done = progress.snapshot().bytes_scanned;
    assert!(done < size_bytes, "all was zeroed first");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_is_gone_where_holes_are() {
    // More than a step, and not a whole number of chunks.
    let size_bytes = ZERO_STEP_BYTES + (5 << 20) + 777;
    let folder = tempfile::tempdir().unwrap();
    let (repository, manifest) = empty_snapshot(folder.path(), size_bytes).await;
    let path = folder.path().join("target.img");
    let target = Target::unknown(&path, size_bytes).unwrap();
    let places = [0, ZERO_STEP_BYTES - 4096, ZERO_STEP_BYTES, size_bytes - 777];
    for place in places {
        target.write_at(place, &[7; 777]).unwrap();
    }
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let settings = ReadSettings::default();
    restore(&repository, &manifest, target, &settings, &progress, &none)
        .await
        .unwrap();
    let file = std::fs::File::open(&path).unwrap();
    for place in places {
        let mut bytes = [1; 777];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, place).unwrap();
        assert_eq!(bytes, [0; 777], "at {place}");
    }
    assert_eq!(progress.snapshot().bytes_scanned, size_bytes);
}
