//! Uploads that were broken off: what they left is used by the next one, and only as far as it is right.

use std::sync::{Arc, atomic::Ordering};

use stockpot_repository::{
    Progress, RepositoryError,
    format::{
        crypto::Sealer,
        ids::{ObjectId, PackName, condemned_key, snapshot_key},
        manifest::{Manifest, now},
        protocol::Condemned,
    },
    snapshots,
    store::PutMode,
    upload::{BaseChoice, UploadReport, UploadRequest},
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::{
    faults::{Faulty, When},
    files::small_settings,
    layer::Over,
    support::Bench,
};

const CHUNK: u64 = 64 << 10;

/// Some four packs of incompressible data, and holes.
fn image() -> Image {
    Image::new(40 << 20)
        .extent(0, 12 << 20, Fill::Random(1))
        .extent(20 << 20, 13 << 20, Fill::Random(2))
}

struct Broken {
    bench: Bench,
    store: Arc<Over<Faulty>>,
}

impl Broken {
    async fn new(sealed: bool) -> Self {
        let store = Arc::new(Faulty::new(When::Before));
        Self {
            bench: Bench::on(store.clone(), sealed).await,
            store,
        }
    }

    fn request(&self) -> UploadRequest {
        let mut request = self.bench.request();
        request.settings = small_settings();
        request
    }

    /// Uploads until some packs are whole, then the bucket is gone.
    async fn break_off(&self, image: &Image, request: &UploadRequest, packs: usize) {
        self.store
            .packs_left
            .store(i64::try_from(packs).unwrap(), Ordering::SeqCst);
        let done = self.bench.try_up(image, request.clone()).await;
        self.store.packs_left.store(-1, Ordering::SeqCst);
        assert!(matches!(done, Err(RepositoryError::Store(_))), "{done:?}");
    }

    async fn up(&self, image: &Image, request: &UploadRequest) -> UploadReport {
        self.bench.try_up(image, request.clone()).await.unwrap()
    }

    /// Packs in the bucket and their size in bytes.
    async fn left(&self) -> (u64, u64) {
        let objects = self.bench.store.list("packs/", None).await.unwrap().objects;
        let bytes = objects.iter().map(|object| object.size_bytes).sum();
        (objects.len() as u64, bytes)
    }

    async fn is(&self, manifest: &Manifest, image: &Image) {
        let restored = self.bench.down(manifest).await;
        assert_eq!(image.first_difference(&restored).unwrap(), None);
        let settings = VerifySettings {
            read_data: true,
            ..VerifySettings::default()
        };
        let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
        let report = verify(&self.bench.repository, None, &settings, &progress, &none).await;
        assert_eq!(report.unwrap().problems, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_sends_what_the_broken_one_did_not() {
    for sealed in [false, true] {
        let broken = Broken::new(sealed).await;
        broken.break_off(&image(), &broken.request(), 2).await;
        let (packs, bytes) = broken.left().await;
        assert!(packs >= 2);
        // Another snapshot of the same volume: its content may be another, so it is read.
        let second = broken.up(&image(), &broken.request()).await;
        assert_eq!((second.adopted_packs, second.adopted_bytes), (packs, bytes));
        assert_eq!(second.read_bytes, 25 << 20);
        assert!(
            second.manifest.stored_bytes <= (26 << 20) - bytes,
            "{second:?}"
        );
        broken.is(&second.manifest, &image()).await;
        // What the second one has is the base now: nothing is adopted any more.
        let third = broken.up(&image(), &broken.request()).await;
        assert_eq!((third.adopted_packs, third.packs), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_attempt_at_a_fixed_source_does_not_even_read_it() {
    let broken = Broken::new(true).await;
    let mut request = broken.request();
    request.source_is_fixed = true;
    broken.break_off(&image(), &request, 2).await;
    broken.break_off(&image(), &request, 1).await;
    let (packs, bytes) = broken.left().await;
    assert!(packs >= 3);
    let done = broken.up(&image(), &request).await;
    assert_eq!(done.adopted_packs, packs);
    // Packs hold little but plain data here.
    assert!(done.read_bytes <= (26 << 20) - bytes, "{done:?}");
    assert!(done.manifest.stored_bytes <= (26 << 20) - bytes, "{done:?}");
    broken.is(&done.manifest, &image()).await;
    assert_eq!(
        broken
            .bench
            .store
            .list("intents/", None)
            .await
            .unwrap()
            .objects,
        []
    );
}

/// A prune gave the broken attempt up just before the intent was there, and has taken its list away again: it may be about
/// to delete the packs.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_meanwhile_is_sent_again() {
    let broken = Broken::new(true).await;
    let request = broken.request();
    broken.break_off(&image(), &request, 2).await;
    let (volume, dead) = (&request.volume_id, &request.snapshot_id);
    let (key, store) = (snapshot_key(volume, dead), &broken.bench.store);
    snapshots::delete(&broken.bench.repository, volume, dead)
        .await
        .unwrap();
    let tombstone = store.get(&key, 1 << 20).await.unwrap();
    // The deletion took the intent away as well: so it is broken off once more, with the tombstone yet to come.
    store.delete(&key).await.unwrap();
    broken.break_off(&image(), &request, 2).await;
    *broken.store.with_intent.lock().unwrap() = Some((key, tombstone));
    let done = broken.up(&image(), &broken.request()).await;
    assert_eq!(done.adopted_packs, 0);
    broken.is(&done.manifest, &image()).await;
}

/// Deleted while it was uploaded, and nothing was new: no intent is left for a prune to wonder at.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_of_what_sent_nothing_leaves_no_intent() {
    let broken = Broken::new(true).await;
    broken.up(&image(), &broken.request()).await;
    let request = broken.request();
    let (volume, refused) = (&request.volume_id, &request.snapshot_id);
    let (key, store) = (snapshot_key(volume, refused), &broken.bench.store);
    snapshots::delete(&broken.bench.repository, volume, refused)
        .await
        .unwrap();
    let tombstone = store.get(&key, 1 << 20).await.unwrap();
    store.delete(&key).await.unwrap();
    let packs = store.list("packs/", None).await.unwrap().objects;
    *broken.store.with_intent.lock().unwrap() = Some((key, tombstone));
    let error = broken.bench.try_up(&image(), request.clone()).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, RepositoryError::Deleted { .. }),
        "{error:?}"
    );
    let after = store.list("packs/", None).await.unwrap().objects;
    assert_eq!(after, packs, "nothing was sent");
    let intents = store.list("intents/", None).await.unwrap().objects;
    assert_eq!(intents, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_broken_attempt_is_sent() {
    let broken = Broken::new(false).await;
    broken.break_off(&image(), &broken.request(), 2).await;
    let (packs, _) = broken.left().await;
    let changed = image()
        .extent(0, 1, Fill::Byte(7))
        .extent(5 * CHUNK, CHUNK, Fill::Zero)
        .extent((20 << 20) + 9, 3, Fill::Byte(8));
    let second = broken.up(&changed, &broken.request()).await;
    assert_eq!(second.adopted_packs, packs);
    broken.is(&second.manifest, &changed).await;
}

/// Of an attempt on a base a pack does not say which chunks became holes: what it vouches for must not bring them back.
#[tokio::test(flavor = "multi_thread")]
async fn holes_do_not_fill_again() {
    for told in [false, true] {
        let broken = Broken::new(true).await;
        let base = broken.up(&image(), &broken.request()).await.manifest;
        let changed = (0..60).fold(image(), |image, i| {
            let at = i * 3 * CHUNK;
            let image = image.extent(at, CHUNK, Fill::Zero);
            image.extent(at + CHUNK, CHUNK, Fill::Random(100 + i))
        });
        let changed = changed.extent(20 << 20, 11 << 20, Fill::Random(3));
        let mut request = broken.request();
        request.source_is_fixed = true;
        if told {
            request.changes = Some(stockpot_repository::upload::Changes {
                since: (&base).into(),
                ranges: std::iter::once(0..33 << 20).collect(),
            });
        }
        broken.break_off(&changed, &request, 1).await;
        let done = broken.up(&changed, &request).await;
        assert!(
            done.adopted_packs >= 1 && done.read_bytes < 25 << 20,
            "{done:?}"
        );
        broken.is(&done.manifest, &changed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_copy_and_a_pruned_attempt_adopt_nothing() {
    let broken = Broken::new(false).await;
    broken.break_off(&image(), &broken.request(), 2).await;
    let mut full = broken.request();
    full.base = BaseChoice::Nothing;
    let first = broken.up(&image(), &full).await;
    assert_eq!(first.adopted_packs, 0);
    broken.is(&first.manifest, &image()).await;

    let broken = Broken::new(false).await;
    broken.break_off(&image(), &broken.request(), 2).await;
    let objects = broken
        .bench
        .store
        .list("packs/", None)
        .await
        .unwrap()
        .objects;
    let prune_id = ObjectId::new("prune-1").unwrap();
    let key = condemned_key(&prune_id);
    let condemned = Condemned {
        prune_id,
        packs: vec![PackName::parse(&objects[0].key).unwrap()],
        created_at: now(),
        tool: "a test".to_owned(),
    };
    let sealer = Sealer::new(broken.bench.repository.id(), None);
    let object = sealer.seal_record(&key, &condemned).unwrap();
    let put = broken
        .bench
        .store
        .put(&key, object.bytes.into(), PutMode::Overwrite);
    put.await.unwrap();
    let second = broken.up(&image(), &broken.request()).await;
    assert_eq!(second.adopted_packs, 0);
    broken.is(&second.manifest, &image()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_alive_after_all_is_not_harmed() {
    let broken = Broken::new(true).await;
    let mut first = broken.request();
    first.source_is_fixed = true;
    broken.break_off(&image(), &first, 2).await;
    let second = broken.up(&image(), &broken.request()).await;
    assert!(second.adopted_packs > 0);
    // The first goes on, with what it has: its intent is still there.
    let first = broken.up(&image(), &first).await;
    broken.is(&first.manifest, &image()).await;
    broken.is(&second.manifest, &image()).await;
}
