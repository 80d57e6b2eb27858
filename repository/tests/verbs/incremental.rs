//! Uploads that are told what changed: nothing else is read, and the snapshot is as good as a full one.

use std::{ops::Range, sync::Arc};

use proptest::{prelude::*, test_runner::TestRunner};
use stockpot_repository::{
    Progress,
    format::{
        ids::{ObjectId, PackName, condemned_key, marks_key},
        manifest::{Manifest, Reason, now},
        protocol::{BadFrame, Condemned, Mark},
    },
    snapshots,
    store::PutMode,
    upload::{BaseChoice, Changes, UploadReport, UploadRequest},
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::{
    cases::at_least,
    image::{Fill, Image},
};
use tokio_util::sync::CancellationToken;

use crate::{errors_logged::Errors, support::Bench};

const CHUNK: u64 = 64 << 10;

pub(crate) async fn problems(bench: &Bench) -> Vec<String> {
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let report = verify(&bench.repository, None, &settings, &progress, &none).await;
    let problems = report.unwrap().problems;
    problems.iter().map(|found| format!("{found:?}")).collect()
}

pub(crate) fn one(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

impl Bench {
    pub(crate) fn told(&self, since: &Manifest, ranges: Vec<Range<u64>>) -> UploadRequest {
        let mut request = self.request();
        request.changes = Some(Changes {
            since: since.into(),
            ranges,
        });
        request
    }

    async fn up_told(
        &self,
        image: &Image,
        since: &Manifest,
        ranges: Vec<Range<u64>>,
    ) -> UploadReport {
        self.try_up(image, self.told(since, ranges)).await.unwrap()
    }

    pub(crate) async fn is(&self, manifest: &Manifest, image: &Image) {
        let restored = self.down(manifest).await;
        assert_eq!(image.first_difference(&restored).unwrap(), None);
        assert_eq!(problems(self).await, [] as [String; 0]);
    }
}

/// Data in three places far apart: some 4 MiB in a volume of 2 GiB.
fn sparse() -> Image {
    Image::new(2 << 30)
        .extent(0, 20 * CHUNK, Fill::Random(1))
        .extent(600 << 20, 40 * CHUNK + 5, Fill::Text(2))
        .extent((2 << 30) - 7 * CHUNK, 7 * CHUNK, Fill::Random(3))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_volume_costs_a_manifest() {
    let bench = Bench::new(true).await;
    let first = bench.up(&sparse()).await.manifest;
    let packs = bench.store.list("packs/", None).await.unwrap().objects;
    let second = bench.up_told(&sparse(), &first, Vec::new()).await;
    assert_eq!((second.packs, second.read_bytes), (0, 0));
    assert!(second.sampled_chunks >= 16, "{second:?}");
    assert!(second.requests < 20, "{} requests", second.requests);
    let manifest = second.manifest;
    assert_eq!(manifest.reason, Reason::Incremental);
    assert!(manifest.why.contains("checked"), "{}", manifest.why);
    assert_eq!((manifest.stored_bytes, manifest.chunks.stored), (0, 0));
    assert_eq!(manifest.chunks.mapped, first.chunks.mapped);
    assert_eq!(
        (&manifest.map, &manifest.pack_list),
        (&first.map, &first.pack_list)
    );
    let after = bench.store.list("packs/", None).await.unwrap().objects;
    assert_eq!(after, packs);
    bench.is(&manifest, &sparse()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_ranges_are_read_and_only_their_pages_written() {
    let bench = Bench::new(false).await;
    let first = bench.up(&sparse()).await.manifest;
    let at = (600 << 20) + 3 * CHUNK;
    let image = sparse().extent(at + 100, 50, Fill::Byte(9));
    let report = bench.up_told(&image, &first, one(at + 100..at + 150)).await;
    assert_eq!(report.read_bytes, CHUNK);
    assert_eq!(report.manifest.chunks.stored, 1);
    // A chunk, a leaf with the two pages above it, and the list.
    assert_eq!(report.packs, 3);
    bench.is(&report.manifest, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_discarded_is_a_hole() {
    let bench = Bench::new(false).await;
    let first = bench.up(&sparse()).await.manifest;
    let image = sparse().extent(600 << 20, 40 * CHUNK + 5, Fill::Zero);
    let mut request = bench.told(&first, one(600 << 20..(600 << 20) + 41 * CHUNK));
    // As a thin volume tells it: nothing is there any more.
    request.extents = Some(vec![0..20 * CHUNK, (2 << 30) - 7 * CHUNK..2 << 30]);
    let report = bench.try_up(&image, request).await.unwrap();
    assert_eq!((report.read_bytes, report.manifest.chunks.mapped), (0, 27));
    bench.is(&report.manifest, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_delta_is_found_and_does_no_harm() {
    let bench = Bench::new(true).await;
    let first = bench.up(&sparse()).await.manifest;
    for (place, what) in [(5 * CHUNK, "data"), (1000 << 20, "a hole")] {
        let image = sparse().extent(place, 10, Fill::Byte(7));
        let mut request = bench.told(&first, one(19 * CHUNK..20 * CHUNK));
        request.settings.guard_share_ppm = 1_000_000;
        let errors = Errors::listen();
        let report = bench.try_up(&image, request).await.unwrap();
        assert_eq!(report.manifest.reason, Reason::Compared, "{what}");
        let logged = errors.texts().join("; ");
        let field = format!("chunk={} ", place / CHUNK);
        assert!(logged.contains("whatever tells the changes is wrong"));
        assert!(logged.contains(&field), "{logged}");
        let chunk = format!("chunk {} ", place / CHUNK);
        assert!(
            report.manifest.why.starts_with(&chunk),
            "{}",
            report.manifest.why
        );
        bench.is(&report.manifest, &image).await;
    }
    // A small sample finds what changed all over the place.
    let image = sparse().extent(0, 20 * CHUNK, Fill::Random(8));
    let image = image.extent(600 << 20, 40 * CHUNK, Fill::Random(9));
    let report = bench.up_told(&image, &first, Vec::new()).await;
    assert_eq!(report.manifest.reason, Reason::Compared);
    bench.is(&report.manifest, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_that_base_all_is_compared_and_it_is_said_why() {
    let bench = Bench::new(true).await;
    let first = bench.up(&sparse()).await.manifest;
    let second = bench.up(&sparse()).await.manifest;
    assert_eq!(second.reason, Reason::Compared);
    snapshots::delete(&bench.repository, &second.volume_id, &second.snapshot_id)
        .await
        .unwrap();
    let image = sparse().extent(0, 5, Fill::Byte(1));
    let third = bench.up_told(&image, &second, Vec::new()).await.manifest;
    assert_eq!(third.reason, Reason::Compared);
    assert_eq!(third.base.clone().unwrap().snapshot_id, first.snapshot_id);
    assert!(third.why.contains("which was deleted"), "{}", third.why);
    bench.is(&third, &image).await;
    let mut request = bench.told(&third, Vec::new());
    request.base = BaseChoice::Nothing;
    let fourth = bench.try_up(&image, request).await.unwrap().manifest;
    assert_eq!((fourth.reason, fourth.base), (Reason::Full, None));
    assert_eq!(fourth.why, "a full copy was asked for");
    assert_eq!(fourth.chunks.stored, fourth.chunks.mapped);
}

async fn put(bench: &Bench, key: &str, object: Vec<u8>) {
    let put = bench.store.put(key, object.into(), PutMode::Overwrite);
    put.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_a_prune_is_after_is_not_referred_to() {
    let bench = Bench::new(false).await;
    let first = bench.up(&sparse()).await.manifest;
    let sealer = stockpot_repository::format::crypto::Sealer::new(bench.repository.id(), None);
    // The pack of the list itself: shared like all others.
    let list = first.pack_list.clone().unwrap().pack;
    let prune_id = ObjectId::new("prune-1").unwrap();
    let key = condemned_key(&prune_id);
    let condemned = Condemned {
        prune_id,
        packs: vec![list],
        created_at: now(),
        tool: "a test".to_owned(),
    };
    let object = sealer.seal_record(&key, &condemned).unwrap();
    put(&bench, &key, object.bytes).await;
    let second = bench.up_told(&sparse(), &first, Vec::new()).await.manifest;
    assert_eq!(second.reason, Reason::Full);
    assert!(second.why.contains("prune"), "{}", second.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn marked_chunks_are_read_and_sent_again() {
    let bench = Bench::new(false).await;
    let first = bench.up(&sparse()).await.manifest;
    let sealer = stockpot_repository::format::crypto::Sealer::new(bench.repository.id(), None);
    let mark = |pack: &PackName, offset: u32| {
        let verify_id = ObjectId::new("verify-1").unwrap();
        let key = marks_key(&verify_id);
        let bad = BadFrame {
            pack: pack.clone(),
            offset,
            hash: first.map.clone().unwrap().hash,
        };
        let mark = Mark {
            verify_id,
            bad: vec![bad],
            found_at: now(),
            tool: "a test".to_owned(),
        };
        let object = sealer.seal_record(&key, &mark).unwrap();
        (key, object.bytes)
    };
    // The first frame of a pack of chunks starts at byte 16.
    let packs = bench.store.list("packs/", None).await.unwrap().objects;
    let map = first.map.clone().unwrap().pack;
    let list = first.pack_list.clone().unwrap().pack;
    let data = packs
        .iter()
        .map(|pack| PackName::parse(&pack.key).unwrap())
        .find(|pack| *pack != map && *pack != list)
        .unwrap();
    let (key, object) = mark(&data, 16);
    put(&bench, &key, object).await;
    let second = bench.up_told(&sparse(), &first, Vec::new()).await;
    assert_eq!(second.manifest.reason, Reason::Incremental);
    assert_eq!(
        (second.read_bytes, second.manifest.chunks.stored),
        (CHUNK, 1)
    );
    bench.is(&second.manifest, &sparse()).await;
    let (key, object) = mark(&map, 16);
    put(&bench, &key, object).await;
    let third = bench.up_told(&sparse(), &first, Vec::new()).await.manifest;
    assert_eq!(third.reason, Reason::Compared);
    assert!(third.why.contains("damaged"), "{}", third.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_cannot_be_read_makes_it_a_compared_one() {
    let bench = Bench::new(true).await;
    let first = bench.up(&sparse()).await.manifest;
    let key = marks_key(&ObjectId::new("verify-1").unwrap());
    put(&bench, &key, b"{}".to_vec()).await;
    let second = bench.up_told(&sparse(), &first, Vec::new()).await;
    assert_eq!(second.manifest.reason, Reason::Compared);
    let said = "list of bad chunks cannot be read";
    assert!(second.manifest.why.contains(said), "{:?}", second.manifest);
    assert_eq!(second.read_bytes, first.data_bytes);
    bench.store.delete(&key).await.unwrap();
    let third = bench.up_told(&sparse(), &second.manifest, Vec::new()).await;
    assert_eq!(third.manifest.reason, Reason::Incremental);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_whose_map_is_damaged_is_compared_with() {
    let bench = Bench::new(false).await;
    let first = bench.up(&sparse()).await.manifest;
    let key = first.map.clone().unwrap().pack.object_key();
    let good = bench.store.get(&key, usize::MAX).await.unwrap();
    let mut bad = good.to_vec();
    bad[40] ^= 1;
    put(&bench, &key, bad).await;
    let image = sparse().extent(CHUNK, 1, Fill::Byte(4));
    let mut request = bench.told(&first, one(CHUNK..CHUNK + 1));
    // Found by the upload itself.
    request.settings.guard_share_ppm = 0;
    let second = bench.try_up(&image, request).await.unwrap().manifest;
    assert_eq!(second.reason, Reason::Compared);
    assert!(second.why.contains("damaged"), "{}", second.why);
    let restored = bench.down(&second).await;
    assert_eq!(image.first_difference(&restored).unwrap(), None);
}

/// Offset, length, content.
type Extent = (u64, u64, Fill);

/// A volume's state: its size, what was written since the one before, and what is said to have changed besides.
type Version = (u64, Vec<Extent>, Vec<(u64, u64)>);

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![
        Just(Fill::Zero),
        any::<u8>().prop_map(Fill::Byte),
        any::<u64>().prop_map(Fill::Random),
    ]
}

/// Sizes around the edges of leaves and of pages above them, in mostly empty volumes.
fn versions() -> impl Strategy<Value = Vec<Version>> {
    let chunks = prop_oneof![1..200_u64, 4000..4200_u64, Just(64), Just(4096), Just(8192)];
    let size = (chunks, 0..2_u64).prop_map(|(chunks, odd)| chunks * CHUNK - odd * 1000);
    let place = prop_oneof![0..100_u64, 4050..4150_u64, 0..8200_u64];
    let near = (place, 0..3_u64).prop_map(|(chunk, odd)| chunk * CHUNK + odd);
    let extents = prop::collection::vec((near.clone(), 1..10 * CHUNK, fill()), 0..5);
    let beside = prop::collection::vec((near, 0..100 * CHUNK), 0..3);
    prop::collection::vec((size, extents, beside), 2..5)
}

async fn told_all_the_way(
    versions: &[Version],
    sealed: bool,
    repack_below_percent: u32,
) -> Result<(), TestCaseError> {
    let bench = Bench::new(sealed).await;
    let mut known: Vec<(Manifest, Image)> = Vec::new();
    let mut written: Vec<Extent> = Vec::new();
    for (size, extents, beside) in versions {
        // What lay past an end is gone for good.
        written.extend(extents);
        let image = written
            .iter()
            .fold(Image::new(*size), |image, (at, len, fill)| {
                image.extent(*at, *len, *fill)
            });
        let report = match known.last() {
            None => bench.up(&image).await,
            Some((base, _)) => {
                let mut ranges: Vec<_> = extents.iter().map(|(at, len, _)| *at..at + len).collect();
                ranges.extend(beside.iter().map(|(at, len)| *at..at + len));
                let mut request = bench.told(base, ranges);
                request.settings.guard_share_ppm = 0;
                request.settings.repack_below_percent = repack_below_percent;
                request.settings.repack_gain_bytes_min = 1;
                let report = bench.try_up(&image, request).await.unwrap();
                prop_assert_eq!(report.manifest.reason, Reason::Incremental);
                report
            }
        };
        known.push((report.manifest, image));
    }
    for (manifest, image) in &known {
        let restored = bench.down(manifest).await;
        prop_assert_eq!(image.first_difference(&restored).unwrap(), None);
    }
    prop_assert_eq!(problems(&bench).await, [] as [String; 0]);
    // What was counted by differences is what counting it all gives.
    let (last, image) = known.last().unwrap();
    let mut request = bench.request();
    request.base = BaseChoice::Snapshot(last.into());
    // It refers to all that the last one refers to.
    request.settings.repack_below_percent = 0;
    let compared = bench.try_up(image, request).await.unwrap().manifest;
    prop_assert_eq!(compared.chunks.mapped, last.chunks.mapped);
    prop_assert_eq!(
        compared.pack_list.map(|root| root.hash),
        last.pack_list.clone().map(|root| root.hash)
    );
    Ok(())
}

#[test]
fn any_image_any_change_any_ranges() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: at_least(32),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(
            &(versions(), any::<bool>(), prop_oneof![Just(0), 0..=90_u32]),
            |(versions, sealed, below)| {
                runtime.block_on(told_all_the_way(&versions, sealed, below))
            },
        )
        .unwrap();
}
