//! Object Lock on servers that others wrote (`STOCKPOT_TEST_S3`): a thief with our own credentials deletes and overwrites all he
//! can, and everything comes back.

use std::sync::Arc;

use aws_sdk_s3::{Client, primitives::ByteStream};
use secrecy::{ExposeSecret as _, SecretString};
use stockpot_repository::{
    Progress, Repository, RepositoryError,
    lock::{self, LockMode, LockPolicy, Purged},
    prune::{self, PruneSettings},
    snapshots,
    store::{
        ObjectStore, S3Store,
        s3::{CredentialSource, S3Config},
        versions::ObjectVersion,
    },
    upload::{BaseChoice, UploadReport},
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::{
    image::{Fill, Image},
    s3::real::{Kind, RealServer, requested},
};
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, key};

pub(crate) const BUCKET: &str = "locked";
const DAY_S: i64 = 86_400;

pub(crate) fn image() -> Image {
    Image::new(40 << 20)
        .extent(0, 7 << 20, Fill::Random(1))
        .extent(30 << 20, 100_000, Fill::Text(2))
}

pub(crate) fn policy() -> LockPolicy {
    LockPolicy {
        days: 3,
        mode: LockMode::Compliance,
    }
}

pub(crate) struct Place {
    server: RealServer,
    pub(crate) client: Client,
    pub(crate) store: Arc<S3Store>,
}

/// A server with a bucket; `None` where it was not asked for.
pub(crate) async fn place(kind: Kind, can_lock: bool) -> Option<Place> {
    if !requested().unwrap().contains(&kind) {
        eprintln!("not run: STOCKPOT_TEST_S3 does not name {}", kind.name());
        return None;
    }
    let server = RealServer::start(kind).unwrap();
    let client = server.client();
    let make = client.create_bucket().bucket(BUCKET);
    make.object_lock_enabled_for_bucket(can_lock)
        .send()
        .await
        .unwrap();
    let store = connect(&server, &server.endpoint()).await;
    Some(Place {
        server,
        client,
        store,
    })
}

/// The place in the bucket, at that endpoint.
async fn connect(server: &RealServer, endpoint: &str) -> Arc<S3Store> {
    let keys = server.credentials();
    let config = S3Config {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        credentials: CredentialSource::Static {
            access_key_id: keys.access_key.clone(),
            secret_access_key: SecretString::from(keys.secret_key.expose_secret()),
            session_token: None,
        },
        ..S3Config::from_url(&format!("s3://{BUCKET}/some/prefix")).unwrap()
    };
    Arc::new(S3Store::connect(config).await.unwrap())
}

impl Place {
    pub(crate) fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// The same place through something in front of the server.
    pub(crate) async fn store_at(&self, endpoint: &str) -> Arc<S3Store> {
        connect(&self.server, endpoint).await
    }
}

pub(crate) async fn up(bench: &Bench, image: &Image, lock: Option<LockPolicy>) -> UploadReport {
    let mut request = bench.request();
    request.settings.lock = lock;
    bench.try_up(image, request).await.unwrap()
}

pub(crate) async fn versions(place: &Place, prefix: &str) -> Vec<ObjectVersion> {
    let store: &dyn ObjectStore = &*place.store;
    store.versions().unwrap().versions(prefix).await.unwrap()
}

/// All that plain credentials can do: every key deleted, or overwritten, or both; every version deleted that can be.
pub(crate) async fn rob(place: &Place, all_is_locked: bool) {
    let before = versions(place, "").await;
    for (at, version) in before
        .iter()
        .filter(|version| version.is_latest)
        .enumerate()
    {
        let key = format!("some/prefix/{}", version.key);
        if at % 3 != 0 {
            let put = place.client.put_object().bucket(BUCKET).key(&key);
            let body = ByteStream::from_static(b"give me a thousand coins");
            put.body(body).send().await.unwrap();
        }
        if at % 3 != 1 {
            let delete = place.client.delete_object().bucket(BUCKET).key(&key);
            delete.send().await.unwrap();
        }
    }
    for version in &before {
        let delete = place.client.delete_object().bucket(BUCKET);
        let key = format!("some/prefix/{}", version.key);
        let deleted = delete
            .key(&key)
            .version_id(&version.version_id)
            .send()
            .await;
        let is_needed = all_is_locked
            && !version.is_delete_marker
            && ["packs/", "snapshots/", "keys/", "repository.json"]
                .iter()
                .any(|prefix| version.key.starts_with(prefix));
        assert!(deleted.is_err() || !is_needed, "{key} could be deleted");
    }
}

