//! What is done with key slots once a repository is open: they come and go, and data stays as it is.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{
    Repository,
    objects::read_object,
    slots::{self, KnownSlot, slot_keys, slot_name},
};
use crate::{
    RepositoryError,
    format::{
        ids::{ObjectId, slot_key},
        keys::KeySource,
        limits::{SLOTS_MAX, SMALL_OBJECT_MAX},
        slot::{Slot, SlotKind},
    },
    lock::{self, Purged},
    snapshots::chain,
    store::{PutMode, StoreError},
};

/// A key slot in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSummary {
    /// Its id.
    pub id: String,
    /// What opens it; `None` if it cannot be read.
    pub kind: Option<SlotKind>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// What trying a passphrase on it takes: memory in KiB, times passes. 0 for a secret file.
    pub work_kib: u64,
    /// Whether this repository was opened through it.
    pub is_current: bool,
    /// Whether it lies behind the slots that are tried when nobody names one.
    pub is_beyond: bool,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

impl Repository {
    /// The key slots, in the order in which they are tried. Nobody vouches for them: whoever writes to the bucket can put
    /// others there, which open nothing.
    ///
    /// # Errors
    /// Only if the bucket does not answer.
    pub async fn key_slots(&self) -> Result<Vec<SlotSummary>, RepositoryError> {
        let mut found = Vec::new();
        for (at, object_key) in slot_keys(&**self.store()).await?.into_iter().enumerate() {
            if let Some(slot) = self.slot_summary(&object_key, at >= SLOTS_MAX).await? {
                found.push(slot);
            }
        }
        Ok(found)
    }

    async fn slot_summary(
        &self,
        object_key: &str,
        is_beyond: bool,
    ) -> Result<Option<SlotSummary>, RepositoryError> {
        let read = match read_object(&**self.store(), object_key, SMALL_OBJECT_MAX).await {
            Ok(None) => return Ok(None),
            Ok(Some(object)) => {
                Slot::parse(object_key, self.id(), &object).map_err(|error| chain(&error))
            }
            Err(error) if error.is_of_one_object() => Err(chain(&error)),
            Err(error) => return Err(error),
        };
        let id = slot_name(object_key);
        let is_current = self.opened_slot().is_some_and(|slot| slot.as_str() == id);
        Ok(Some(match read {
            Ok(slot) => SlotSummary {
                id,
                kind: Some(slot.kind),
                created_at: Some(slot.created_at),
                work_kib: slot.work_kib(),
                is_current,
                is_beyond,
                problem: None,
            },
            Err(problem) => SlotSummary {
                id,
                kind: None,
                created_at: None,
                work_kib: 0,
                is_current,
                is_beyond,
                problem: Some(problem),
            },
        }))
    }

    /// Adds a slot that the source opens. Whoever opened the repository may do this, also with an exported key.
    ///
    /// # Errors
    /// [`RepositoryError::KeyNeeded`]; [`RepositoryError::NoKeys`]; [`RepositoryError::TooManySlots`];
    /// [`RepositoryError::Unstorable`] for an exported key, which is what slots wrap.
    pub async fn add_key_slot(&self, source: KeySource) -> Result<ObjectId, RepositoryError> {
        self.sealer_to_write()?;
        let key = self.key()?;
        let slots = slot_keys(&**self.store()).await?.len();
        if slots >= SLOTS_MAX {
            return Err(RepositoryError::TooManySlots {
                location: self.location(),
                slots,
            });
        }
        let put = slots::put_slot(&**self.store(), self.id(), Arc::new(source), key.clone());
        Ok(put.await?.id)
    }

