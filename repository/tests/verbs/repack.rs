//! Packs of which little is needed: later snapshots refer to them no longer, and a prune gets their room back.

use std::{ops::Range, sync::atomic::Ordering, time::Duration};

use stockpot_repository::{
    RepositoryError, UploadSettings,
    format::manifest::{Manifest, Reason},
    prune::{PruneSettings, execute, plan},
    snapshots,
    upload::{UploadReport, UploadRequest},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::{
    faults::{Faulty, When},
    files::small_settings,
    incremental::one,
    support::Bench,
};

const CHUNK: u64 = 64 << 10;
const MIB: u64 = 1 << 20;
/// Chunks of data in the first image: four packs.
const CHUNKS: u64 = 320;

/// Data in a large volume.
fn first_image() -> Image {
    Image::new(1 << 30).extent(0, CHUNKS * CHUNK, Fill::Random(1))
}

/// Of every eight chunks one is as it was.
fn changed_ranges() -> Vec<Range<u64>> {
    let ranges = (0..CHUNKS / 8).map(|i| (i * 8 + 1) * CHUNK..(i * 8 + 8) * CHUNK);
    ranges.collect()
}

fn second_image() -> Image {
    let ranges = changed_ranges().into_iter();
    ranges
        .zip(100..)
        .fold(first_image(), |image, (range, seed)| {
            image.extent(range.start, range.end - range.start, Fill::Random(seed))
        })
}

/// What the second image has of the first one, in bytes.
const OLD_BYTES: u64 = CHUNKS / 8 * CHUNK;

/// A repository whose newest snapshot needs an eighth of the packs of the one before.
struct Sparse {
    bench: Bench,
    first: Manifest,
    second: Manifest,
}

impl Sparse {
    async fn new(bench: Bench) -> Self {
        let mut request = bench.request();
        request.settings = small_settings();
        let first = bench
            .try_up(&first_image(), request)
            .await
            .unwrap()
            .manifest;
        let mut request = bench.told(&first, changed_ranges());
        request.settings = small_settings();
        let second = bench.try_up(&second_image(), request).await.unwrap();
        assert_eq!(
            (second.repacked_packs, second.manifest.reason),
            (0, Reason::Incremental)
        );
        let second = second.manifest;
        Self {
            bench,
            first,
            second,
        }
    }

    fn told(&self, since: &Manifest, ranges: Vec<Range<u64>>) -> UploadRequest {
        let mut request = self.bench.told(since, ranges);
        request.settings = small_settings();
        request
    }

    fn compared(&self) -> UploadRequest {
        let mut request = self.bench.request();
        request.settings = small_settings();
        request
    }

    async fn up(&self, image: &Image, request: UploadRequest) -> UploadReport {
        self.bench.try_up(image, request).await.unwrap()
    }

    /// Deletes all snapshots but one, prunes, and says how many bytes of packs are left.
    async fn only(&self, kept: &Manifest) -> u64 {
        delete_all_but(&self.bench, kept).await;
        prune(&self.bench).await
    }
}

async fn delete_all_but(bench: &Bench, kept: &Manifest) {
    for summary in snapshots::list(&bench.repository).await.unwrap() {
        if summary.snapshot_id != kept.snapshot_id {
            let (volume, snapshot) = (&kept.volume_id, &summary.snapshot_id);
            snapshots::delete(&bench.repository, volume, snapshot)
                .await
                .unwrap();
        }
    }
}

async fn prune(bench: &Bench) -> u64 {
    let settings = PruneSettings {
        give_up_after: Duration::ZERO,
        stale_after: Duration::ZERO,
        ..PruneSettings::default()
    };
    let none = CancellationToken::new();
    let planned = plan(&bench.repository, &settings, &none).await.unwrap();
    execute(planned).await.unwrap();
    let packs = bench.store.list("packs/", None).await.unwrap().objects;
    packs.iter().map(|pack| pack.size_bytes).sum()
}

/// All was emptied, and nothing but that was sent.
fn assert_emptied(report: &UploadReport, packs: u64) {
    assert!(report.repacked_packs >= packs, "{report:?}");
    let slack = OLD_BYTES + 100 * (OLD_BYTES / CHUNK);
    assert!(
        (OLD_BYTES..slack).contains(&report.repacked_bytes),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_volume_gets_rid_of_its_sparse_packs() {
    for sealed in [false, true] {
        let sparse = Sparse::new(Bench::new(sealed).await).await;
        let request = sparse.told(&sparse.second, Vec::new());
        let third = sparse.up(&second_image(), request).await;
        assert_emptied(&third, 4);
        assert_eq!(third.manifest.reason, Reason::Incremental);
        assert_eq!(third.read_bytes, OLD_BYTES, "the rest is not read");
        sparse.bench.is(&third.manifest, &second_image()).await;
        sparse.bench.is(&sparse.first, &first_image()).await;
        // Once is enough.
        let request = sparse.told(&third.manifest, Vec::new());
        let fourth = sparse.up(&second_image(), request).await;
        assert_eq!(
            (fourth.repacked_packs, fourth.read_bytes, fourth.packs),
            (0, 0, 0)
        );
        let left = sparse.only(&fourth.manifest).await;
        assert!(left < CHUNKS * CHUNK + MIB, "{left} bytes for 20 MiB");
        sparse.bench.is(&fourth.manifest, &second_image()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_that_is_compared() {
    let sparse = Sparse::new(Bench::new(true).await).await;
    let image = second_image().extent(500 * MIB, 5, Fill::Byte(1));
    let third = sparse.up(&image, sparse.compared()).await;
    assert_emptied(&third, 4);
    assert_eq!(third.manifest.reason, Reason::Compared);
    let left = sparse.only(&third.manifest).await;
    assert!(left < CHUNKS * CHUNK + MIB, "{left} bytes for 20 MiB");
    sparse.bench.is(&third.manifest, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn and_one_that_is_told_what_changed_and_what_is_gone() {
    let sparse = Sparse::new(Bench::new(false).await).await;
    // One of the chunks in the sparse packs changes, another is discarded, a third is beside them.
    let image = second_image()
        .extent(0, 1, Fill::Byte(9))
        .extent(8 * CHUNK, CHUNK, Fill::Zero)
        .extent(17 * CHUNK, 1, Fill::Byte(9));
    let ranges = vec![0..1, 8 * CHUNK..9 * CHUNK, 17 * CHUNK..17 * CHUNK + 1];
    let request = sparse.told(&sparse.second, ranges);
    let third = sparse.up(&image, request).await;
    assert!(third.repacked_packs >= 4, "{third:?}");
    let anew = OLD_BYTES - 2 * CHUNK;
    assert!(
        (anew..anew + 100 * 40).contains(&third.repacked_bytes),
        "{third:?}"
    );
    assert_eq!(third.read_bytes, OLD_BYTES + CHUNK);
    sparse.bench.is(&third.manifest, &image).await;
    // Counted by differences, as by counting.
    let mut request = sparse.compared();
    request.settings.repack_below_percent = 0;
    let compared = sparse.up(&image, request).await.manifest;
    let hash = |manifest: &Manifest| manifest.pack_list.clone().map(|root| root.hash);
    assert_eq!(hash(&compared), hash(&third.manifest));
    let left = sparse.only(&third.manifest).await;
    assert!(left < CHUNKS * CHUNK + MIB, "{left} bytes for 20 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_the_room_stays_taken() {
    let sparse = Sparse::new(Bench::new(false).await).await;
    let mut request = sparse.told(&sparse.second, Vec::new());
    request.settings.repack_below_percent = 0;
    let third = sparse.up(&second_image(), request).await;
    assert_eq!((third.repacked_packs, third.read_bytes), (0, 0));
    let left = sparse.only(&third.manifest).await;
    assert!(left > 2 * CHUNKS * CHUNK - 3 * MIB, "{left} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_budget_is_sent_anew_each_time() {
    let sparse = Sparse::new(Bench::new(true).await).await;
    let mut newest = sparse.second.clone();
    let budget = MIB;
    let mut sent = 0;
    for round in 0.. {
        assert!(round < 10, "{sent} bytes and no end");
        let mut request = sparse.told(&newest, Vec::new());
        request.settings.repack_budget_bytes = budget;
        let report = sparse.up(&second_image(), request).await;
        assert!(report.repacked_bytes <= budget, "{report:?}");
        sent += report.repacked_bytes;
        newest = report.manifest;
        if report.repacked_packs == 0 {
            break;
        }
    }
    assert!(sent >= OLD_BYTES, "{sent}");
    sparse.bench.is(&newest, &second_image()).await;
    let left = sparse.only(&newest).await;
    assert!(left < CHUNKS * CHUNK + MIB, "{left} bytes for 20 MiB");
}

/// What is sent anew is read, so a wrong delta is found by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_not_what_it_was_said_to_be_is_found() {
    for fill in [Fill::Byte(3), Fill::Zero] {
        let sparse = Sparse::new(Bench::new(true).await).await;
        let image = second_image().extent(8 * CHUNK, CHUNK, fill);
        let mut request = sparse.told(&sparse.second, one(500 * MIB..501 * MIB));
        request.settings.guard_share_ppm = 0;
        let third = sparse.up(&image, request).await;
        assert_eq!(third.manifest.reason, Reason::Compared);
        let why = &third.manifest.why;
        assert!(why.starts_with("chunk 8 was said to be"), "{why}");
        sparse.bench.is(&third.manifest, &image).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_knows_what_is_in_sparse_packs() {
    let sparse = Sparse::new(Bench::new(true).await).await;
    let mut request = sparse.told(&sparse.second, Vec::new());
    request.settings.guard_share_ppm = 1_000_000;
    let third = sparse.up(&second_image(), request).await;
    assert_eq!(third.manifest.reason, Reason::Incremental);
    assert_emptied(&third, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_broken_off_goes_on() {
    for told in [false, true] {
        let store = std::sync::Arc::new(Faulty::new(When::Before));
        let sparse = Sparse::new(Bench::on(store.clone(), true).await).await;
        let image = second_image().extent(500 * MIB, 8 * MIB, Fill::Random(3));
        let mut request = match told {
            true => sparse.told(&sparse.second, one(500 * MIB..508 * MIB)),
            false => sparse.compared(),
        };
        request.source_is_fixed = true;
        store.packs_left.store(1, Ordering::SeqCst);
        let broken = sparse.bench.try_up(&image, request.clone()).await;
        assert!(matches!(broken, Err(RepositoryError::Store(_))));
        store.packs_left.store(-1, Ordering::SeqCst);
        let third = sparse.up(&image, request).await;
        assert!(third.adopted_packs >= 1, "{third:?}");
        assert!(third.repacked_packs >= 4, "{third:?}");
        sparse.bench.is(&third.manifest, &image).await;
        let left = sparse.only(&third.manifest).await;
        assert!(left < CHUNKS * CHUNK + 9 * MIB, "{left} bytes for 28 MiB");
        sparse.bench.is(&third.manifest, &image).await;
    }
}

/// What is written in a night: most of it again soon, and one chunk of it never.
fn night_of(night: u64) -> Vec<u64> {
    let hot = (0..18)
        .map(|i| (night * 18 + i) % 168)
        .map(|i| i / 7 * 8 + 1 + i % 7);
    let cold = (night < CHUNKS_IN_BOUNDED / 8).then_some(night * 8);
    hot.chain(cold).collect()
}

const CHUNKS_IN_BOUNDED: u64 = 192;

/// A month and more of nights, of which the last week is kept.
#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_stays_bounded_however_many_increments_there_were() {
    let data = CHUNKS_IN_BOUNDED * CHUNK;
    let mut bytes = Vec::new();
    for below in [0, UploadSettings::default().repack_below_percent] {
        let bench = Bench::new(false).await;
        let mut image = Image::new(64 * MIB).extent(0, data, Fill::Random(1));
        let mut kept = vec![bench.up(&image).await.manifest];
        for night in 0..40 {
            let chunks = night_of(night);
            let ranges = chunks.iter().map(|c| c * CHUNK..(c + 1) * CHUNK).collect();
            image = chunks.iter().fold(image, |image, chunk| {
                let fill = Fill::Random(1000 + night * 200 + chunk);
                image.extent(chunk * CHUNK, CHUNK, fill)
            });
            let mut request = bench.told(kept.last().unwrap(), ranges);
            request.settings.repack_below_percent = below;
            kept.push(bench.try_up(&image, request).await.unwrap().manifest);
            if kept.len() > 7 {
                let oldest = kept.remove(0);
                snapshots::delete(&bench.repository, &oldest.volume_id, &oldest.snapshot_id)
                    .await
                    .unwrap();
            }
        }
        let last = kept.last().unwrap();
        bench.is(last, &image).await;
        bytes.push(prune(&bench).await);
        bench.is(last, &image).await;
    }
    let [without, with] = bytes[..] else { panic!() };
    println!("{data} bytes of data: {with} bytes in the bucket, {without} without repacking");
    // The data, a week of nights, and what is not worth the trouble.
    assert!(with < data + 7 * 19 * CHUNK + 4 * MIB, "{with}");
    assert!(without > with + 10 * MIB, "{with} {without}");
}
