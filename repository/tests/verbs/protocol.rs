//! The rules for writers: what is told in which order, and what is never referred to.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::{
    Progress, RepositoryError,
    format::{
        crypto::Sealer,
        ids::{ObjectId, PackName, VolumeId, condemned_key, marks_key},
        manifest::{Manifest, Reason, now},
        map::{MapReader, PageSource},
        protocol::{BadFrame, Condemned, Mark},
    },
    prune::{self, PruneSettings},
    snapshots,
    store::{ListPage, MemoryStore, ObjectStore, PutMode, StoreError},
    upload::SourceCheck,
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::{
    layer::{Layer, Over},
    support::Bench,
};

const CHUNK: u64 = 64 << 10;

fn image() -> Image {
    Image::new(200 * CHUNK).extent(0, 100 * CHUNK, Fill::Text(1))
}

/// Puts a record into an unsealed repository.
async fn put(bench: &Bench, key: &str, object: Vec<u8>) {
    let body = Bytes::from(object);
    bench
        .store
        .put(key, body, PutMode::Overwrite)
        .await
        .unwrap();
}

fn sealer(bench: &Bench) -> Sealer {
    Sealer::new(bench.repository.id(), None)
}

async fn packs(bench: &Bench) -> Vec<PackName> {
    let page = bench.store.list("packs/", None).await.unwrap();
    let names = page
        .objects
        .iter()
        .map(|object| PackName::parse(&object.key));
    names.collect::<Result<_, _>>().unwrap()
}