    /// Removes a slot: what opened it opens nothing any more. It does not take the repository key from anybody who had it; and where
    /// the bucket keeps an old version of it ([`Purged::Hidden`]), whoever reads versions still has the slot itself.
    ///
    /// Something that is known to open the repository has to be left: the slot that this repository was opened through, byte
    /// for byte as it was then, or an exported key that is shown or was used. That other slots are listed proves nothing: whoever writes to the bucket can put
    /// some there.
    ///
    /// # Errors
    /// [`RepositoryError::UnknownSlot`]; [`RepositoryError::LastSlot`]; [`RepositoryError::OwnSlot`];
    /// [`RepositoryError::OtherKey`] for an exported key of another repository; [`RepositoryError::KeyNeeded`];
    /// [`RepositoryError::NoKeys`]. Where it is not certain afterwards that something is left that opens, the slot is put back.
    pub async fn remove_key_slot(
        &self,
        slot: &ObjectId,
        exported: Option<&KeySource>,
    ) -> Result<Purged, RepositoryError> {
        self.sealer_to_write()?;
        let id = self.key()?.id();
        if let Some(source) = exported
            && source.exported().is_none_or(|key| key.id() != id)
        {
            return Err(RepositoryError::OtherKey {
                location: self.location(),
            });
        }
        let proven = match &self.0.slot {
            Some(opened) if exported.is_none() => Some(opened),
            _ => None,
        };
        let store = self.store();
        let object_key = slot_key(slot);
        let object = match read_object(&**store, &object_key, SMALL_OBJECT_MAX).await {
            Ok(Some(object)) => Some(object),
            Ok(None) => {
                return Err(RepositoryError::UnknownSlot {
                    slot: slot.to_string(),
                    location: self.location(),
                });
            }
            // Whatever lies there, it is to go.
            Err(error) if error.is_of_one_object() => None,
            Err(error) => return Err(error),
        };
        if let Some(proven) = proven {
            self.check_other(slot, proven).await?;
        }
        let removed = lock::delete(&**store, &object_key).await;
        let certain = match (removed, proven) {
            (Err(error), _) => Err(error.into()),
            // Two at a time may each have removed the other's slot.
            (Ok(purged), Some(proven)) => self.check_other(slot, proven).await.map(|()| purged),
            (Ok(purged), None) => Ok(purged),
        };
        if let (Err(_), Some(object)) = (&certain, object) {
            self.put_back(&object_key, object).await;
        }
        certain
    }

    /// Whether a slot may go: the one that is known to open is another one, and is there as it was when it opened.
    async fn check_other(
        &self,
        slot: &ObjectId,
        proven: &KnownSlot,
    ) -> Result<(), RepositoryError> {
        if *slot == proven.id {
            let slots = self.key_slots().await?;
            let is_beside = |other: &SlotSummary| other.kind.is_some() && other.id != slot.as_str();
            return Err(if slots.iter().any(is_beside) {
                RepositoryError::OwnSlot {
                    slot: slot.to_string(),
                    location: self.location(),
                }
            } else {
                self.last_slot(slot)
            });
        }
        let object_key = slot_key(&proven.id);
        let what = match read_object(&**self.store(), &object_key, SMALL_OBJECT_MAX).await {
            Ok(Some(found)) if found == proven.object => return Ok(()),
            Ok(Some(_)) => "somebody overwrote it".to_owned(),
            Ok(None) => "it is gone".to_owned(),
            Err(error) if error.is_of_one_object() => chain(&error),
            Err(error) => return Err(error),
        };
        tracing::error!(
            object = object_key,
            what,
            "the key slot that was opened just now opens nothing any more"
        );
        Err(self.last_slot(slot))
    }

    async fn put_back(&self, object_key: &str, object: Bytes) {
        match self
            .store()
            .put(object_key, object, PutMode::IfAbsent)
            .await
        {
            Ok(()) | Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => tracing::error!(
                object = object_key,
                error = chain(&error),
                "the key slot could not be put back: make sure that another one opens the repository, or export its key now"
            ),
        }
    }

    fn last_slot(&self, slot: &ObjectId) -> RepositoryError {
        RepositoryError::LastSlot {
            slot: slot.to_string(),
            location: self.location(),
        }
    }

    /// The repository key as a line of text. As a key file it opens the repository, also when no slot is left.
    ///
    /// # Errors
    /// [`RepositoryError::KeyNeeded`]; [`RepositoryError::NoKeys`].
    pub fn export_key(&self) -> Result<Zeroizing<String>, RepositoryError> {
        self.sealer()?;
        Ok(self.key()?.export())
    }

    /// The slot that the repository was opened through; `None` with an exported key, and where nothing is sealed.
    #[must_use]
    pub fn opened_slot(&self) -> Option<&ObjectId> {
        self.0.slot.as_ref().map(|slot| &slot.id)
    }
    /// Object key and content of that slot, as it was read or put.
    pub(crate) fn slot_object(&self) -> Option<(String, &Bytes)> {
        let slot = self.0.slot.as_ref()?;
        Some((slot_key(&slot.id), &slot.object))
    }
}
