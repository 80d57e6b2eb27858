//! Making and opening: what is refused, and in which words.

use std::sync::Arc;

use bytes::Bytes;
use stockpot_repository::{
    CreateOptions, Opened, Repository, RepositoryError,
    format::keys::KeySource,
    snapshots::{self, Status},
    store::{MemoryStore, ObjectStore, PutMode},
};
use stockpot_test_fixtures::image::{Fill, Image};

use crate::support::{Bench, key};

fn options(key: Option<KeySource>) -> CreateOptions {
    CreateOptions {
        key,
        ..CreateOptions::default()
    }
}

fn store() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryStore::new())
}

#[tokio::test]
async fn made_once_then_opened() {
    let store = store();
    let (made, how) = Repository::open_or_create(store.clone(), options(Some(key())))
        .await
        .unwrap();
    assert!(matches!(how, Opened::Created(_)));
    let (opened, how) = Repository::open_or_create(store.clone(), options(Some(key())))
        .await
        .unwrap();
    assert_eq!(how, Opened::Existing);
    assert_eq!(made.id(), opened.id());
    let again = Repository::create(store, options(None)).await;
    assert!(matches!(again, Err(RepositoryError::AlreadyThere { .. })));
}

#[tokio::test]
async fn nothing_there_and_something_else_there() {
    let store = store();
    let opened = Repository::open(store.clone(), None).await;
    assert!(matches!(opened, Err(RepositoryError::NoRepository { .. })));
    let body = Bytes::from_static(b"mine");
    store
        .put("photos/cat.jpg", body, PutMode::Overwrite)
        .await
        .unwrap();
    for result in [
        Repository::open(store.clone(), None).await.map(drop),
        Repository::create(store.clone(), options(None))
            .await
            .map(drop),
        Repository::open_or_create(store.clone(), options(None))
            .await
            .map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("photos/cat.jpg"), "{error}");
    }
    assert_eq!(store.list("", None).await.unwrap().objects.len(), 1);
}

#[tokio::test]
async fn keys_that_do_not_fit() {
    let passphrase = |text: &str| Some(KeySource::from_passphrase(text.as_bytes()).unwrap());
    let sealed = store();
    Repository::create(sealed.clone(), options(passphrase("correct horse")))
        .await
        .unwrap();
    Repository::open(sealed.clone(), passphrase("correct horse\n"))
        .await
        .unwrap();
    let message = async |key| {
        let opened = Repository::open(sealed.clone(), key).await;
        opened.map(drop).unwrap_err().to_string()
    };
    assert!(message(None).await.contains("is sealed"));
    assert!(
        message(passphrase("wrong"))
            .await
            .contains("wrong passphrase")
    );
    assert!(message(Some(key())).await.contains("wrong key file"));
    let open = store();
    Repository::create(open.clone(), options(None))
        .await
        .unwrap();
    let refused = Repository::open_or_create(open, options(Some(key()))).await;
    assert!(matches!(refused, Err(RepositoryError::NotSealed { .. })));
}

#[tokio::test]
async fn made_by_a_newer_version() {
    let store = store();
    Repository::create(store.clone(), options(None))
        .await
        .unwrap();
    let marker = store.get("repository.json", usize::MAX).await.unwrap();
    let text = String::from_utf8(marker.to_vec()).unwrap();
    for (old, new) in [
        ("\"format\":1", "\"format\":2"),
        ("\"requires\":[]", "\"requires\":[\"time-travel\"]"),
    ] {
        let body = Bytes::from(text.replace(old, new));
        store
            .put("repository.json", body, PutMode::Overwrite)
            .await
            .unwrap();
        let error = Repository::open(store.clone(), None).await.unwrap_err();
        assert!(matches!(error, RepositoryError::Newer { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_ids_are_seen_and_nothing_else() {
    let bench = Bench::new(true).await;
    let image = Image::new(1 << 20).extent(0, 5000, Fill::Text(1));
    let manifest = bench.up(&image).await.manifest;
    let locked = Repository::open_locked(bench.store.clone()).await.unwrap();
    let listed = snapshots::list(&locked).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].snapshot_id, manifest.snapshot_id);
    assert_eq!(listed[0].status, Status::Committed);
    assert!(listed[0].manifest.is_none());
    let found = snapshots::find(&locked, manifest.snapshot_id.as_str()).await;
    assert!(matches!(found, Err(RepositoryError::KeyNeeded { .. })));
}

#[tokio::test]
async fn many_makers_make_one() {
    let store = store();
    let makers = (0..8).map(|_| Repository::open_or_create(store.clone(), options(Some(key()))));
    let made = futures::future::join_all(makers).await;
    let ids: Vec<_> = made
        .iter()
        .map(|made| made.as_ref().unwrap().0.id())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    Repository::open(store, Some(key())).await.unwrap();
}
