//! One object that is too large, or that cannot be read: it is named, and the rest of the repository works.

use std::sync::Arc;

use bytes::Bytes;
use stockpot_repository::{
    Progress, Repository, RepositoryError,
    format::{
        FormatError,
        crypto::Sealer,
        ids::{
            ObjectId, Run, SnapshotId, condemned_key, intent_key, marks_key, slot_key, snapshot_key,
        },
        manifest::Reason,
    },
    snapshots::{self, SnapshotSummary, Status},
    store::PutMode,
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, key};

fn image() -> Image {
    Image::new(4 << 20).extent(0, 1 << 20, Fill::Text(1))
}

async fn put(bench: &Bench, key: &str, size: usize) {
    let body = Bytes::from(vec![b'x'; size]);
    bench
        .store
        .put(key, body, PutMode::Overwrite)
        .await
        .unwrap();
}

fn status_of<'a>(listed: &'a [SnapshotSummary], id: &SnapshotId) -> &'a Status {
    let found = listed.iter().find(|summary| summary.snapshot_id == *id);
    &found.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_too_large_are_damaged_ones() {
    let bench = Bench::new(true).await;
    let good = bench.up(&image()).await.manifest;
    let (large, started) = (
        bench.repository.new_snapshot_id(),
        bench.repository.new_snapshot_id(),
    );
    let large_key = snapshot_key(&good.volume_id, &large);
    put(&bench, &large_key, 2 << 20).await;
    put(&bench, &intent_key(&started, Run([1; 16])), 2 << 20).await;
    put(&bench, "snapshots/vol-1/a\nb", 10).await;
    // As a server writes it down that cannot write what it is.
    put(&bench, "snapshots/vol-1/a\u{fffd}b", 10).await;

    let locked = Repository::open_locked(bench.store.clone()).await.unwrap();
    for repository in [&bench.repository, &locked] {
        let before = bench.store.requests().bytes_in;
        let listed = snapshots::list(repository).await.unwrap();
        assert_eq!(listed.len(), 3);
        assert_eq!(*status_of(&listed, &good.snapshot_id), Status::Committed);
        let Status::Unreadable(why) = status_of(&listed, &large) else {
            panic!("{listed:?}");
        };
        assert!(why.contains("size") && why.contains("65535"), "{why}");
        let read = bench.store.requests().bytes_in - before;
        assert!(read < 1 << 20, "{read} bytes");
    }

    // It is no base, but those before it are.
    let next = bench.up(&image()).await.manifest;
    assert_eq!(next.base.unwrap().snapshot_id, good.snapshot_id);
    let problems = {
        let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
        let settings = VerifySettings::default();
        let report = verify(&bench.repository, None, &settings, &progress, &none).await;
        report.unwrap().problems
    };
    assert!(problems.iter().any(|problem| problem.object == large_key));
    snapshots::delete(&bench.repository, &good.volume_id, &large)
        .await
        .unwrap();
    let listed = snapshots::list(&bench.repository).await.unwrap();
    assert_eq!(*status_of(&listed, &large), Status::Deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_too_large_count_as_unreadable() {
    let bench = Bench::new(true).await;
    bench.up(&image()).await;
    let id = ObjectId::new("too-large").unwrap();
    put(&bench, &marks_key(&id), (16 << 20) + 1).await;
    let marked = bench.up(&image()).await.manifest;
    assert_eq!(marked.reason, Reason::Compared);
    // It could name any pack.
    put(&bench, &condemned_key(&id), (16 << 20) + 1).await;
    let full = bench.up(&image()).await.manifest;
    assert_eq!(full.reason, Reason::Full);
}

#[tokio::test]
async fn a_key_slot_that_is_too_large_does_not_keep_another_from_opening() {
    let bench = Bench::new(true).await;
    put(
        &bench,
        &slot_key(&ObjectId::new("a-first").unwrap()),
        2 << 20,
    )
    .await;
    Repository::open(bench.store.clone(), Some(key()))
        .await
        .unwrap();
    put(&bench, "repository.json", 2 << 20).await;
    let error = Repository::open(bench.store.clone(), Some(key())).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, RepositoryError::Damaged { .. }),
        "{error:?}"
    );
}

/// Its pages are asked for by one request of the length that it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_a_forged_length_is_damaged() {
    let bench = Bench::new(false).await;
    let mut manifest = bench.up(&image()).await.manifest;
    manifest.map.as_mut().unwrap().length = u32::MAX - 1000;
    let sealed =
        Sealer::new(bench.repository.id(), None).seal_record(&manifest.object_key(), &manifest);
    assert!(
        matches!(sealed, Err(FormatError::Limit { .. })),
        "{sealed:?}"
    );
}

/// What a base lacks is stored again.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_whose_pages_are_gone_does_not_stop_a_backup() {
    for lost in ["map", "list"] {
        let bench = Bench::new(false).await;
        let first = bench.up(&image()).await.manifest;
        let root = match lost {
            "map" => first.map.unwrap(),
            _ => first.pack_list.unwrap(),
        };
        bench.store.delete(&root.pack.object_key()).await.unwrap();
        let second = bench.up(&image()).await.manifest;
        let restored = bench.down(&second).await;
        assert_eq!(image().first_difference(&restored).unwrap(), None, "{lost}");
    }
}
