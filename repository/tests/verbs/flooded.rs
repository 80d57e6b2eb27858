//! Somebody fills the bucket with objects whose names are none of ours: all that was backed up is found and restored.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::{
    Progress, Repository, snapshots,
    store::{ListPage, MemoryStore, ObjectMeta, ObjectStore, PutMode, StoreError},
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::{
    layer::{Layer, Over},
    support::{Bench, key},
};

/// Where the flood is.
const FLOODED: &str = "snapshots/";

/// What all names of the flood start with: they sort before ours.
const STRAY: &str = "snapshots/0/";

/// Pages of a thousand names of a kilobyte each: more than are ever kept.
const PAGES: usize = 300;

/// A bucket with a flood, which takes no room.
#[derive(Debug, Default)]
struct Flooded {
    memory: MemoryStore,
    is_on: AtomicBool,
}

#[async_trait]
impl Layer for Flooded {
    fn inner(&self) -> &dyn ObjectStore {
        &self.memory
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        let page = match from.and_then(|from| from.strip_prefix(STRAY)) {
            Some(rest) => rest[..6].parse::<usize>().unwrap() + 1,
            None if from.is_none() => 0,
            None => PAGES,
        };
        if prefix != FLOODED || page >= PAGES || !self.is_on.load(Ordering::Relaxed) {
            let from = from.filter(|from| !from.starts_with(STRAY));
            return self.memory.list(prefix, from).await;
        }
        let tail = "x".repeat(980);
        let objects: Vec<ObjectMeta> = (0..1000)
            .map(|at| ObjectMeta {
                key: format!("{STRAY}{page:06}{at:03}{tail}"),
                size_bytes: 0,
                modified_at_s: 0,
            })
            .collect();
        let next = objects.last().map(|last| last.key.clone());
        Ok(ListPage { objects, next })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_other_names_keeps_nobody_from_his_snapshots() {
    let image = Image::new(4 << 20).extent(0, 1 << 20, Fill::Text(1));
    let store = Arc::new(Over(Flooded::default()));
    let bench = Bench::on(store.clone(), true).await;
    let manifest = bench.up(&image).await.manifest;
    store.is_on.store(true, Ordering::Relaxed);

    let listed = snapshots::list(&bench.repository).await.unwrap();
    assert_eq!(listed.len(), 1);
    let found = snapshots::find(&bench.repository, manifest.snapshot_id.as_str()).await;
    let restored = bench.down(&found.unwrap()).await;
    assert_eq!(image.first_difference(&restored).unwrap(), None);

    // A verify says it once.
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let settings = VerifySettings::default();
    let report = verify(&bench.repository, None, &settings, &progress, &none).await;
    let problems = report.unwrap().problems;
    let [problem] = problems.as_slice() else {
        panic!("{} problems", problems.len());
    };
    assert!(problem.object.starts_with(STRAY));
    assert!(problem.what.contains("299999 more"), "{}", problem.what);
}

/// No more than a thousand slots are counted; names that are none do not count.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_other_names_hides_no_key_slot() {
    let bench = Bench::new(true).await;
    for stray in 0..1200 {
        let key = format!("keys/0{stray:06}");
        let body = Bytes::from_static(b"x");
        bench
            .store
            .put(&key, body, PutMode::Overwrite)
            .await
            .unwrap();
    }
    Repository::open(bench.store.clone(), Some(key()))
        .await
        .unwrap();
}
