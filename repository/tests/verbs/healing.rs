//! What a verify finds bad is marked, is not inherited, and is stored again by the next backup.

use std::sync::Arc;

use bytes::Bytes;
use stockpot_repository::{
    Progress,
    format::{
        ids::SnapshotId,
        manifest::{Manifest, Reason},
    },
    prune::{self, PruneSettings},
    store::PutMode,
    verify::{Sample, VerifyReport, VerifySettings, verify},
};
use stockpot_test_fixtures::{
    image::{Fill, Image},
    s3::{Action, Fault, Op, Server},
};
use tokio_util::sync::CancellationToken;

use crate::{incremental::one, server::connect, support::Bench};

const CHUNK: u64 = 64 << 10;

fn image() -> Image {
    Image::new(200 * CHUNK)
        .extent(0, 20 * CHUNK, Fill::Random(1))
        .extent(150 * CHUNK, 3 * CHUNK, Fill::Random(2))
}

fn read_all() -> VerifySettings {
    VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    }
}

async fn check(
    bench: &Bench,
    only: Option<&SnapshotId>,
    settings: &VerifySettings,
) -> VerifyReport {
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let only = only.map(std::slice::from_ref);
    verify(&bench.repository, only, settings, &progress, &none)
        .await
        .unwrap()
}

/// Keys of the packs of one snapshot's upload.
async fn packs(bench: &Bench, manifest: &Manifest) -> Vec<String> {
    let prefix = format!("packs/{}/{}/", manifest.volume_id, manifest.snapshot_id);
    let page = bench.store.list(&prefix, None).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}

async fn change(bench: &Bench, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut object = bench.store.get(key, usize::MAX).await.unwrap().to_vec();
    change(&mut object);
    let body = Bytes::from(object);
    bench
        .store
        .put(key, body, PutMode::Overwrite)
        .await
        .unwrap();
}

