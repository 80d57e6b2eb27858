//! Finding one snapshot, by its id or the start of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{deleted::below, read_record};
use crate::{
    Repository, RepositoryError,
    format::{
        ids::{SNAPSHOTS_PREFIX, SnapshotId, VolumeId, intents_of, parse_snapshot_key},
        manifest::{Manifest, SnapshotRecord},
    },
    repository::list_keys,
};

/// The start of an id may fit so many, deleted ones included, before it is called ambiguous without a look.
const FITTING_MAX: usize = 64;

/// The committed snapshot of an id, or of the start of an id that fits only one. Deleted ones do not count
/// unless the whole id is given.
///
/// # Errors
/// [`RepositoryError::UnknownSnapshot`], [`RepositoryError::AmbiguousSnapshot`], [`RepositoryError::Deleted`],
/// [`RepositoryError::NotCommitted`], and what is wrong with its manifest.
pub async fn find(repository: &Repository, id: &str) -> Result<Manifest, RepositoryError> {
    find_in(repository, id, false).await
}

/// As [`find`], with deleted ones of which there is a manifest, or without.
pub(super) async fn find_in(
    repository: &Repository,
    id: &str,
    with_deleted: bool,
) -> Result<Manifest, RepositoryError> {
    let unknown = || RepositoryError::UnknownSnapshot {
        snapshot: id.to_owned(),
        location: repository.location(),
    };
    let keys = list_keys(&**repository.store(), SNAPSHOTS_PREFIX).await?;
    let mut fitting: BTreeMap<SnapshotId, Vec<VolumeId>> = BTreeMap::new();
    for meta in keys {
        if let Ok((volume, snapshot)) = parse_snapshot_key(&meta.key)
            && !id.is_empty()
            && snapshot.as_str().starts_with(id)
        {
            fitting.entry(snapshot).or_default().push(volume);
        }
    }
    if let Some((exact, volumes)) = fitting.iter().find(|(snapshot, _)| snapshot.as_str() == id) {
        let [volume] = volumes.as_slice() else {
            return Err(ambiguous(
                id,
                volumes.iter().map(|v| format!("{v}/{exact}")),
            ));
        };
        return manifest_in(repository, volume, exact, with_deleted).await;
    }
    if fitting.len() > FITTING_MAX {
        return Err(ambiguous(id, fitting.keys().map(SnapshotId::to_string)));
    }
    let mut live = Vec::new();
    for (snapshot, volumes) in fitting {
        for volume in volumes {
            match manifest_in(repository, &volume, &snapshot, with_deleted).await {
                Err(RepositoryError::Deleted { .. }) => {}
                found => live.push((snapshot.clone(), found)),
            }
        }
    }
    match live.len() {
        0 if is_uploading(repository, id).await? => Err(RepositoryError::NotCommitted {
            snapshot: id.to_owned(),
        }),
        0 => Err(unknown()),
        1 => live.remove(0).1,
        _ => Err(ambiguous(id, live.iter().map(|(id, _)| id.to_string()))),
    }
}

/// The volumes under which a snapshot of this id has a record, deleted ones included: read from the keys alone.
///
/// # Errors
/// Only if the bucket cannot be listed.
pub async fn volumes_of(
    repository: &Repository,
    snapshot: &SnapshotId,
) -> Result<Vec<VolumeId>, RepositoryError> {
    let keys = list_keys(&**repository.store(), SNAPSHOTS_PREFIX).await?;
    let records = keys
        .iter()
        .filter_map(|meta| parse_snapshot_key(&meta.key).ok());
    Ok(records
        .filter(|(_, found)| found == snapshot)
        .map(|(volume, _)| volume)
        .collect())
}

/// The volume that the upload of a snapshot is of, as far as an intent of it tells.
///
/// # Errors
/// Only if the bucket does not answer.
pub async fn volume_uploading(
    repository: &Repository,
    snapshot: &SnapshotId,
) -> Result<Option<VolumeId>, RepositoryError> {
    for meta in list_keys(&**repository.store(), &intents_of(snapshot)).await? {
        let found = super::uploading(repository, &meta.key, &BTreeSet::new()).await?;
        if let Some(volume) = found.and_then(|found| found.volume_id) {
            return Ok(Some(volume));
        }
    }
    Ok(None)
}

pub(super) async fn is_uploading(
    repository: &Repository,
    id: &str,
) -> Result<bool, RepositoryError> {
    let Ok(snapshot) = SnapshotId::new(id) else {
        return Ok(false);
    };
    let intents = list_keys(&**repository.store(), &intents_of(&snapshot)).await?;
    Ok(!intents.is_empty())
}

fn ambiguous(prefix: &str, found: impl Iterator<Item = String>) -> RepositoryError {
    let found: Vec<String> = found.collect();
    RepositoryError::AmbiguousSnapshot {
        prefix: prefix.to_owned(),
        count: found.len(),
        first: found.first().cloned().unwrap_or_default(),
        second: found.get(1).cloned().unwrap_or_default(),
    }
}

/// The manifest of a committed snapshot.
///
/// # Errors
/// [`RepositoryError::UnknownSnapshot`], [`RepositoryError::Deleted`], [`RepositoryError::NotCommitted`],
/// [`RepositoryError::Damaged`], [`RepositoryError::Newer`].
pub async fn manifest(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<Manifest, RepositoryError> {
    manifest_in(repository, volume, snapshot, false).await
}

async fn manifest_in(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
    with_deleted: bool,
) -> Result<Manifest, RepositoryError> {
    match read_record(repository, volume, snapshot).await? {
        Some(SnapshotRecord::Manifest(manifest, _)) => Ok(*manifest),
        Some(SnapshotRecord::Tombstone(..)) => {
            let found = match with_deleted {
                true => below(repository, volume, snapshot).await?,
                false => None,
            };
            found.ok_or_else(|| RepositoryError::Deleted {
                snapshot: snapshot.to_string(),
            })
        }
        None if is_uploading(repository, snapshot.as_str()).await? => {
            Err(RepositoryError::NotCommitted {
                snapshot: snapshot.to_string(),
            })
        }
        None => Err(RepositoryError::UnknownSnapshot {
            snapshot: snapshot.to_string(),
            location: repository.location(),
        }),
    }
}
