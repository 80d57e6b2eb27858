//! Key slots: wrapping the repository's key, and finding the slot that opens.
//!
//! Whoever can write to the bucket can put slots of his own there. They open nothing, but each costs a reader time: so no
//! more than 16 are looked at, and trying passphrases has a budget for all of them together. What was not tried is
//! named, and a slot that the user names is tried whatever else is there.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    blocking,
    listing::{PAGES_MAX, too_many},
    objects::read_object,
};
use crate::{
    RepositoryError,
    format::{
        FormatError,
        ids::{ObjectId, RepositoryId, SLOTS_PREFIX, slot_key},
        keys::{KeySource, RepositoryKey},
        limits::{SLOTS_MAX, SLOTS_WORK_KIB_MAX, SMALL_OBJECT_MAX},
        marker::Marker,
        object_keys::is_ours,
        slot::{KdfCost, Opened, Slot},
    },
    store::{ObjectStore, PutMode},
};

/// More slots than this are not even counted.
const SLOTS_COUNTED_MAX: usize = 1000;

/// A slot, and its object as it was read or put.
#[derive(Clone)]
pub(super) struct KnownSlot {
    pub(super) id: ObjectId,
    pub(super) object: Bytes,
}

/// Puts a slot that the source opens.
pub(super) async fn put_slot(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    source: Arc<KeySource>,
    key: RepositoryKey,
) -> Result<KnownSlot, RepositoryError> {
    let unstorable = |source| RepositoryError::Unstorable {
        what: "the repository's key".to_owned(),
        source,
    };
    let name = format!(
        "slot-{}",
        ulid::Ulid::generate().to_string().to_ascii_lowercase()
    );
    let id = ObjectId::new(name).map_err(unstorable)?;
    let sealed = id.clone();
    let object =
        blocking(move || Slot::seal(&sealed, repository, &source, &key, KdfCost::default()))
            .await?
            .map_err(unstorable)?;
    let object = Bytes::from(object);
    store
        .put(&slot_key(&id), object.clone(), PutMode::IfAbsent)
        .await?;
    Ok(KnownSlot { id, object })
}

/// Object keys of the slots, ascending, as far as they are counted; other names are passed over.
pub(super) async fn slot_keys(store: &dyn ObjectStore) -> Result<Vec<String>, RepositoryError> {
    let mut found = Vec::new();
    let mut from = None;
    for pages in 1.. {
        let page = store.list(SLOTS_PREFIX, from.as_deref()).await?;
        let keys = page.objects.into_iter().map(|meta| meta.key);
        found.extend(keys.filter(|key| is_ours(key)));
        too_many(SLOTS_PREFIX, "pages of the listing", pages, PAGES_MAX)?;
        from = page.next;
        if from.is_none() || found.len() >= SLOTS_COUNTED_MAX {
            break;
        }
    }
    found.truncate(SLOTS_COUNTED_MAX);
    Ok(found)
}

/// The repository's key, and the slot that it was in; an exported key was in none.
pub(super) async fn unwrap_key(
    store: &dyn ObjectStore,
    marker: &Marker,
    source: Arc<KeySource>,
) -> Result<Found, RepositoryError> {
    if let Some(key) = source.exported() {
        if Some(key.id()) == marker.key_id {
            return Ok((key.clone(), None));
        }
        return Err(RepositoryError::OtherKey {
            location: store.location(),
        });
    }
    let mut search = Search {
        store,
        marker,
        source: &source,
        work_left_kib: SLOTS_WORK_KIB_MAX,
        looked_at: 0,
        tried: 0,
        damaged: None,
        untried: Vec::new(),
    };
    match source.slot() {
        Some(slot) => search.named(slot).await,
        None => search.any().await,
    }
}

/// Looking for the slot that opens.
struct Search<'a> {
    store: &'a dyn ObjectStore,
    marker: &'a Marker,
    source: &'a Arc<KeySource>,
    work_left_kib: u64,
    looked_at: usize,
    tried: usize,
    damaged: Option<RepositoryError>,
    untried: Vec<String>,
}

