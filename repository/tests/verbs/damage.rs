//! Whatever byte of whatever object is flipped or missing: verify names it, and a restore fails or did not need it.

use bytes::Bytes;
use stockpot_repository::{
    Progress, Repository, snapshots,
    store::PutMode,
    verify::{Problem, VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::support::Bench;

const CHUNK: u64 = 64 << 10;

/// Two snapshots, the second built on the first.
async fn bench(sealed: bool) -> (Bench, Vec<Image>) {
    let bench = Bench::new(sealed).await;
    let first = Image::new(70 * CHUNK)
        .extent(0, 2 * CHUNK, Fill::Text(1))
        .extent(66 * CHUNK, 100, Fill::Random(2));
    let second = first.clone().extent(CHUNK, 10, Fill::Byte(9));
    bench.up(&first).await;
    bench.up(&second).await;
    (bench, vec![first, second])
}

async fn verify_all(repository: &Repository) -> Vec<Problem> {
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let progress = std::sync::Arc::new(Progress::new());
    let report = verify(
        repository,
        None,
        &settings,
        &progress,
        &CancellationToken::new(),
    )
    .await;
    report.unwrap().problems
}

async fn keys(bench: &Bench) -> Vec<String> {
    let page = bench.store.list("", None).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_repository_has_no_problems() {
    for sealed in [false, true] {
        let (bench, _) = bench(sealed).await;
        assert_eq!(verify_all(&bench.repository).await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_found_wherever_it_is() {
    for sealed in [false, true] {
        let (bench, images) = bench(sealed).await;
        for key in keys(&bench).await {
            let good = bench.store.get(&key, usize::MAX).await.unwrap();
            // Every byte of what is small, and of both ends of what is not.
            let (len, ends) = (good.len(), 400);
            let places =
                (0..len).filter(|at| len < 700 || *at < 50 || *at + ends > len || at % 331 == 0);
            for (count, at) in places.enumerate() {
                let mut bad = good.to_vec();
                bad[at] ^= 1 << (at % 8);
                let body = Bytes::from(bad);
                bench
                    .store
                    .put(&key, body, PutMode::Overwrite)
                    .await
                    .unwrap();
                let repository = check_found(&bench, sealed, &key, at as u64).await;
                // Restoring flushes, which takes time: not after each of them.
                if let Some(repository) = repository.filter(|_| count % 16 == 0) {
                    check_restores(&bench, &repository, &key, &images).await;
                }
            }
            bench
                .store
                .put(&key, good, PutMode::Overwrite)
                .await
                .unwrap();
        }
        assert_eq!(verify_all(&bench.repository).await, []);
    }
}

/// What verify says of a flipped byte; the repository, if it can be opened at all.
async fn check_found(bench: &Bench, sealed: bool, key: &str, at: u64) -> Option<Repository> {
    let place = format!("{key} at byte {at}");
    let opened = Repository::open(bench.store.clone(), sealed.then(crate::support::key)).await;
    let repository = match opened {
        Ok(repository) => repository,
        Err(_) => {
            assert!(
                key == "repository.json" || key.starts_with("keys/"),
                "{place}"
            );
            return None;
        }
    };
    let problems = verify_all(&repository).await;
    let named: Vec<&Problem> = problems.iter().filter(|p| p.object == key).collect();
    assert!(!named.is_empty(), "{place}: {problems:?}");
    if key.starts_with("packs/") {
        let before = |p: &&Problem| p.offset.is_some_and(|offset| offset <= at);
        assert!(named.iter().any(before), "{place}: {problems:?}");
    }
    Some(repository)
}

/// Each snapshot is restored as it was, or not at all.
async fn check_restores(bench: &Bench, repository: &Repository, key: &str, images: &[Image]) {
    let listed = snapshots::list(repository).await.unwrap();
    assert_eq!(listed.len(), 2, "{key}");
    for summary in listed {
        let Some(manifest) = &summary.manifest else {
            assert!(key.starts_with("snapshots/"), "{key}");
            continue;
        };
        let target = bench.path("target.img");
        if bench.try_down(manifest).await.is_ok() {
            let same = images
                .iter()
                .any(|image| image.first_difference(&target).unwrap().is_none());
            assert!(same, "{key}: a wrong volume was restored");
        } else {
            assert!(!target.exists(), "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_shortened_object_is_found() {
    for sealed in [false, true] {
        let (bench, _) = bench(sealed).await;
        for key in keys(&bench).await {
            if !key.starts_with("packs/") {
                continue;
            }
            let good = bench.store.get(&key, usize::MAX).await.unwrap();
            for cut in [
                None,
                Some(0),
                Some(1),
                Some(good.len() / 2),
                Some(good.len() - 1),
            ] {
                match cut {
                    None => bench.store.delete(&key).await.unwrap(),
                    Some(len) => {
                        let body = good.slice(..len);
                        bench
                            .store
                            .put(&key, body, PutMode::Overwrite)
                            .await
                            .unwrap();
                    }
                }
                let problems = verify_all(&bench.repository).await;
                let named = problems.iter().find(|p| p.object == key);
                let named = named.unwrap_or_else(|| panic!("{key} cut to {cut:?}: {problems:?}"));
                assert!(!named.snapshots.is_empty(), "{named}");
            }
            bench
                .store
                .put(&key, good, PutMode::Overwrite)
                .await
                .unwrap();
        }
    }
}
