//! Somebody with our credentials is at work while an upload is under way: in the last moment before it would commit, packs are gone, or others.

use std::sync::Arc;

use bytes::Bytes;
use stockpot_repository::{
    RepositoryError, snapshots,
    store::{MemoryStore, PutMode},
    upload::{SourceCheck, UploadRequest},
};
use stockpot_test_fixtures::image::{Fill, Image};

use crate::{
    keeping::Keeping,
    lock_memory::{as_first_written, bench, image},
    locks::{policy, up},
    support::Bench,
};

/// The request, with something done after the last pack and before the commit.
fn then(bench: &Bench, act: impl Fn() + Send + Sync + 'static) -> UploadRequest {
    let mut request = bench.request();
    request.source_check = Some(SourceCheck::new(move || {
        act();
        async { Ok::<(), String>(()) }
    }));
    request
}

fn packs(memory: &MemoryStore) -> Vec<String> {
    let keys = memory.keys().into_iter();
    keys.filter(|key| key.starts_with("packs/")).collect()
}

async fn is_restored(bench: &Bench, image: &Image, id: &str) {
    let manifest = snapshots::find(&bench.repository, id).await.unwrap();
    let restored = bench.down(&manifest).await;
    assert_eq!(image.first_difference(&restored).unwrap(), None);
}

fn changed() -> Image {
    Image::new(2 << 20)
        .extent(0, 200_000, Fill::Random(3))
        .extent(1 << 20, 65_536, Fill::Random(4))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_without_a_pack_that_it_needs() {
    // Of its own, or of its base; gone, or shorter.
    for (of_base, cut) in [(false, false), (true, false), (false, true), (true, true)] {
        let memory = MemoryStore::new();
        let bench = Bench::on(Arc::new(memory.clone()), true).await;
        let base = packs_after(&bench, &memory).await;
        let store = memory.clone();
        let request = then(&bench, move || {
            let victim = packs(&store)
                .into_iter()
                .filter(|key| base.contains(key) == of_base)
                .max_by_key(|key| store.peek(key).map(|pack| pack.len()))
                .unwrap();
            let shorter = store.peek(&victim).map(|pack| pack.slice(1..));
            store.tamper(&victim, shorter.filter(|_| cut));
        });
        let id = request.snapshot_id.clone();
        let error = bench.try_up(&changed(), request).await.unwrap_err();
        assert!(
            matches!(error, RepositoryError::PacksGone { others: 0, .. }),
            "{error:?}"
        );
        let status = snapshots::status(&bench.repository, &bench.request().volume_id, &id).await;
        assert_eq!(status.unwrap(), Some(snapshots::Status::Uploading));
        // The next one sends what is missing, and is whole.
        let again = bench.up(&changed()).await.manifest;
        is_restored(&bench, &changed(), again.snapshot_id.as_str()).await;
    }
}

async fn packs_after(bench: &Bench, memory: &MemoryStore) -> Vec<String> {
    bench.up(&image()).await;
    packs(memory)
}

/// Of the size that is listed, and it may even end as it should.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_in_the_place_of_a_pack_gets_no_lock() {
    for sealed in [true, false] {
        let (bench, keeping) = bench(sealed).await;
        let thief = keeping.clone();
        let mut request = then(&bench, move || {
            let victim = packs(&thief.memory)
                .into_iter()
                .max_by_key(|key| thief.memory.peek(key).map(|pack| pack.len()));
            let victim = victim.unwrap();
            let mut junk = thief.memory.peek(&victim).unwrap().to_vec();
            junk[100..1000].fill(7);
            thief.swap(&victim, junk.into());
        });
        request.settings.lock = Some(policy());
        let error = bench.try_up(&image(), request).await.unwrap_err();
        assert!(
            matches!(error, RepositoryError::PacksGone { .. }),
            "{error:?}"
        );
        assert_eq!(bench.listed("snapshots/").await, 0);
    }
}

/// Of others' packs nobody knows the version: they end as a pack does, or are not locked.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_in_the_place_of_a_pack_of_the_base_gets_no_lock() {
    let (bench, keeping) = bench(true).await;
    let base = up(&bench, &image(), None).await.manifest;
    let victim = packs(&keeping.memory)
        .into_iter()
        .max_by_key(|key| keeping.memory.peek(key).map(|pack| pack.len()));
    let victim = victim.unwrap();
    let length = keeping.memory.peek(&victim).unwrap().len();
    let mut request = bench.request();
    request.settings.lock = Some(policy());
    let thief = keeping.clone();
    request.source_check = Some(SourceCheck::new(move || {
        thief.swap(&victim, vec![7; length].into());
        async { Ok::<(), String>(()) }
    }));
    let error = bench.try_up(&image(), request).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Store(_)), "{error:?}");
    assert_eq!(bench.listed("snapshots/").await, 1);
    assert!(base.lock.is_none());
}

