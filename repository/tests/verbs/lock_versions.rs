//! Object Lock where objects have several versions: what is locked is what a restore needs, whatever lies beside it.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use stockpot_repository::{
    Repository,
    format::{keys::KeySource, manifest::Manifest},
    lock::{self, LockMode, Purged, Retention},
    prune::{self, PruneSettings},
    snapshots,
    store::{ObjectStore, StoreError},
};
use stockpot_test_fixtures::{
    image::{Fill, Image},
    s3::{Action, Fault, FaultProxy, Op, real::Kind},
};
use tokio_util::sync::CancellationToken;

use crate::{
    lock_memory::a_deleted_snapshot_comes_back,
    locks::{BUCKET, Place, image, place, policy, rob, up, versions},
    support::{Bench, key},
};

impl Place {
    fn full(key: &str) -> String {
        format!("some/prefix/{key}")
    }

    async fn put(&self, key: &str, body: impl Into<ByteStream>) {
        let put = self.client.put_object().bucket(BUCKET).key(Self::full(key));
        put.body(body.into()).send().await.unwrap();
    }

    async fn hide(&self, key: &str) {
        let delete = self.client.delete_object().bucket(BUCKET);
        delete.key(Self::full(key)).send().await.unwrap();
    }
}

async fn restored(place: &Place, bench: Bench, key: KeySource, images: &[(Image, &Manifest)]) {
    let repository = Repository::open_first(place.store.clone(), Some(key))
        .await
        .unwrap();
    assert_eq!(repository.id(), bench.repository.id());
    let bench = Bench {
        repository,
        ..bench
    };
    for (image, manifest) in images {
        let restored = bench.down(manifest).await;
        assert_eq!(image.first_difference(&restored).unwrap(), None);
    }
}

/// A prefix that held another repository, opened by the same key: the one in use is locked, and found again.
#[tokio::test(flavor = "multi_thread")]
async fn the_marker_in_use_is_locked_not_the_oldest_one() {
    for kind in Kind::ALL {
        let Some(place) = place(kind, true).await else {
            continue;
        };
        let old = Bench::new(true).await;
        let text = Image::new(1 << 20).extent(0, 5000, Fill::Text(9));
        up(&old, &text, None).await;
        let bench = Bench::on(place.store.clone(), true).await;
        let marker = "repository.json";
        let ours = bench.store.get(marker, 1 << 16).await.unwrap();
        // With all its versions, so that the other one is the oldest.
        bench.store.delete(marker).await.unwrap();
        for object in old.store.list("", None).await.unwrap().objects {
            let body = old.store.get(&object.key, usize::MAX).await.unwrap();
            place.put(&object.key, body.to_vec()).await;
            place.hide(&object.key).await;
        }
        place.put(marker, ours.to_vec()).await;
        let manifest = up(&bench, &image(), Some(policy())).await.manifest;
        rob(&place, false).await;
        restored(&place, bench, key(), &[(image(), &manifest)]).await;
    }
}

/// A slot that was added while the packs were locked already.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_slot_is_locked_though_the_base_covers_the_packs() {
    for kind in Kind::ALL {
        let Some(place) = place(kind, true).await else {
            continue;
        };
        let bench = Bench::on(place.store.clone(), true).await;
        let first = up(&bench, &image(), Some(policy())).await.manifest;
        let phrase = KeySource::from_passphrase(b"correct horse").unwrap();
        bench.repository.add_key_slot(phrase.clone()).await.unwrap();
        let second = up(&bench, &image(), Some(policy())).await.manifest;
        assert_eq!(first.lock, second.lock, "the same period");
        rob(&place, false).await;
        restored(
            &place,
            bench,
            phrase,
            &[(image(), &first), (image(), &second)],
        )
        .await;
    }
}

