//! Object Lock in a bucket in memory: what needs no server to be shown.

use std::sync::Arc;

use bytes::Bytes;
use stockpot_repository::{
    Progress, Repository, RepositoryError,
    format::manifest::Manifest,
    prune::{self, PruneSettings},
    snapshots::{self, Status},
    store::{ObjectStore, PutMode},
    upload::BaseChoice,
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::{
    keeping::Keeping,
    layer::Over,
    locks::{policy, up},
    support::{Bench, key},
};

pub(crate) fn image() -> Image {
    Image::new(2 << 20).extent(0, 200_000, Fill::Random(3))
}

pub(crate) async fn bench(sealed: bool) -> (Bench, Keeping) {
    let keeping = Keeping::default();
    let bench = Bench::on(Arc::new(Over(keeping.clone())), sealed).await;
    (bench, keeping)
}

pub(crate) async fn as_first_written(bench: Bench, sealed: bool) -> Bench {
    let repository = Repository::open_first(bench.store.clone(), sealed.then(key));
    Bench {
        repository: repository.await.unwrap(),
        ..bench
    }
}

async fn is_restored(bench: &Bench, manifest: &Manifest) {
    let restored = bench.down(manifest).await;
    assert_eq!(image().first_difference(&restored).unwrap(), None);
}

/// Puts so many other things under a key, each as long as what belongs there.
async fn crowd(store: &dyn ObjectStore, key: &str, length: usize) {
    for number in 0..50 {
        let body = Bytes::from(vec![number; length]);
        store.put(key, body, PutMode::Overwrite).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ours_is_locked_and_found_in_a_crowd() {
    for sealed in [true, false] {
        let (bench, keeping) = bench(sealed).await;
        up(&bench, &image(), None).await;
        let keys: Vec<String> = keeping.memory.keys();
        for key in keys.iter().filter(|key| !key.starts_with("snapshots/")) {
            let body = bench.store.get(key, usize::MAX).await.unwrap();
            bench.store.delete(key).await.unwrap();
            keeping.rob_key(key);
            crowd(&*bench.store, key, body.len()).await;
            let put = bench.store.put(key, body.clone(), PutMode::Overwrite);
            put.await.unwrap();
            assert_eq!(bench.store.get(key, usize::MAX).await.unwrap(), body);
        }
        let locked = up(&bench, &image(), Some(policy())).await.manifest;
        assert_eq!(locked.chunks.stored, 0, "it builds on what is there");
        for key in &keys {
            crowd(&*bench.store, key, 1000).await;
        }
        keeping.rob();
        let bench = as_first_written(bench, sealed).await;
        is_restored(&bench, &locked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_another_date_locks_nothing() {
    const DAY_S: i64 = 86_400;
    let (bench, keeping) = bench(true).await;
    for off_s in [-400 * DAY_S, -2 * DAY_S, 2 * DAY_S, 400 * DAY_S] {
        keeping.memory.set_clock_ahead_s(off_s);
        let before = keeping.memory.keys();
        let mut request = bench.request();
        request.settings.lock = Some(policy());
        let error = bench.try_up(&image(), request).await.unwrap_err();
        let RepositoryError::Clocks { server, own, .. } = &error else {
            panic!("{error:?}");
        };
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
        assert!((at(server) - at(own) - off_s).abs() < 60, "{error}");
        assert!((at(own) - jiff::Timestamp::now().as_second()).abs() < 60);
        assert_eq!(keeping.memory.keys(), before, "nothing was written");
        // Without a lock the date matters to nobody.
        up(&bench, &image(), None).await;
    }
    for off_s in [-DAY_S / 2, DAY_S / 2] {
        keeping.memory.set_clock_ahead_s(off_s);
        let locked = up(&bench, &image(), Some(policy())).await.manifest;
        let now_s = jiff::Timestamp::now().as_second() + off_s;
        let kept_s = locked.lock.unwrap().until.as_second() - now_s;
        assert!((3 * DAY_S - 60..=4 * DAY_S).contains(&kept_s), "{kept_s}");
    }
}

/// Whoever has the key and the credentials deletes and prunes as the owner does. What was locked comes back.
pub(crate) async fn a_deleted_snapshot_comes_back(bench: Bench, sealed: bool) {
    let first = up(&bench, &image(), Some(policy())).await.manifest;
    let unlocked = {
        let mut request = bench.request();
        request.base = BaseChoice::Nothing;
        bench.try_up(&image(), request).await.unwrap().manifest
    };
    for manifest in [&first, &unlocked] {
        let (volume, snapshot) = (&manifest.volume_id, &manifest.snapshot_id);
        snapshots::delete(&bench.repository, volume, snapshot)
            .await
            .unwrap();
    }
    let none = CancellationToken::new();
    let planned = prune::plan(&bench.repository, &PruneSettings::default(), &none).await;
    prune::execute(planned.unwrap()).await.unwrap();
    let error = snapshots::find_deleted(&bench.repository, first.snapshot_id.as_str()).await;
    assert!(matches!(error, Err(RepositoryError::Settings(_))));

    let bench = as_first_written(bench, sealed).await;
    let id = first.snapshot_id.as_str();
    let plain = snapshots::find(&bench.repository, id).await;
    assert!(matches!(plain, Err(RepositoryError::Deleted { .. })));
    let listed = snapshots::list(&bench.repository).await.unwrap();
    assert!(listed.iter().all(|found| found.manifest.is_none()));
    let listed = snapshots::list_deleted(&bench.repository).await.unwrap();
    let found = listed
        .iter()
        .find(|found| found.snapshot_id == first.snapshot_id);
    let found = found.unwrap();
    assert_eq!(found.status, Status::Deleted);
    assert_eq!(found.manifest.as_ref(), Some(&first));
    for name in [id, &id[..id.len() - 1]] {
        let found = snapshots::find_deleted(&bench.repository, name).await;
        assert_eq!(found.unwrap(), first, "{name}");
    }
    is_restored(&bench, &first).await;
    let settings = VerifySettings {
        read_data: true,
        deleted: true,
        no_marks: true,
        ..VerifySettings::default()
    };
    let (only, progress) = ([first.snapshot_id.clone()], Arc::new(Progress::new()));
    let verified = verify(&bench.repository, Some(&only), &settings, &progress, &none).await;
    let verified = verified.unwrap();
    assert_eq!(
        (verified.snapshots, verified.problems),
        (only.to_vec(), vec![])
    );
    assert!(verified.data_bytes > 0);
    // Nothing kept what was not locked: at best its manifest is there.
    let id = unlocked.snapshot_id.as_str();
    if let Ok(manifest) = snapshots::find_deleted(&bench.repository, id).await {
        assert!(bench.try_down(&manifest).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_with_the_key_comes_back() {
    for sealed in [true, false] {
        let (bench, keeping) = bench(sealed).await;
        a_deleted_snapshot_comes_back(bench, sealed).await;
        drop(keeping);
    }
}