async fn problems(bench: &Bench) -> usize {
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let report = verify(&bench.repository, None, &settings, &progress, &none).await;
    report.unwrap().problems.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_a_prune_is_after_is_not_built_on() {
    let bench = Bench::new(false).await;
    bench.up(&image()).await;
    let prune_id = ObjectId::new("prune-1").unwrap();
    let key = condemned_key(&prune_id);
    let condemned = Condemned {
        prune_id,
        packs: packs(&bench).await.into_iter().take(1).collect(),
        created_at: now(),
        tool: "a test".to_owned(),
    };
    let object = sealer(&bench).seal_record(&key, &condemned).unwrap();
    put(&bench, &key, object.bytes).await;
    let second = bench.up(&image()).await.manifest;
    assert_eq!((second.reason, second.base.clone()), (Reason::Full, None));
    assert_eq!(second.chunks.stored, 100);
    // A list that cannot be read could name anything.
    put(&bench, &key, b"{}".to_vec()).await;
    let third = bench.up(&image()).await.manifest;
    assert_eq!(third.reason, Reason::Full);
    bench.store.delete(&key).await.unwrap();
    let fourth = bench.up(&image()).await.manifest;
    assert_eq!((fourth.reason, fourth.chunks.stored), (Reason::Compared, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_base_is_not_built_on() {
    let bench = Bench::new(true).await;
    let first = bench.up(&image()).await.manifest;
    let second = bench.up(&image()).await.manifest;
    snapshots::delete(&bench.repository, &second.volume_id, &second.snapshot_id)
        .await
        .unwrap();
    let third = bench.up(&image()).await.manifest;
    assert_eq!(third.base.unwrap().snapshot_id, first.snapshot_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_not_inherited() {
    let bench = Bench::new(false).await;
    let first = bench.up(&image()).await.manifest;
    // The map's page that has the first chunks.
    let root = first.map.clone().unwrap();
    let key = root.pack.object_key();
    let good = bench.store.get(&key, usize::MAX).await.unwrap();
    let mut bad = good.to_vec();
    bad[40] ^= 1;
    put(&bench, &key, bad).await;
    let second = bench.up(&image()).await.manifest;
    assert_eq!(second.chunks.stored, 64, "a leaf's chunks are stored again");
    let restored = bench.down(&second).await;
    assert_eq!(image().first_difference(&restored).unwrap(), None);
    put(&bench, &key, good.to_vec()).await;
    assert_eq!(problems(&bench).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn marked_frames_are_stored_again() {
    let bench = Bench::new(false).await;
    let first = bench.up(&image()).await.manifest;
    let bad = locations(&bench, &first).await;
    let verify_id = ObjectId::new("verify-1").unwrap();
    let key = marks_key(&verify_id);
    let mark = Mark {
        verify_id,
        bad: bad.into_iter().take(3).collect(),
        found_at: now(),
        tool: "a test".to_owned(),
    };
    let object = sealer(&bench).seal_record(&key, &mark).unwrap();
    put(&bench, &key, object.bytes).await;
    let second = bench.up(&image()).await.manifest;
    assert_eq!(second.chunks.stored, 3);
    assert_eq!(problems(&bench).await, 0);
}

/// Fetches pages one by one, straight from the store.
struct Direct(Arc<dyn ObjectStore>, Sealer);

#[async_trait]
impl PageSource for Direct {
    type Error = stockpot_repository::format::FormatError;

    async fn pages(
        &self,
        kind: stockpot_repository::format::frame::FrameKind,
        wanted: &[stockpot_repository::format::location::Location],
    ) -> Vec<Result<Vec<u8>, Self::Error>> {
        let mut pages = Vec::new();
        for at in wanted {
            let key = at.pack.object_key();
            let frame = self.0.get_range(&key, at.range()).await.unwrap();
            let mut decoder = stockpot_repository::format::frame::FrameDecoder::new().unwrap();
            pages.push(decoder.decode(&self.1.pack(&at.pack), &frame, kind));
        }
        pages
    }
}

async fn locations(bench: &Bench, manifest: &Manifest) -> Vec<BadFrame> {
    let source = Direct(bench.store.clone(), sealer(bench));
    let root = manifest.map.as_ref();
    let total = manifest.chunks.total;
    let mut map = MapReader::new(sealer(bench), source, root, total).unwrap();
    let mut frames = Vec::new();
    while let Some(leaf) = map.next().await {
        frames.extend(leaf.unwrap().chunks().map(|(_, at)| BadFrame {
            pack: (*at.pack).clone(),
            offset: at.offset,
            hash: at.hash,
        }));
    }
    frames
}

/// Writes down what a store is asked.
struct Journal {
    inner: MemoryStore,
    asked: Mutex<Vec<String>>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

impl Journal {
    /// Only the first folder of a key.
    fn note(&self, what: &str, key: &str) {
        let folder = key.split_inclusive('/').next().unwrap_or_default();
        self.asked.lock().unwrap().push(format!("{what} {folder}"));
    }
}

#[async_trait]
impl Layer for Journal {
    fn inner(&self) -> &dyn ObjectStore {
        &self.inner
    }
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let what = match mode {
            PutMode::IfAbsent => "put-if-absent",
            PutMode::Overwrite => "put",
        };
        self.note(what, key);
        self.inner.put(key, body, mode).await
    }
    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.note("get", key);
        self.inner.get(key, bytes_max).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.note("get", key);
        self.inner.get_range(key, range).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.note("delete", key);
        self.inner.delete(key).await
    }
    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        self.note("list", prefix);
        self.inner.list(prefix, from).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_asks_in_the_order_that_keeps_prunes_safe() {
    let journal = Arc::new(Over(Journal {
        inner: MemoryStore::new(),
        asked: Mutex::default(),
    }));
    let bench = Bench::on(journal.clone(), true).await;
    bench.up(&image()).await;
    journal.asked.lock().unwrap().clear();
    bench.up(&image().extent(5, 1, Fill::Byte(3))).await;
    let asked = journal.asked.lock().unwrap().clone();
    let first = |what: &str| asked.iter().position(|line| line == what).unwrap();
    let last = |what: &str| asked.iter().rposition(|line| line == what).unwrap();
    let order = [
        first("put intents/"),
        first("list condemned/"),
        // The base's manifest once more.
        last("get snapshots/"),
        first("put packs/"),
        last("put packs/"),
        first("put-if-absent snapshots/"),
        first("delete intents/"),
    ];
    assert!(order.is_sorted(), "{order:?} of {asked:#?}");
    let puts: BTreeSet<&str> = asked
        .iter()
        .filter(|line| line.starts_with("put"))
        .map(String::as_str)
        .collect();
    assert_eq!(
        puts.into_iter().collect::<Vec<_>>(),
        ["put intents/", "put packs/", "put-if-absent snapshots/"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_became_void_is_not_committed() {
    let bench = Bench::new(true).await;
    let mut request = bench.request();
    request.source_is_fixed = true;
    let mut void = request.clone();
    void.source_check = Some(SourceCheck::new(async || Err::<(), _>("it overflowed")));
    let error = bench.try_up(&image(), void).await.unwrap_err();
    assert!(
        matches!(&error, RepositoryError::SourceVoid { source } if source.to_string() == "it overflowed"),
        "{error:?}"
    );
    let listed = async |prefix| bench.store.list(prefix, None).await.unwrap().objects.len();
    assert_eq!(
        (listed("snapshots/").await, listed("intents/").await),
        (0, 1)
    );
    // A prune knows whose the packs are.
    let none = CancellationToken::new();
    let settings = PruneSettings::default();
    let planned = prune::plan(&bench.repository, &settings, &none)
        .await
        .unwrap();
    assert_eq!(planned.spared.packs, listed("packs/").await as u64);
    // And what was read then is worth nothing.
    request.source_check = Some(SourceCheck::new(async || Ok::<(), String>(())));
    let done = bench.try_up(&image(), request).await.unwrap();
    assert_eq!((done.adopted_packs, done.read_bytes), (0, 100 * CHUNK));
    assert_eq!(listed("intents/").await, 0);
    let planned = prune::plan(&bench.repository, &settings, &none)
        .await
        .unwrap();
    assert!(planned.to_delete.packs > 0);
}

/// Intents are named by the snapshot alone, and a caller may give two volumes' snapshots one id.
#[tokio::test(flavor = "multi_thread")]
async fn the_intent_of_another_volumes_upload_stays() {
    let bench = Bench::new(true).await;
    let mut request = bench.request();
    let mut other = request.clone();
    other.volume_id = VolumeId::new("vol-2").unwrap();
    let check = async || Err::<(), _>("so that the intent stays");
    other.source_check = Some(SourceCheck::new(check));
    let left = async || {
        bench
            .store
            .list("intents/", None)
            .await
            .unwrap()
            .objects
            .len()
    };
    bench.try_up(&image(), other.clone()).await.unwrap_err();
    assert_eq!(left().await, 1);
    let (volume, snapshot) = (request.volume_id.clone(), request.snapshot_id.clone());
    request.source_check = None;
    bench.try_up(&image(), request).await.unwrap();
    assert_eq!(left().await, 1);
    snapshots::delete(&bench.repository, &volume, &snapshot)
        .await
        .unwrap();
    assert_eq!(left().await, 1);
    snapshots::delete(&bench.repository, &other.volume_id, &snapshot)
        .await
        .unwrap();
    assert_eq!(left().await, 0);
}