/// Damages one object, and sees it found, marked, avoided and stored again.
async fn heals(
    sealed: bool,
    structure_shows_it: bool,
    damage: impl AsyncFnOnce(&Bench, &[String]),
) {
    let bench = Bench::new(sealed).await;
    let old = bench.up(&image()).await.manifest;
    let packs = packs(&bench, &old).await;
    damage(&bench, &packs).await;

    let quick = check(&bench, None, &VerifySettings::default()).await;
    assert_eq!(!quick.problems.is_empty(), structure_shows_it, "{quick:?}");
    let found = check(&bench, None, &read_all()).await;
    assert!(!found.problems.is_empty());
    let named = found
        .problems
        .iter()
        .any(|p| p.snapshots.contains(&old.snapshot_id));
    assert!(named, "{:?}", found.problems);
    assert!(quick.marked + found.marked > 0, "{found:?}");
    let again = check(&bench, None, &read_all()).await;
    assert_eq!(
        (again.marked, &again.problems),
        (0, &found.problems),
        "marked once"
    );
    assert!(bench.try_down(&old).await.is_err());
    // A prune in between takes neither what is needed nor what is known of the damage.
    let none = CancellationToken::new();
    let pruned = prune::plan(&bench.repository, &PruneSettings::default(), &none).await;
    let report = prune::execute(pruned.unwrap()).await.unwrap();
    assert_eq!((report.removed_marks, report.deleted.packs), (0, 0));

    let changed = image().extent(150 * CHUNK, 10, Fill::Byte(3));
    let new = bench.up(&changed).await.manifest;
    assert_eq!(new.reason, Reason::Compared);
    let restored = bench.down(&new).await;
    assert_eq!(changed.first_difference(&restored).unwrap(), None);
    let found = check(&bench, Some(&new.snapshot_id), &read_all()).await;
    assert_eq!(found.problems, [], "the new one refers to nothing bad");
    // And the one after it, which is built on the healed one.
    let mut request = bench.request();
    // Of the old pack little is needed by now; that is not what is looked for here.
    request.settings.repack_below_percent = 0;
    let third = bench.try_up(&changed, request).await.unwrap().manifest;
    assert_eq!(third.chunks.stored, 0);
    let found = check(&bench, Some(&third.snapshot_id), &read_all()).await;
    assert_eq!(found.problems, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_a_chunk() {
    for sealed in [false, true] {
        heals(sealed, false, async |bench, packs| {
            change(bench, &packs[0], |pack| pack[100_000] ^= 1).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_chunks_that_is_gone() {
    heals(true, true, async |bench, packs| {
        bench.store.delete(&packs[0]).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_chunks_whose_index_is_damaged() {
    heals(true, true, async |bench, packs| {
        change(bench, &packs[0], |pack| {
            let at = pack.len() - 40;
            pack[at] ^= 1;
            // Nothing of the data needs the index: a chunk is hit as well.
            pack[100_000] ^= 1;
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_map() {
    heals(true, true, async |bench, packs| {
        for pack in packs {
            let size = bench.store.get(pack, usize::MAX).await.unwrap().len();
            if size < 20_000 {
                // The pack of map pages comes before that of the pack list.
                change(bench, pack, |pack| pack[40] ^= 1).await;
                return;
            }
        }
        panic!("no pack of pages in {packs:?}");
    })
    .await;
}

/// Nobody has looked since it was taken: the next upload sees that it is gone, and what it reads is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_lost_a_pack_since_its_commit() {
    for told in [true, false] {
        let bench = Bench::new(true).await;
        let old = bench.up(&image()).await.manifest;
        let lost = packs(&bench, &old).await.remove(0);
        bench.store.delete(&lost).await.unwrap();
        let at = 150 * CHUNK;
        let changed = image().extent(at, 10, Fill::Byte(3));
        let request = match told {
            true => bench.told(&old, one(at..at + 10)),
            false => bench.request(),
        };
        let new = bench.try_up(&changed, request).await.unwrap().manifest;
        assert_eq!(new.reason, Reason::Compared);
        assert!(new.why.contains("not in the bucket"), "{}", new.why);
        let restored = bench.down(&new).await;
        assert_eq!(changed.first_difference(&restored).unwrap(), None);
        let found = check(&bench, Some(&new.snapshot_id), &read_all()).await;
        assert_eq!(found.problems, []);
        // The next one goes on from it as ever.
        let mut request = bench.told(&new, Vec::new());
        request.settings.repack_below_percent = 0;
        let third = bench.try_up(&changed, request).await.unwrap().manifest;
        assert_eq!(
            (third.reason, third.chunks.stored),
            (Reason::Incremental, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verify_may_be_asked_to_write_nothing() {
    let bench = Bench::new(true).await;
    let old = bench.up(&image()).await.manifest;
    let packs = packs(&bench, &old).await;
    change(&bench, &packs[0], |pack| pack[100_000] ^= 1).await;
    let settings = VerifySettings {
        no_marks: true,
        ..read_all()
    };
    let found = check(&bench, None, &settings).await;
    assert_eq!((found.problems.len(), found.marked), (1, 0));
    let marks = bench.store.list("marks/", None).await.unwrap();
    assert!(marks.objects.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_reads_a_share_and_finds_what_is_in_it() {
    let bench = Bench::new(true).await;
    let big = Image::new(1 << 30).extent(0, 40 << 20, Fill::Random(5));
    let manifest = bench.up(&big).await.manifest;
    let packs = packs(&bench, &manifest).await;
    for pack in &packs {
        let size = bench.store.head(pack).await.unwrap().size_bytes;
        if size > 1 << 20 {
            change(&bench, pack, |pack| {
                for at in (50_000..pack.len() - 10_000).step_by(500_000) {
                    pack[at] ^= 1;
                }
            })
            .await;
        }
    }
    let sampled = async |share_ppm, seed| {
        let settings = VerifySettings {
            sample: Some(Sample { share_ppm, seed }),
            no_marks: true,
            ..read_all()
        };
        check(&bench, None, &settings).await
    };
    let all = sampled(1_000_000, 1).await;
    assert_eq!(
        all.problems,
        check(&bench, None, &read_all()).await.problems
    );
    let some = sampled(200_000, 7).await;
    assert!(!some.problems.is_empty() && some.problems.len() < all.problems.len() / 2);
    assert!(
        some.problems
            .iter()
            .all(|problem| all.problems.contains(problem))
    );
    assert!(
        (2 << 20..20 << 20).contains(&some.data_bytes),
        "{}",
        some.data_bytes
    );
    assert_eq!(sampled(200_000, 7).await.problems, some.problems);
    assert_ne!(sampled(200_000, 8).await.problems, some.problems);
}

/// An object in an archive, or sealed by a key that the credentials may not use: the others are checked all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_refused_does_not_end_a_verify() {
    let server = Server::builder().bucket("bucket").start().unwrap();
    let bench = Bench::on(connect(&server).await, true).await;
    let first = bench.up(&image()).await.manifest;
    let second = bench
        .up(&image().extent(0, 10, Fill::Byte(1)))
        .await
        .manifest;
    let refused = packs(&bench, &first).await;
    let flipped = packs(&bench, &second).await;
    change(&bench, &flipped[0], |pack| pack[50] ^= 1).await;
    for code in ["InvalidObjectState", "AccessDenied"] {
        for object in [&refused[0], &first.object_key()] {
            let fault = Fault::new(Action::Status { status: 403, code });
            server
                .faults()
                .inject(fault.on(Op::GetObject).key(object.clone()));
            let found = check(&bench, None, &read_all()).await;
            for object in [object, &flipped[0]] {
                let named = found.problems.iter().any(|p| p.object == *object);
                assert!(named, "{code} {object}: {:?}", found.problems);
            }
            server.faults().clear();
        }
    }
}
