//! Key slots come and go; data stays, and nobody can shut himself out unawares.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::{
    CreateOptions, Repository, RepositoryError,
    format::{
        ids::{ObjectId, slot_key},
        keys::KeySource,
    },
    store::{ObjectStore, PutMode, StoreError},
};
use stockpot_test_fixtures::image::{Fill, Image};

use crate::{
    layer::{Layer, Over},
    support::{Bench, key},
};

fn secret(byte: u8) -> KeySource {
    KeySource::from_secret(&[byte; 40]).unwrap()
}

fn passphrase() -> KeySource {
    KeySource::from_passphrase(b"correct horse").unwrap()
}

async fn open(bench: &Bench, key: KeySource) -> Result<Repository, RepositoryError> {
    Repository::open(bench.store.clone(), Some(key)).await
}

fn image() -> Image {
    Image::new(1 << 20).extent(1000, 100_000, Fill::Random(1))
}

/// A slot's object, under another name: what somebody with write access to the bucket can make of it.
async fn copy_slot(bench: &Bench, from: &ObjectId, to: &str, change: impl Fn(String) -> String) {
    let object = bench.store.get(&format!("keys/{from}.json"), 1 << 16).await;
    let text = String::from_utf8(object.unwrap().to_vec()).unwrap();
    let text = change(text.replace(from.as_str(), to));
    let key = format!("keys/{to}.json");
    let body = Bytes::from(text);
    bench
        .store
        .put(&key, body, PutMode::Overwrite)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_added_opens_and_one_that_was_removed_does_not() {
    let bench = Bench::new(true).await;
    let manifest = bench.up(&image()).await.manifest;
    let packs = bench.store.list("packs/", None).await.unwrap().objects;
    let first = bench.repository.opened_slot().unwrap().clone();
    let added = bench.repository.add_key_slot(passphrase()).await.unwrap();
    let by_phrase = open(&bench, passphrase()).await.unwrap();
    assert_eq!(by_phrase.opened_slot(), Some(&added));
    let slots = by_phrase.key_slots().await.unwrap();
    assert_eq!(slots.len(), 2);
    let current: Vec<_> = slots.iter().filter(|slot| slot.is_current).collect();
    assert_eq!(current[0].id, added.to_string());

    by_phrase.remove_key_slot(&first, None).await.unwrap();
    let error = open(&bench, key()).await.unwrap_err();
    assert!(
        matches!(error, RepositoryError::WrongKey { .. }),
        "{error:?}"
    );
    let error = by_phrase.remove_key_slot(&first, None).await.unwrap_err();
    assert!(
        matches!(error, RepositoryError::UnknownSlot { .. }),
        "{error:?}"
    );

    // No pack was touched, and the data comes back through what is left.
    assert_eq!(
        bench.store.list("packs/", None).await.unwrap().objects,
        packs
    );
    let bench = Bench {
        repository: open(&bench, passphrase()).await.unwrap(),
        ..bench
    };
    let restored = bench.down(&manifest).await;
    assert_eq!(image().first_difference(&restored).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_slot_stays_unless_an_exported_key_is_shown() {
    let bench = Bench::new(true).await;
    let manifest = bench.up(&image()).await.manifest;
    let slot = bench.repository.opened_slot().unwrap().clone();
    let remove = |exported: Option<KeySource>| {
        let (repository, slot) = (bench.repository.clone(), slot.clone());
        async move { repository.remove_key_slot(&slot, exported.as_ref()).await }
    };
    let error = remove(None).await.unwrap_err();
    assert!(
        matches!(error, RepositoryError::LastSlot { .. }),
        "{error:?}"
    );
    // A slot that is damaged is none: it would not open.
    copy_slot(&bench, &slot, "slot-broken", |text| {
        text.replace("\"salt\"", "\"sugar\"")
    })
    .await;
    let error = remove(None).await.unwrap_err();
    assert!(
        matches!(error, RepositoryError::LastSlot { .. }),
        "{error:?}"
    );
    let stranger = Bench::new(true).await.repository.export_key().unwrap();
    for wrong in [
        secret(9),
        KeySource::from_secret(stranger.as_bytes()).unwrap(),
    ] {
        let error = remove(Some(wrong)).await.unwrap_err();
        assert!(
            matches!(error, RepositoryError::OtherKey { .. }),
            "{error:?}"
        );
    }
    open(&bench, key()).await.unwrap();

    let exported = bench.repository.export_key().unwrap();
    let exported = KeySource::from_secret(exported.as_bytes()).unwrap();
    remove(Some(exported.clone())).await.unwrap();
    let error = open(&bench, key()).await.unwrap_err();
    assert!(
        !matches!(error, RepositoryError::NoRepository { .. }),
        "{error:?}"
    );

    // The exported key alone: it restores, and makes a slot again.
    let opened = open(&bench, exported).await.unwrap();
    assert_eq!(opened.opened_slot(), None);
    let added = opened.add_key_slot(secret(3)).await.unwrap();
    let again = open(&bench, secret(3)).await.unwrap();
    assert_eq!(again.opened_slot(), Some(&added));
    let bench = Bench {
        repository: again,
        ..bench
    };
    let restored = bench.down(&manifest).await;
    assert_eq!(image().first_difference(&restored).unwrap(), None);
}

/// A slot that is well-formed and opens nothing.
fn zero_check(text: &str) -> String {
    let check = text.find("\"check\":\"").unwrap() + 9;
    let zeroes = "0".repeat(64);
    format!("{}{zeroes}{}", &text[..check], &text[check + 64..])
}

async fn forged(bench: &Bench, slot: &ObjectId) -> Bytes {
    let object = bench.store.get(&slot_key(slot), 1 << 16).await.unwrap();
    Bytes::from(zero_check(std::str::from_utf8(&object).unwrap()))
}

/// Whoever overwrites the slot that we came in by, with one that looks like a slot, does not make us delete the last real one.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_stays_if_the_opened_one_was_overwritten() {
    let bench = Bench::new(true).await;
    let opened = bench.repository.opened_slot().unwrap().clone();
    let real = bench.repository.add_key_slot(passphrase()).await.unwrap();
    let forged = forged(&bench, &opened).await;
    bench
        .store
        .put(&slot_key(&opened), forged, PutMode::Overwrite)
        .await
        .unwrap();
    let slots = bench.repository.key_slots().await.unwrap();
    assert!(slots.iter().all(|slot| slot.kind.is_some()), "{slots:?}");
    let error = bench.repository.remove_key_slot(&real, None).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, RepositoryError::LastSlot { .. }),
        "{error:?}"
    );
    open(&bench, passphrase()).await.unwrap();
}

