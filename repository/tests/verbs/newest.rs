//! Which snapshot an upload builds on where most records of the volume are tombstones, or cannot be read.

use std::sync::Arc;

use bytes::Bytes;
use stockpot_repository::{
    format::manifest::{Manifest, Reason},
    snapshots,
    store::MemoryStore,
};
use stockpot_test_fixtures::image::{Fill, Image};

use crate::support::Bench;

fn image(version: u64) -> Image {
    Image::new(8 << 20)
        .extent(0, 1 << 20, Fill::Random(1))
        .extent(4 << 20, 64 << 10, Fill::Random(version))
}

/// A bucket whose clock the test sets.
async fn bench() -> (Bench, MemoryStore) {
    let store = MemoryStore::new();
    (Bench::on(Arc::new(store.clone()), true).await, store)
}

/// Ends so many snapshots of the volume that never were.
async fn end_others(bench: &Bench, count: usize) {
    let volume = bench.request().volume_id;
    for _ in 0..count {
        let snapshot = bench.repository.new_snapshot_id();
        snapshots::delete(&bench.repository, &volume, &snapshot)
            .await
            .unwrap();
    }
}

fn base_of(manifest: &Manifest) -> Option<String> {
    let base = manifest.base.as_ref()?;
    Some(base.snapshot_id.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_do_not_hide_the_base() {
    let (bench, store) = bench().await;
    bench.up(&image(1)).await;
    store.set_clock_ahead_s(60);
    let newest = bench.up(&image(2)).await.manifest;
    // As a nightly forget after a day of frequent backups.
    store.set_clock_ahead_s(3600);
    end_others(&bench, 40).await;
    let next = bench.up(&image(3)).await;
    assert_eq!(next.manifest.reason, Reason::Compared);
    assert_eq!(
        base_of(&next.manifest),
        Some(newest.snapshot_id.to_string())
    );
    assert_eq!(next.manifest.chunks.stored, 1);
    assert!(next.adopted_packs == 0 && next.requests < 80, "{next:?}");
    bench.is(&next.manifest, &image(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_manifest_that_cannot_be_read_is_said() {
    let (bench, store) = bench().await;
    let first = bench.up(&image(1)).await.manifest;
    store.set_clock_ahead_s(60);
    let second = bench.up(&image(2)).await.manifest;
    store.tamper(&second.object_key(), Some(Bytes::from_static(b"{}")));
    store.set_clock_ahead_s(120);
    let third = bench.up(&image(3)).await.manifest;
    assert_eq!(third.reason, Reason::Compared);
    assert_eq!(base_of(&third), Some(first.snapshot_id.to_string()));
    let said = format!("{} cannot be read", second.snapshot_id);
    assert!(third.why.contains(&said), "{}", third.why);
    // Alone: a full copy, and the reason is not that there is none.
    for manifest in [&first, &third] {
        snapshots::delete(
            &bench.repository,
            &manifest.volume_id,
            &manifest.snapshot_id,
        )
        .await
        .unwrap();
    }
    let fourth = bench.up(&image(4)).await.manifest;
    assert_eq!(fourth.reason, Reason::Full);
    assert!(fourth.why.starts_with(&said), "{}", fourth.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_for_a_base_ends_and_it_is_said() {
    let (bench, store) = bench().await;
    bench.up(&image(1)).await;
    store.set_clock_ahead_s(60);
    end_others(&bench, 4096).await;
    let next = bench.up(&image(2)).await.manifest;
    assert_eq!((next.reason, base_of(&next)), (Reason::Full, None));
    assert!(next.why.contains("4096 youngest records"), "{}", next.why);
}