impl Bench {
    async fn listed(&self, prefix: &str) -> usize {
        self.store.list(prefix, None).await.unwrap().objects.len()
    }
}

fn slot(keeping: &Keeping) -> String {
    let mut keys = keeping.memory.keys().into_iter();
    keys.find(|key| key.starts_with("keys/")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_that_opened_the_repository_is_locked_though_it_is_hidden() {
    let (bench, keeping) = bench(true).await;
    bench.store.delete(&slot(&keeping)).await.unwrap();
    let locked = up(&bench, &image(), Some(policy())).await.manifest;
    keeping.rob();
    let bench = as_first_written(bench, true).await;
    is_restored(&bench, &image(), locked.snapshot_id.as_str()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_with_locks_that_no_slot_opens() {
    for is_replaced in [true, false] {
        let (bench, keeping) = bench(true).await;
        let slot = slot(&keeping);
        if is_replaced {
            // It reads as a slot, and opens nothing.
            let text = keeping.memory.peek(&slot).unwrap();
            let mut text = String::from_utf8(text.to_vec()).unwrap();
            text.insert(text.len() - 1, ' ');
            keeping.swap(&slot, Bytes::from(text));
        } else {
            keeping.take_away(&slot);
        }
        let mut request = bench.request();
        request.settings.lock = Some(policy());
        let error = bench.try_up(&image(), request).await.unwrap_err();
        let RepositoryError::Inconsistent { object, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*object, slot);
        assert_eq!(bench.listed("snapshots/").await, 0);
    }
}

/// A copy has the manifests, which say that all is locked, and no lock.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_base_only_says_to_be_locked_is_locked_anew() {
    for sealed in [true, false] {
        let (bench, keeping) = bench(sealed).await;
        up(&bench, &image(), Some(policy())).await;
        keeping.unlock();
        let locked = up(&bench, &image(), Some(policy())).await.manifest;
        assert_eq!(locked.chunks.stored, 0, "it builds on what is there");
        keeping.rob();
        let bench = as_first_written(bench, sealed).await;
        is_restored(&bench, &image(), locked.snapshot_id.as_str()).await;
    }
}

/// The intent tells the name of the manifest before it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_found_between_any_number_of_others() {
    let (bench, keeping) = bench(true).await;
    let mut request = bench.request();
    request.settings.lock = Some(policy());
    let key = format!("snapshots/vol-1/{}.json", request.snapshot_id);
    let crowd = async |count: usize| {
        for _ in 0..count {
            let body = Bytes::from_static(b"coins");
            let put = bench.store.put(&key, body, PutMode::Overwrite);
            put.await.unwrap();
        }
        bench.store.delete(&key).await.unwrap();
    };
    crowd(1100).await;
    let locked = bench.try_up(&image(), request).await.unwrap().manifest;
    crowd(10).await;
    let bench = as_first_written(bench, true).await;
    is_restored(&bench, &image(), locked.snapshot_id.as_str()).await;
    drop(keeping);
}

/// Its index is sound, and its chunks are not: with a lock nobody could take it away.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_attempt_left_is_read_before_it_is_locked() {
    let (bench, keeping) = bench(true).await;
    let first = packs_of_failed(&bench, &keeping, bench.request()).await;
    let victim = first.iter().max_by_key(|(_, body)| body.len()).unwrap();
    let mut junk = victim.1.to_vec();
    junk[100..1000].fill(7);
    keeping.swap(&victim.0, junk.into());
    let mut request = bench.request();
    request.settings.lock = Some(policy());
    let done = bench.try_up(&image(), request).await.unwrap();
    assert!(done.manifest.chunks.stored > 0, "it is sent again");
    keeping.rob();
    let bench = as_first_written(bench, true).await;
    is_restored(&bench, &image(), done.manifest.snapshot_id.as_str()).await;
}

/// What a broken-off attempt left. Its intent does not say that it is void: it was killed.
async fn packs_of_failed(
    bench: &Bench,
    keeping: &Keeping,
    request: UploadRequest,
) -> Vec<(String, Bytes)> {
    let intent = Arc::new(std::sync::Mutex::new(None));
    let (noted, memory) = (intent.clone(), keeping.memory.clone());
    let mut request = request;
    request.source_check = Some(SourceCheck::new(move || {
        let mut keys = memory.keys().into_iter();
        let key = keys.find(|key| key.starts_with("intents/")).unwrap();
        *noted.lock().unwrap() = memory.peek(&key).map(|body| (key, body));
        async { Err::<(), _>("broken off") }
    }));
    bench.try_up(&image(), request).await.unwrap_err();
    let (key, body) = intent.lock().unwrap().take().unwrap();
    bench
        .store
        .put(&key, body, PutMode::Overwrite)
        .await
        .unwrap();
    let body = |key: String| keeping.memory.peek(&key).map(|body| (key, body));
    packs(&keeping.memory)
        .into_iter()
        .filter_map(body)
        .collect()
}
