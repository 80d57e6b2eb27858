//! A snapshot that is deleted and pruned in the middle of a verify is not damage, whenever that happens; what is bad stays bad.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use stockpot_repository::{
    Progress, Repository,
    format::{ids::VolumeId, manifest::Manifest},
    prune::{self, PruneSettings},
    snapshots,
    store::{ListPage, MemoryStore, ObjectStore, PutMode, StoreError},
    verify::{VerifyReport, VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::{
    layer::{Layer, Over},
    support::{Bench, key},
};

const CHUNK: u64 = 64 << 10;

type Event = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// Lets something happen before one of the reads, counted from 0.
struct Meanwhile {
    inner: MemoryStore,
    event: Mutex<(u64, Option<Event>)>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Meanwhile {
    async fn pass(&self) {
        let event = {
            let (left, event) = &mut *self.event.lock().unwrap();
            match left.checked_sub(1) {
                Some(fewer) => {
                    *left = fewer;
                    None
                }
                None => event.take(),
            }
        };
        if let Some(event) = event {
            event().await;
        }
    }

    fn has_happened(&self) -> bool {
        self.event.lock().unwrap().1.is_none()
    }
}

#[async_trait]
impl Layer for Meanwhile {
    fn inner(&self) -> &dyn ObjectStore {
        &self.inner
    }
    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.pass().await;
        self.inner.get(key, bytes_max).await
    }
    async fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Bytes, StoreError> {
        self.pass().await;
        self.inner.get_range(key, range).await
    }
    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        self.pass().await;
        self.inner.list(prefix, from).await
    }
}

async fn forget_and_prune(repository: Repository, manifest: Manifest) {
    snapshots::delete(&repository, &manifest.volume_id, &manifest.snapshot_id)
        .await
        .unwrap();
    let none = CancellationToken::new();
    let planned = prune::plan(&repository, &PruneSettings::default(), &none).await;
    let report = prune::execute(planned.unwrap()).await.unwrap();
    assert!(report.deleted.packs > 0, "{report:?}");
}

/// As a prune would do it, if it could.
async fn forget_and_lose(repository: Repository, store: MemoryStore, manifest: Manifest) {
    snapshots::delete(&repository, &manifest.volume_id, &manifest.snapshot_id)
        .await
        .unwrap();
    let packs = format!("packs/{}/", manifest.volume_id);
    for pack in store.list(&packs, None).await.unwrap().objects {
        store.delete(&pack.key).await.unwrap();
    }
}

/// Verifies all, while this snapshot goes before the `k`-th read; `None` if the verify had no more than `k`.
async fn verified(store: &MemoryStore, going: &Manifest, k: u64) -> Option<VerifyReport> {
    let behind = Repository::open(Arc::new(store.clone()), Some(key())).await;
    let (behind, going) = (behind.unwrap(), going.clone());
    let event: Event = Box::new(move || Box::pin(forget_and_prune(behind, going)));
    verified_while(store, event, k).await
}

/// Verifies all, while this happens before the `k`-th read; `None` if the verify had no more than `k`.
async fn verified_while(store: &MemoryStore, event: Event, k: u64) -> Option<VerifyReport> {
    let layer = Arc::new(Over(Meanwhile {
        inner: store.clone(),
        event: Mutex::new((u64::MAX, Some(event))),
    }));
    let repository = Repository::open(layer.clone(), Some(key())).await.unwrap();
    layer.event.lock().unwrap().0 = k;
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let report = verify(&repository, None, &settings, &progress, &none).await;
    layer.has_happened().then(|| report.unwrap())
}

/// Two snapshots of their own data, of which the second is not the first's child.
async fn two(bench: &Bench) -> [Manifest; 2] {
    let image = |seed| Image::new(80 * CHUNK).extent(0, 3 * CHUNK, Fill::Random(seed));
    let mut second = bench.request();
    second.base = stockpot_repository::upload::BaseChoice::Nothing;
    let first = bench.up(&image(1)).await.manifest;
    let second = bench.try_up(&image(2), second).await.unwrap().manifest;
    [first, second]
}