/// Somebody was there before us under the name of each pack and of the marker, and came again, more often than locks are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_ours_is_locked_and_found_among_any_number_of_others() {
    let image = Image::new(1 << 20).extent(0, 300_000, Fill::Random(5));
    for kind in Kind::ALL {
        let Some(place) = place(kind, true).await else {
            continue;
        };
        let bench = Bench::on(place.store.clone(), true).await;
        let first = up(&bench, &image, None).await.manifest;
        let junk = async |key: &str, length: usize| {
            for number in 0..20 {
                place.put(key, vec![number; length]).await;
            }
        };
        let packs = bench.store.list("packs/", None).await.unwrap().objects;
        let packs = packs.into_iter().map(|pack| pack.key);
        for key in packs.chain(["repository.json".to_owned()]) {
            let body = bench.store.get(&key, usize::MAX).await.unwrap();
            // With all its versions: it is not locked yet.
            bench.store.delete(&key).await.unwrap();
            // As long as ours, so that its size tells nothing.
            junk(&key, body.len()).await;
            place.put(&key, body.to_vec()).await;
        }
        let second = up(&bench, &image, Some(policy())).await.manifest;
        assert_eq!(
            second.chunks.stored, 0,
            "it builds on the first one's packs"
        );
        for version in versions(&place, "").await {
            if version.is_latest && !version.key.starts_with("snapshots/") {
                junk(&version.key, 1000).await;
            }
        }
        rob(&place, false).await;
        restored(
            &place,
            bench,
            key(),
            &[(image.clone(), &first), (image.clone(), &second)],
        )
        .await;
    }
}

/// Whoever has the key as well deletes like the owner.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_with_the_key_comes_back_from_servers() {
    for kind in Kind::ALL {
        let Some(place) = place(kind, true).await else {
            continue;
        };
        let bench = Bench::on(place.store.clone(), true).await;
        a_deleted_snapshot_comes_back(bench, true).await;
    }
}

/// A bucket with versions and without locks, and credentials that may not delete a version: that no room was freed is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_says_that_old_versions_stay() {
    for kind in Kind::ALL {
        let Some(place) = place(kind, false).await else {
            continue;
        };
        let versioning = aws_sdk_s3::types::VersioningConfiguration::builder()
            .status(aws_sdk_s3::types::BucketVersioningStatus::Enabled)
            .build();
        let enable = place.client.put_bucket_versioning().bucket(BUCKET);
        enable
            .versioning_configuration(versioning)
            .send()
            .await
            .unwrap();
        let proxy = FaultProxy::to(&place.endpoint()).unwrap();
        let bench = Bench::on(place.store_at(&proxy.endpoint()).await, true).await;
        let manifest = up(&bench, &image(), None).await.manifest;
        snapshots::delete(
            &bench.repository,
            &manifest.volume_id,
            &manifest.snapshot_id,
        )
        .await
        .unwrap();
        // One after the other: a plain deletion, then the version, which is refused.
        let refused = Fault::new(Action::access_denied())
            .on(Op::DeleteObject)
            .key("packs/");
        let refused = proxy.faults().inject(refused.every(2));
        let settings = PruneSettings {
            deletes_in_flight: 1,
            ..PruneSettings::default()
        };
        let none = CancellationToken::new();
        let planned = prune::plan(&bench.repository, &settings, &none)
            .await
            .unwrap();
        let report = prune::execute(planned).await.unwrap();
        assert!(report.deleted.packs > 1, "{report:?}");
        assert_eq!((report.hidden, report.held.packs), (report.deleted, 0));
        assert_eq!(proxy.faults().fired(refused), report.deleted.packs);
        assert_eq!(bench.store.list("packs/", None).await.unwrap().objects, []);
    }
}

/// A lock that has ended is not what keeps a version: then it is the refusal that has to be known.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_has_ended_is_no_excuse() {
    for kind in Kind::ALL {
        let Some(place) = place(kind, true).await else {
            continue;
        };
        let proxy = FaultProxy::to(&place.endpoint()).unwrap();
        let store = place.store_at(&proxy.endpoint()).await;
        let key = "keys/something.json";
        place.put(key, vec![1]).await;
        let version = versions(&place, key).await.remove(0);
        let retention = Retention {
            mode: LockMode::Compliance,
            until_s: store.now_s().await.unwrap() + 2,
        };
        let locking = store.versions().unwrap();
        locking
            .retain(key, &version.version_id, retention)
            .await
            .unwrap();
        let kept = lock::purge(&*store, key).await.unwrap();
        assert_eq!(kept, Purged::KeptUntil(retention.until_s));
        while store.now_s().await.unwrap() <= retention.until_s {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let refused = Fault::new(Action::access_denied()).on(Op::DeleteObject);
        proxy.faults().inject(refused);
        let error = lock::purge(&*store, key).await.unwrap_err();
        assert!(
            matches!(error, StoreError::AccessDenied { .. }),
            "{error:?}"
        );
        proxy.faults().clear();
        assert_eq!(lock::purge(&*store, key).await.unwrap(), Purged::Gone);
    }
}