/// Somebody else can put slots there that open nothing: that they are listed does not prove that anything opens.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_that_was_opened_stays_unless_another_key_is_proven() {
    let bench = Bench::new(true).await;
    let opened = bench.repository.opened_slot().unwrap().clone();
    copy_slot(&bench, &opened, "slot-forged", |text| zero_check(&text)).await;
    bench.repository.add_key_slot(passphrase()).await.unwrap();
    let error = bench
        .repository
        .remove_key_slot(&opened, None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RepositoryError::OwnSlot { .. }),
        "{error:?}"
    );
    open(&bench, key()).await.unwrap();
    // Opened through the other one it goes.
    let other = open(&bench, passphrase()).await.unwrap();
    other.remove_key_slot(&opened, None).await.unwrap();
    open(&bench, passphrase()).await.unwrap();
    // Whoever opened it with the exported key has that.
    let exported = KeySource::from_secret(other.export_key().unwrap().as_bytes()).unwrap();
    let by_export = open(&bench, exported).await.unwrap();
    let slot = other.opened_slot().unwrap();
    by_export.remove_key_slot(slot, None).await.unwrap();
}

/// Two at the same time, each removing what the other has; and a bucket that goes away in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_comes_back_when_it_is_not_certain_that_another_is_left() {
    let bench = Bench::new(true).await;
    let opened = bench.repository.opened_slot().unwrap().clone();
    let other = bench.repository.add_key_slot(passphrase()).await.unwrap();
    let overwritten = Fault::OverwrittenWithIt(slot_key(&opened), forged(&bench, &opened).await);
    for fault in [
        Fault::GoneWithIt(slot_key(&opened)),
        overwritten,
        Fault::NoAnswer,
    ] {
        let before = bench.store.list("keys/", None).await.unwrap().objects;
        let slot = bench.store.get(&slot_key(&opened), 1 << 16).await.unwrap();
        let layer = Over(Meddling {
            inner: bench.store.clone(),
            fault,
            has_deleted: AtomicBool::new(false),
        });
        let repository = Repository::open(Arc::new(layer), Some(key()))
            .await
            .unwrap();
        repository.remove_key_slot(&other, None).await.unwrap_err();
        bench
            .store
            .put(&slot_key(&opened), slot, PutMode::Overwrite)
            .await
            .unwrap();
        let after = bench.store.list("keys/", None).await.unwrap().objects;
        assert_eq!(after.len(), before.len());
        open(&bench, passphrase()).await.unwrap();
    }
}

/// What happens as a slot is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// Somebody else deletes this object at the same moment.
    GoneWithIt(String),
    /// Somebody else overwrites this object at the same moment.
    OverwrittenWithIt(String, Bytes),
    /// From then on nothing can be read.
    NoAnswer,
}

#[derive(Debug)]
struct Meddling {
    inner: Arc<dyn ObjectStore>,
    fault: Fault,
    has_deleted: AtomicBool,
}