async fn marks(store: &MemoryStore) -> usize {
    store.list("marks/", None).await.unwrap().objects.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_goes_while_it_is_verified_is_no_damage() {
    let mut left_out = 0;
    for k in 0.. {
        let store = MemoryStore::new();
        let bench = Bench::on(Arc::new(store.clone()), true).await;
        let [going, staying] = two(&bench).await;
        let Some(report) = verified(&store, &going, k).await else {
            break;
        };
        assert_eq!(report.problems, [], "before read {k}");
        assert_eq!(marks(&store).await, 0, "before read {k}");
        assert!(report.snapshots.contains(&staying.snapshot_id));
        if let [ended] = report.ended.as_slice() {
            assert_eq!(*ended, going.snapshot_id);
            assert_eq!(report.snapshots, [staying.snapshot_id]);
            left_out += 1;
        }
    }
    assert!(left_out > 5, "{left_out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bad_in_another_one_is_told_and_marked_all_the_same() {
    let mut left_out = 0;
    for k in 0.. {
        let store = MemoryStore::new();
        let bench = Bench::on(Arc::new(store.clone()), true).await;
        let [going, staying] = two(&bench).await;
        let prefix = format!("packs/vol-1/{}/", staying.snapshot_id);
        let page = store.list(&prefix, None).await.unwrap();
        let pack = page.objects.iter().max_by_key(|pack| pack.size_bytes);
        let pack = &pack.unwrap().key;
        let mut bad = store.get(pack, usize::MAX).await.unwrap().to_vec();
        bad[5000] ^= 1;
        store
            .put(pack, Bytes::from(bad), PutMode::Overwrite)
            .await
            .unwrap();
        let Some(report) = verified(&store, &going, k).await else {
            break;
        };
        let [problem] = report.problems.as_slice() else {
            panic!("before read {k}: {:?}", report.problems);
        };
        assert_eq!(
            (&problem.object, problem.snapshots.as_slice()),
            (pack, [staying.snapshot_id].as_slice())
        );
        assert_eq!((report.marked, marks(&store).await), (1, 1));
        left_out += report.ended.len();
    }
    assert!(left_out > 5, "{left_out}");
}

/// Whoever names snapshots himself may give one name to those of two volumes: each stands for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_goes_excuses_no_other_of_its_name() {
    for is_damaged in [false, true] {
        let mut left_out = 0;
        for k in 0.. {
            let store = MemoryStore::new();
            let bench = Bench::on(Arc::new(store.clone()), true).await;
            let image = |seed| Image::new(80 * CHUNK).extent(0, 3 * CHUNK, Fill::Random(seed));
            let going = bench.up(&image(1)).await.manifest;
            let mut other = bench.request();
            other.volume_id = VolumeId::new("vol-2").unwrap();
            other.snapshot_id = going.snapshot_id.clone();
            let staying = bench.try_up(&image(2), other).await.unwrap().manifest;
            if is_damaged {
                store.tamper(&staying.object_key(), Some(Bytes::from_static(b"{}")));
            }
            let behind = bench.repository.clone();
            let event: Event = Box::new({
                let (store, going) = (store.clone(), going.clone());
                move || Box::pin(forget_and_lose(behind, store, going))
            });
            let Some(report) = verified_while(&store, event, k).await else {
                break;
            };
            let told: Vec<_> = report
                .problems
                .iter()
                .map(|problem| &problem.object)
                .collect();
            match is_damaged {
                true => assert_eq!(told, [&staying.object_key()], "before read {k}"),
                false => assert!(told.is_empty(), "before read {k}: {told:?}"),
            }
            left_out += report.ended.len();
        }
        assert!(left_out > 5, "{left_out}");
    }
}