/// A key and the slot it was in.
type Found = (RepositoryKey, Option<KnownSlot>);

impl Search<'_> {
    async fn named(&mut self, slot: &ObjectId) -> Result<Found, RepositoryError> {
        let object_key = slot_key(slot);
        let Some(object) = read_object(self.store, &object_key, SMALL_OBJECT_MAX).await? else {
            return Err(RepositoryError::UnknownSlot {
                slot: slot.to_string(),
                location: self.store.location(),
            });
        };
        self.looked_at = 1;
        // Whoever names a slot says that it is worth the time.
        self.work_left_kib = u64::MAX;
        match self.open(&object_key, &object).await? {
            Some(found) => Ok(found),
            None => Err(self.failure()),
        }
    }

    /// One after the other. A damaged slot does not keep another from opening.
    async fn any(&mut self) -> Result<Found, RepositoryError> {
        let mut keys = slot_keys(self.store).await?;
        let beyond = keys.split_off(keys.len().min(SLOTS_MAX));
        for object_key in keys {
            match read_object(self.store, &object_key, SMALL_OBJECT_MAX).await {
                Ok(Some(object)) => {
                    self.looked_at += 1;
                    if let Some(found) = self.open(&object_key, &object).await? {
                        return Ok(found);
                    }
                }
                Ok(None) => {}
                Err(error) if error.is_of_one_object() => {
                    self.looked_at += 1;
                    self.damaged = Some(unreadable(&object_key, error));
                }
                Err(error) => return Err(error),
            }
        }
        self.untried.extend(beyond.iter().map(|key| slot_name(key)));
        Err(self.failure())
    }

    async fn open(
        &mut self,
        object_key: &str,
        read: &Bytes,
    ) -> Result<Option<Found>, RepositoryError> {
        let slot = match Slot::parse(object_key, self.marker.id, read) {
            Ok(slot) => slot,
            Err(error) => {
                self.set_damaged(object_key, error);
                return Ok(None);
            }
        };
        let id = slot.slot.clone();
        if slot.is_for(self.source) {
            match self.work_left_kib.checked_sub(slot.work_kib()) {
                Some(left) => self.work_left_kib = left,
                None => {
                    self.untried.push(id.to_string());
                    return Ok(None);
                }
            }
        }
        let (object, source) = (read.clone(), self.source.clone());
        match blocking(move || slot.open(&object, &source)).await? {
            Ok(Opened::Key(key)) if Some(key.id()) == self.marker.key_id => {
                let object = read.clone();
                return Ok(Some((key, Some(KnownSlot { id, object }))));
            }
            Ok(_) => self.tried += 1,
            Err(error) => self.set_damaged(object_key, error),
        }
        Ok(None)
    }

    fn set_damaged(&mut self, object_key: &str, source: FormatError) {
        let error = RepositoryError::object(object_key, None, source);
        self.damaged = Some(unreadable(object_key, error));
    }

    fn failure(&mut self) -> RepositoryError {
        // With no slot left to be wrong about, the damage is what the user has to know.
        match self.damaged.take() {
            Some(error) if self.tried == 0 && self.untried.is_empty() => error,
            _ => RepositoryError::WrongKey {
                location: self.store.location(),
                given: self.source.kind(),
                slots: self.looked_at,
                untried: std::mem::take(&mut self.untried),
            },
        }
    }
}

/// A slot's id as its object key has it, for people.
pub(super) fn slot_name(object_key: &str) -> String {
    let name = object_key.strip_prefix(SLOTS_PREFIX).unwrap_or(object_key);
    name.strip_suffix(".json").unwrap_or(name).to_owned()
}

fn unreadable(slot: &str, error: RepositoryError) -> RepositoryError {
    tracing::warn!(
        slot,
        error = &error as &dyn std::error::Error,
        "a key slot cannot be read"
    );
    error
}
