//! What earlier prunes saw: a memory in the bucket that makes a vanished manifest stop a prune.
//!
//! A list is removed only after another one that holds all of it was put, so at every moment, whoever is killed and
//! however many prunes there are, the lists together name every snapshot that any prune saw.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    Repository, RepositoryError,
    format::{
        ids::{ObjectId, SEEN_PREFIX, SnapshotId, VolumeId, seen_key, snapshot_key},
        manifest::{now, tool},
        protocol::{Seen, SeenVolume},
        record::Record as _,
    },
    repository::{list_keys, read_object, too_many},
    store::PutMode,
};

/// Snapshots in one list: far below what an object may hold.
const LIST_SNAPSHOTS_MAX: usize = 100_000;

/// Snapshots in all lists: as many as a listing of records may have.
const SNAPSHOTS_MAX: usize = 1 << 20;

/// How often the lists are read anew because one was replaced while they were read.
const TRIES: usize = 5;

/// A snapshot as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LastSeen {
    /// With a manifest.
    Committed,
    /// With a tombstone.
    Ended,
}

/// All that the lists of a repository say.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Object keys of the lists.
    keys: Vec<String>,
    /// Object keys of the snapshots.
    pub(super) snapshots: BTreeMap<String, LastSeen>,
}

/// The snapshots that prunes saw, by their object keys.
///
/// # Errors
/// If a list cannot be read.
pub(crate) async fn known(
    repository: &Repository,
) -> Result<BTreeMap<String, LastSeen>, RepositoryError> {
    Ok(read(repository).await?.snapshots)
}

/// Reads all lists.
///
/// # Errors
/// If one cannot be read.
pub(super) async fn read(repository: &Repository) -> Result<Lists, RepositoryError> {
    for _ in 1..TRIES {
        if let Some(lists) = read_once(repository).await? {
            return Ok(lists);
        }
    }
    read_once(repository)
        .await?
        .ok_or_else(|| RepositoryError::Inconsistent {
            object: SEEN_PREFIX.to_owned(),
            problem: "its objects keep being replaced while they are read".to_owned(),
        })
}

/// `None` if a list was replaced meanwhile: its successor is to be read too.
async fn read_once(repository: &Repository) -> Result<Option<Lists>, RepositoryError> {
    let (store, sealer) = (repository.store(), repository.sealer()?);
    let mut lists = Lists::default();
    for meta in list_keys(&**store, SEEN_PREFIX).await? {
        let Some(object) = read_object(&**store, &meta.key, Seen::OBJECT_MAX).await? else {
            return Ok(None);
        };
        let (seen, _) = sealer
            .open_record::<Seen>(&meta.key, &object)
            .map_err(|source| RepositoryError::object(&meta.key, None, source))?;
        for volume in seen.volumes {
            let committed = volume.committed.iter().map(|id| (id, LastSeen::Committed));
            let ended = volume.ended.iter().map(|id| (id, LastSeen::Ended));
            for (id, last) in committed.chain(ended) {
                let key = snapshot_key(&volume.volume_id, id);
                // Once ended, always ended, whichever list is the newer one.
                let known = lists.snapshots.entry(key).or_insert(last);
                *known = last.max(*known);
            }
            let count = lists.snapshots.len();
            too_many(SEEN_PREFIX, "snapshots", count, SNAPSHOTS_MAX)?;
        }
        lists.keys.push(meta.key);
    }
    Ok(Some(lists))
}

/// Puts what was seen now, which includes all that `before` holds, then removes the lists of `before`. Does nothing where
/// they say the same already.
///
/// # Errors
/// Whatever the store says: then the old lists are there still.
pub(super) async fn replace(
    repository: &Repository,
    before: &Lists,
    snapshots: &BTreeMap<(VolumeId, SnapshotId), LastSeen>,
) -> Result<(), RepositoryError> {
    let same = snapshots.len() == before.snapshots.len()
        && snapshots.iter().all(|((volume, snapshot), last)| {
            before.snapshots.get(&snapshot_key(volume, snapshot)) == Some(last)
        });
    let parts = snapshots.len().div_ceil(LIST_SNAPSHOTS_MAX);
    if same && before.keys.len() == parts {
        return Ok(());
    }
    let mut rest = snapshots.iter();
    let mut put = BTreeSet::new();
    for _ in 0..parts {
        put.insert(put_list(repository, rest.by_ref().take(LIST_SNAPSHOTS_MAX)).await?);
    }
    for key in before.keys.iter().filter(|key| !put.contains(*key)) {
        repository.store().delete(key).await?;
    }
    Ok(())
}

async fn put_list<'a>(
    repository: &Repository,
    snapshots: impl Iterator<Item = (&'a (VolumeId, SnapshotId), &'a LastSeen)>,
) -> Result<String, RepositoryError> {
    let mut volumes: Vec<SeenVolume> = Vec::new();
    for ((volume, snapshot), last) in snapshots {
        if volumes.last().is_none_or(|last| last.volume_id != *volume) {
            volumes.push(SeenVolume {
                volume_id: volume.clone(),
                committed: Vec::new(),
                ended: Vec::new(),
            });
        }
        if let Some(of_volume) = volumes.last_mut() {
            match last {
                LastSeen::Committed => of_volume.committed.push(snapshot.clone()),
                LastSeen::Ended => of_volume.ended.push(snapshot.clone()),
            }
        }
    }
    let unstorable = |source| RepositoryError::Unstorable {
        what: "the list of snapshots seen".to_owned(),
        source,
    };
    let prune_id = ObjectId::generate("seen").map_err(unstorable)?;
    let key = seen_key(&prune_id);
    let seen = Seen {
        prune_id,
        volumes,
        seen_at: now(),
        tool: tool(),
    };
    let object = repository
        .sealer_to_write()?
        .seal_record(&key, &seen)
        .map_err(unstorable)?;
    repository
        .store()
        .put(&key, Bytes::from(object.bytes), PutMode::Overwrite)
        .await?;
    Ok(key)
}
