//! Removing the intents of a snapshot that is decided: none of its attempts can commit any more.
//!
//! A snapshot id is used once by whoever draws it at random, but a caller may give his own, and intents are named by the snapshot
//! alone. So an intent goes only if it is of the volume that was decided: another volume's upload may still rely on its own.

use crate::{
    Repository, RepositoryError,
    format::{
        ids::{Run, SnapshotId, VolumeId, intents_of, parse_intent_key},
        protocol::Intent,
    },
    repository::list_keys,
};

/// What is done with an intent that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It stays: it may be another volume's.
    Stays,
    /// It goes: somebody asked for this snapshot id to end.
    Goes,
}

/// Removes the intents of a snapshot of a volume. `own` is the caller's run, whose intent need not be read. Returns how many
/// requests that took.
///
/// # Errors
/// Whatever the store says.
pub(crate) async fn remove_intents(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
    own: Option<Run>,
    unreadable: Unreadable,
) -> Result<u64, RepositoryError> {
    let store = repository.store();
    let mut requests = 1;
    for meta in list_keys(&**store, &intents_of(snapshot)).await? {
        let run = parse_intent_key(&meta.key).ok().map(|(_, run)| run);
        if own.is_none() || run != own {
            requests += 1;
            match volume_of(repository, &meta.key).await? {
                Owner::Volume(found) if found == *volume => {}
                Owner::Unknown if unreadable == Unreadable::Goes => {}
                Owner::Gone => continue,
                Owner::Volume(_) | Owner::Unknown => {
                    tracing::warn!(
                        intent = meta.key,
                        "this intent is of another volume, or cannot be read: it stays"
                    );
                    continue;
                }
            }
        }
        requests += 1;
        store.delete(&meta.key).await?;
    }
    Ok(requests)
}

/// Whose an intent is.
enum Owner {
    Volume(VolumeId),
    Unknown,
    Gone,
}

async fn volume_of(repository: &Repository, key: &str) -> Result<Owner, RepositoryError> {
    let sealer = repository.sealer()?;
    match super::read_small(repository, key).await {
        Ok(None) => Ok(Owner::Gone),
        Ok(Some(object)) => Ok(sealer
            .open_record::<Intent>(key, &object)
            .map_or(Owner::Unknown, |(intent, _)| {
                Owner::Volume(intent.volume_id)
            })),
        Err(error) if error.is_of_one_object() => Ok(Owner::Unknown),
        Err(error) => Err(error),
    }
}