#[async_trait]
impl Layer for Meddling {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.has_deleted.store(true, Ordering::SeqCst);
        self.inner.delete(key).await?;
        match &self.fault {
            Fault::GoneWithIt(other) => self.inner.delete(other).await,
            Fault::OverwrittenWithIt(other, with) => {
                self.inner
                    .put(other, with.clone(), PutMode::Overwrite)
                    .await
            }
            Fault::NoAnswer => Ok(()),
        }
    }
    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        if self.fault == Fault::NoAnswer && self.has_deleted.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                endpoint: "the test".to_owned(),
                doing: "reading".to_owned(),
                attempts: 1,
                source: "injected".into(),
            });
        }
        self.inner.get(key, bytes_max).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_key_fits_its_own_repository_only() {
    let (one, other) = (Bench::new(true).await, Bench::new(true).await);
    let exported = one.repository.export_key().unwrap();
    let exported = KeySource::from_secret(exported.as_bytes()).unwrap();
    let error = open(&other, exported.clone()).await.unwrap_err();
    assert!(
        matches!(error, RepositoryError::OtherKey { .. }),
        "{error:?}"
    );
    let error = one
        .repository
        .add_key_slot(exported.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RepositoryError::Unstorable { .. }),
        "{error:?}"
    );
    let options = CreateOptions {
        key: Some(exported),
        ..CreateOptions::default()
    };
    let empty: std::sync::Arc<dyn stockpot_repository::store::ObjectStore> =
        std::sync::Arc::new(stockpot_repository::store::MemoryStore::new());
    let error = Repository::create(empty.clone(), options)
        .await
        .unwrap_err();
    assert!(matches!(error, RepositoryError::Settings(_)), "{error:?}");
    assert!(empty.list("", None).await.unwrap().objects.is_empty());
    let unsealed = Bench::new(false).await.repository;
    let error = unsealed.export_key().unwrap_err();
    assert!(matches!(error, RepositoryError::NoKeys { .. }), "{error:?}");
}

/// Slots that a stranger put first cost a bounded time, are named, and do not keep the owner out.
#[tokio::test(flavor = "multi_thread")]
async fn strange_slots_cost_a_bounded_time() {
    let bench = Bench::new(true).await;
    let mine = bench.repository.add_key_slot(passphrase()).await.unwrap();
    // As much as one slot may ask for, behind one that takes a share of it.
    let greedy = |text: String| {
        let text = text.replace(
            "\"m_kib\":65536,\"t\":3,\"p\":4",
            "\"m_kib\":1048576,\"t\":4,\"p\":1",
        );
        assert!(text.contains("1048576"), "{text}");
        text
    };
    let strange = |text: String| text.replace("\"check\":\"", "\"check\":\"0");
    copy_slot(&bench, &mine, "a-0", strange).await;
    copy_slot(&bench, &mine, "b-1", greedy).await;
    let opened = open(&bench, passphrase()).await.unwrap();
    assert_eq!(opened.opened_slot(), Some(&mine));
    let wrong = KeySource::from_passphrase(b"battery staple").unwrap();
    let error = open(&bench, wrong.clone()).await.unwrap_err();
    let RepositoryError::WrongKey { untried, slots, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((*slots, &untried[..]), (4, &["b-1".to_owned()][..]));
    assert!(error.to_string().contains("name the slot"), "{error}");
    let named = open(&bench, wrong.for_slot(mine.clone())).await;
    assert!(named.is_err());
    let named = open(&bench, passphrase().for_slot(mine.clone())).await;
    assert_eq!(named.unwrap().opened_slot(), Some(&mine));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_slots_than_are_read() {
    let bench = Bench::new(true).await;
    for byte in 1..16 {
        bench.repository.add_key_slot(secret(byte)).await.unwrap();
    }
    let error = bench.repository.add_key_slot(secret(16)).await.unwrap_err();
    assert!(
        matches!(error, RepositoryError::TooManySlots { slots: 16, .. }),
        "{error:?}"
    );
    let opened = open(&bench, secret(15)).await.unwrap();
    let slot = opened.opened_slot().unwrap().clone();
    // Somebody pushes them all back.
    for at in 0..16 {
        copy_slot(&bench, &slot, &format!("a-{at}"), |text| {
            text.replace("\"check\":\"", "\"check\":\"0")
        })
        .await;
    }
    let error = open(&bench, secret(15)).await.unwrap_err();
    assert!(
        error.to_string().contains("15 more were not tried"),
        "{error}"
    );
    open(&bench, secret(15).for_slot(slot)).await.unwrap();
    let missing = ObjectId::new("slot-nowhere").unwrap();
    let error = open(&bench, secret(15).for_slot(missing))
        .await
        .unwrap_err();
    assert!(
        matches!(error, RepositoryError::UnknownSlot { .. }),
        "{error:?}"
    );
}