async fn a_thief_gets_nothing(kind: Kind, sealed: bool) {
    let Some(place) = place(kind, true).await else {
        return;
    };
    let bench = Bench::on(place.store.clone(), sealed).await;
    let first = up(&bench, &image(), Some(policy())).await.manifest;
    let now = jiff::Timestamp::now().as_second();
    let until = first.lock.unwrap().until.as_second();
    assert!(
        (now + 3 * DAY_S - 5..=now + 4 * DAY_S).contains(&until),
        "{until} {now}"
    );
    let changed = image().extent(1 << 20, 10, Fill::Byte(1));
    let second = up(&bench, &changed, Some(policy())).await.manifest;
    let intents = versions(&place, "intents/").await;
    assert_eq!(intents, [], "what is never locked leaves no versions");

    // A prune would have to wait.
    let pack = bench.store.list("packs/", None).await.unwrap().objects[0]
        .key
        .clone();
    let kept = lock::purge(&*bench.store, &pack).await.unwrap();
    assert_eq!(kept, Purged::KeptUntil(until));
    bench.store.head(&pack).await.unwrap();

    rob(&place, false).await;
    let sealed_key = || sealed.then(key);
    let plain = Repository::open(place.store.clone(), sealed_key()).await;
    assert!(plain.is_err(), "{plain:?}");
    let repository = Repository::open_first(place.store.clone(), sealed_key())
        .await
        .unwrap();
    let found: Vec<_> = snapshots::list(&repository).await.unwrap();
    let found: Vec<_> = found.into_iter().filter_map(|s| s.manifest).collect();
    assert_eq!(found, [first.clone(), second.clone()]);
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let report = verify(&repository, None, &settings, &progress, &none).await;
    assert_eq!(report.unwrap().problems, []);
    let bench = Bench {
        repository,
        ..bench
    };
    for (manifest, image) in [(&first, image()), (&second, changed)] {
        let restored = bench.down(manifest).await;
        assert_eq!(image.first_difference(&restored).unwrap(), None);
    }
    // Reading only: nothing is written over what there is.
    let refused = bench.try_up(&image(), bench.request()).await;
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn versitygw() {
    a_thief_gets_nothing(Kind::Versitygw, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minio() {
    a_thief_gets_nothing(Kind::Minio, true).await;
    a_thief_gets_nothing(Kind::Minio, false).await;
}

/// What is shared is locked again once per period, and what was deleted by us stays deleted.
#[tokio::test(flavor = "multi_thread")]
async fn locks_are_asked_for_once_per_period() {
    let Some(place) = place(Kind::Minio, true).await else {
        return;
    };
    let bench = Bench::on(place.store.clone(), true).await;
    let unlocked = up(&bench, &image(), None).await.manifest;
    assert_eq!(unlocked.lock, None);
    let asked = |before| place.store.requests().put - before;
    let before = place.store.requests().put;
    let first = up(&bench, &image(), Some(policy())).await.manifest;
    // Packs of chunks and of the map, the list's, marker, slot; and intent and manifest.
    assert!(asked(before) >= 7, "{}", place.store.requests());
    let before = place.store.requests().put;
    let second = up(&bench, &image(), Some(policy())).await.manifest;
    assert_eq!(second.lock, first.lock);
    // The new list's pack is put and locked; intent, manifest; marker and slot, which are asked for each time.
    assert!(asked(before) <= 6, "{}", asked(before));
    let longer = LockPolicy {
        days: 9,
        ..policy()
    };
    let third = up(&bench, &image(), Some(longer)).await.manifest;
    assert!(third.lock.unwrap().until > first.lock.unwrap().until);
    // A lock that is longer already is not made shorter, and is no failure.
    up(&bench, &image(), Some(policy())).await;

    snapshots::delete(&bench.repository, &second.volume_id, &second.snapshot_id)
        .await
        .unwrap();
    rob(&place, false).await;
    let repository = Repository::open_first(place.store.clone(), Some(key()));
    let listed = snapshots::list(&repository.await.unwrap()).await.unwrap();
    let is_there = |id| {
        listed
            .iter()
            .any(|s| s.snapshot_id == id && s.manifest.is_some())
    };
    assert!(is_there(first.snapshot_id) && is_there(third.snapshot_id));
    // The tombstone was not locked and the thief removed it: what it hid is seen again.
    assert!(is_there(second.snapshot_id));
}

/// What is locked stays, visibly, and the prune says until when; what is not locked goes with all its versions.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_leaves_what_is_locked() {
    for kind in Kind::ALL {
        let Some(place) = place(kind, true).await else {
            continue;
        };
        let bench = Bench::on(place.store.clone(), true).await;
        let unlocked = up(&bench, &image(), None).await.manifest;
        let mut request = bench.request();
        request.base = BaseChoice::Nothing;
        request.settings.lock = Some(policy());
        let locked = bench.try_up(&image(), request).await.unwrap().manifest;
        for manifest in [&unlocked, &locked] {
            snapshots::delete(
                &bench.repository,
                &manifest.volume_id,
                &manifest.snapshot_id,
            )
            .await
            .unwrap();
        }
        let none = CancellationToken::new();
        let plan = prune::plan(&bench.repository, &PruneSettings::default(), &none)
            .await
            .unwrap();
        let report = prune::execute(plan).await.unwrap();
        let left = bench.store.list("packs/", None).await.unwrap().objects;
        assert!(
            report.deleted.packs > 0 && report.held.packs > 0,
            "{report:?}"
        );
        assert_eq!(report.held.packs, left.len() as u64);
        let of_locked = format!("/{}/", locked.snapshot_id);
        assert!(left.iter().all(|object| object.key.contains(&of_locked)));
        assert!(report.held_because.unwrap().contains("locked"));
        let all = versions(&place, "packs/").await;
        assert_eq!(
            all.len(),
            left.len(),
            "a version or a delete marker is left: {all:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_lock_is_refused_before_anything_is_written() {
    for kind in Kind::ALL {
        let Some(place) = place(kind, false).await else {
            continue;
        };
        let bench = Bench::on(place.store.clone(), true).await;
        let before = bench.store.list("", None).await.unwrap().objects;
        let mut request = bench.request();
        request.settings.lock = Some(policy());
        let error = bench.try_up(&image(), request).await.unwrap_err();
        assert!(
            matches!(error, RepositoryError::NoObjectLock { .. }),
            "{error:?}"
        );
        assert_eq!(bench.store.list("", None).await.unwrap().objects, before);
        // Without versions a deletion is a deletion.
        let gone = lock::purge(&*bench.store, &before[0].key).await.unwrap();
        assert_eq!(gone, Purged::Gone);
        assert!(bench.store.head(&before[0].key).await.is_err());
    }
}
