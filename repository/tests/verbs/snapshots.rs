//! Listing, finding, deleting.

use bytes::Bytes;
use stockpot_repository::{
    RepositoryError,
    format::ids::{SnapshotId, snapshot_key},
    snapshots::{self, RecordCache, Status},
    store::PutMode,
};
use stockpot_test_fixtures::image::{Fill, Image};

use crate::support::Bench;

fn image(seed: u64) -> Image {
    Image::new(1 << 20).extent(seed * 4096, 5000, Fill::Text(seed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_hides_nothing() {
    let bench = Bench::new(true).await;
    let one = bench.up(&image(1)).await.manifest;
    let two = bench.up(&image(2)).await.manifest;
    let three = bench.up(&image(3)).await.manifest;
    snapshots::delete(&bench.repository, &one.volume_id, &one.snapshot_id)
        .await
        .unwrap();
    let key = snapshot_key(&three.volume_id, &three.snapshot_id);
    let body = Bytes::from_static(b"{}");
    bench
        .store
        .put(&key, body, PutMode::Overwrite)
        .await
        .unwrap();
    let listed = snapshots::list(&bench.repository).await.unwrap();
    let status = |id: &SnapshotId| {
        let found = listed.iter().find(|summary| summary.snapshot_id == *id);
        found.unwrap().status.clone()
    };
    assert_eq!(listed.len(), 3);
    assert_eq!(status(&one.snapshot_id), Status::Deleted);
    assert_eq!(status(&two.snapshot_id), Status::Committed);
    assert!(matches!(status(&three.snapshot_id), Status::Unreadable(_)));
    let restored = bench.down(&two).await;
    assert_eq!(
        image(2).first_difference(&restored).unwrap(),
        None,
        "it stands on its own"
    );
}

/// What was read once is not read again, but whatever happened since is seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_listing_reads_only_what_is_new() {
    let bench = Bench::new(true).await;
    let one = bench.up(&image(1)).await.manifest;
    let two = bench.up(&image(2)).await.manifest;
    let cache = RecordCache::default();
    let listed = async || {
        let before = bench.store.requests().get;
        let found = snapshots::list_with(&bench.repository, &cache)
            .await
            .unwrap();
        let mut found: Vec<_> = found.into_iter().map(|s| (s.status, s.manifest)).collect();
        // The ids of one millisecond come in any order.
        found.sort_by_key(|(_, manifest)| manifest.as_ref().map(|m| m.committed_at));
        (bench.store.requests().get - before, found)
    };
    let (first, second) = (
        (Status::Committed, Some(one.clone())),
        (Status::Committed, Some(two)),
    );
    assert_eq!(listed().await, (2, vec![first, second.clone()]));
    assert_eq!(listed().await.0, 0);
    let third = bench.up(&image(3)).await.manifest;
    snapshots::delete(&bench.repository, &one.volume_id, &one.snapshot_id)
        .await
        .unwrap();
    let third = (Status::Committed, Some(third));
    let (read, found) = listed().await;
    assert_eq!(read, 2, "the new one, and the tombstone");
    assert!(found.contains(&(Status::Deleted, None)));
    assert!(found.contains(&second) && found.contains(&third));
    // A record that vanished is not told from memory.
    let key = snapshot_key(&one.volume_id, &one.snapshot_id);
    bench.store.delete(&key).await.unwrap();
    assert_eq!(listed().await.1.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn found_by_the_start_of_an_id() {
    let bench = Bench::new(false).await;
    let mut ids = Vec::new();
    for (seed, id) in ["aa-1", "aa-2", "ab-1"].into_iter().enumerate() {
        let mut request = bench.request();
        request.snapshot_id = SnapshotId::new(id).unwrap();
        ids.push(request.snapshot_id.clone());
        bench.try_up(&image(seed as u64), request).await.unwrap();
    }
    let find = async |id: &str| snapshots::find(&bench.repository, id).await;
    assert_eq!(find("ab").await.unwrap().snapshot_id, ids[2]);
    assert_eq!(find("aa-1").await.unwrap().snapshot_id, ids[0]);
    let error = find("aa").await.unwrap_err();
    assert!(matches!(
        error,
        RepositoryError::AmbiguousSnapshot { count: 2, .. }
    ));
    for unknown in ["ac", "", "no/such"] {
        let error = find(unknown).await.unwrap_err();
        assert!(
            matches!(error, RepositoryError::UnknownSnapshot { .. }),
            "{error:?}"
        );
    }
    let volume = bench.request().volume_id;
    snapshots::delete(&bench.repository, &volume, &ids[0])
        .await
        .unwrap();
    assert_eq!(
        find("aa").await.unwrap().snapshot_id,
        ids[1],
        "deleted ones do not count"
    );
    assert!(matches!(
        find("aa-1").await,
        Err(RepositoryError::Deleted { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_decided_once() {
    let bench = Bench::new(true).await;
    let request = bench.request();
    let volume = &request.volume_id;
    bench.try_up(&image(1), request.clone()).await.unwrap();
    let again = bench.try_up(&image(1), request.clone()).await;
    assert!(matches!(
        again,
        Err(RepositoryError::AlreadyCommitted { .. })
    ));
    for _ in 0..2 {
        snapshots::delete(&bench.repository, volume, &request.snapshot_id)
            .await
            .unwrap();
    }
    let again = bench.try_up(&image(1), request.clone()).await;
    assert!(matches!(again, Err(RepositoryError::Deleted { .. })));
    // One that never was is cancelled in advance.
    let other = bench.request();
    let asked = snapshots::status(&bench.repository, volume, &other.snapshot_id).await;
    assert_eq!(asked.unwrap(), None);
    snapshots::delete(&bench.repository, volume, &other.snapshot_id)
        .await
        .unwrap();
    let refused = bench.try_up(&image(1), other).await;
    assert!(matches!(refused, Err(RepositoryError::Deleted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_but_what_belongs_there() {
    let bench = Bench::new(true).await;
    bench.up(&image(1)).await;
    let keys = bench.store.list("", None).await.unwrap().objects;
    let unknown = keys.iter().map(|object| object.key.as_str()).filter(|key| {
        let known = ["keys/", "packs/vol-1/", "snapshots/vol-1/"];
        *key != "repository.json" && !known.iter().any(|prefix| key.starts_with(prefix))
    });
    assert_eq!(unknown.collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused_first() {
    let bench = Bench::new(true).await;
    let before = bench.store.list("", None).await.unwrap().objects.len();
    let mut too_much = bench.request();
    too_much
        .metadata
        .insert("note".to_owned(), "x".repeat(17 << 10));
    let error = bench.try_up(&image(1), too_much).await.unwrap_err();
    assert!(
        matches!(error, RepositoryError::Unstorable { .. }),
        "{error:?}"
    );
    let mut too_small = bench.request();
    too_small.settings.part_size_bytes = 1 << 20;
    let error = bench.try_up(&image(1), too_small).await.unwrap_err();
    assert!(error.to_string().contains("part size"), "{error}");
    let mut beyond = bench.request();
    beyond.extents = Some(vec![0..4096, 8192..(2 << 20)]);
    let error = bench.try_up(&image(1), beyond).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Settings(_)), "{error:?}");
    assert_eq!(
        bench.store.list("", None).await.unwrap().objects.len(),
        before
    );
}
