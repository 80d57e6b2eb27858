//! Key slots: wrapping the repository's key when it is made, and finding the slot that opens.

use std::sync::Arc;

use bytes::Bytes;

use super::{blocking, list_keys, read_object};
use crate::{
    RepositoryError,
    format::{
        FormatError,
        ids::{ObjectId, RepositoryId, SLOTS_PREFIX, slot_key},
        keys::{KeySource, RepositoryKey},
        limits::{SLOTS_MAX, SMALL_OBJECT_MAX},
        marker::Marker,
        slot::{KdfCost, Opened, Slot},
    },
    store::{ObjectStore, PutMode},
};

/// Puts a slot that the source opens, and returns its object key.
pub(super) async fn put_slot(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    source: Arc<KeySource>,
    key: RepositoryKey,
) -> Result<String, RepositoryError> {
    let unstorable = |source| RepositoryError::Unstorable {
        what: "the repository's key".to_owned(),
        source,
    };
    let name = format!(
        "slot-{}",
        ulid::Ulid::generate().to_string().to_ascii_lowercase()
    );
    let slot = ObjectId::new(name).map_err(unstorable)?;
    let object_key = slot_key(&slot);
    let object = blocking(move || Slot::seal(&slot, repository, &source, &key, KdfCost::default()))
        .await?
        .map_err(unstorable)?;
    store
        .put(&object_key, Bytes::from(object), PutMode::IfAbsent)
        .await?;
    Ok(object_key)
}

/// Tries the slots one after the other. A damaged slot does not keep another from opening.
pub(super) async fn unwrap_key(
    store: &dyn ObjectStore,
    marker: &Marker,
    source: Arc<KeySource>,
) -> Result<RepositoryKey, RepositoryError> {
    let slots = list_keys(store, SLOTS_PREFIX).await?;
    let mut damaged = None;
    let mut tried = 0;
    for meta in slots.iter().take(SLOTS_MAX) {
        let object = match read_object(store, &meta.key, SMALL_OBJECT_MAX).await {
            Ok(Some(object)) => object,
            Ok(None) => continue,
            Err(error) if error.is_of_one_object() => {
                damaged = Some(unreadable(&meta.key, error));
                continue;
            }
            Err(error) => return Err(error),
        };
        match try_slot(&meta.key, marker, &object, &source).await? {
            Ok(Opened::Key(key)) if Some(key.id()) == marker.key_id => return Ok(key),
            Ok(_) => tried += 1,
            Err(source) => {
                let error = RepositoryError::object(meta.key.clone(), None, source);
                damaged = Some(unreadable(&meta.key, error));
            }
        }
    }
    // With no slot left to be wrong about, the damage is what the user has to know.
    match damaged {
        Some(error) if tried == 0 => Err(error),
        _ => Err(RepositoryError::WrongKey {
            location: store.location(),
            given: match *source {
                KeySource::File(_) => "key file",
                KeySource::Passphrase(_) => "passphrase",
            },
            slots: slots.len(),
        }),
    }
}

fn unreadable(slot: &str, error: RepositoryError) -> RepositoryError {
    tracing::warn!(
        slot,
        error = &error as &dyn std::error::Error,
        "a key slot cannot be read"
    );
    error
}

async fn try_slot(
    object_key: &str,
    marker: &Marker,
    object: &Bytes,
    source: &Arc<KeySource>,
) -> Result<Result<Opened, FormatError>, RepositoryError> {
    let slot = match Slot::parse(object_key, marker.id, object) {
        Ok(slot) => slot,
        Err(error) => return Ok(Err(error)),
    };
    let (object, source) = (object.clone(), source.clone());
    blocking(move || slot.open(&object, &source)).await
}
