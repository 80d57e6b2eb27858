//! What is in a repository: listing, finding and deleting snapshots.

mod cache;
mod delete;
mod deleted;
mod find;
mod history;
mod intents;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

pub use cache::{RecordCache, RecordRoom};
pub(crate) use delete::tombstone;
pub use delete::{abort_uploads, delete};
pub(crate) use deleted::below as manifest_below;
pub use deleted::{find_deleted, list_deleted};
use find::is_uploading;
pub use find::{find, manifest, volume_uploading, volumes_of};
pub(crate) use history::{Below, below, newest_genuine};
pub(crate) use intents::{Unreadable, remove_intents};

use crate::{
    Repository, RepositoryError,
    format::{
        ids::{
            INTENTS_PREFIX, SNAPSHOTS_PREFIX, SnapshotId, VolumeId, parse_intent_key,
            parse_snapshot_key, snapshot_key,
        },
        limits::SMALL_OBJECT_MAX,
        manifest::{Manifest, SnapshotRecord},
        protocol::Intent,
        record::{RecordKind, peek},
    },
    repository::{list_keys, read_object, too_many},
    store::ObjectMeta,
};

/// Records read at the same time.
const RECORDS_IN_FLIGHT: usize = 16;

/// Bytes of the manifests of one listing, as stored; in memory they take twice as much and more.
const MANIFESTS_BYTES_MAX: usize = 512 << 20;

/// How far a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Complete: it can be restored.
    Committed,
    /// Deleted or cancelled; its id is used up.
    Deleted,
    /// An upload is under way, or was broken off.
    Uploading,
    /// Its record is there and cannot be read; the text says why.
    Unreadable(String),
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Committed => "committed",
            Status::Deleted => "deleted",
            Status::Uploading => "uploading",
            Status::Unreadable(_) => "unreadable",
        })
    }
}

/// One snapshot of a listing. What is `None` is not known: the snapshot is not committed, or the repository was opened
/// without its key.
#[derive(Debug, Clone)]
pub struct SnapshotSummary {
    /// Its id.
    pub snapshot_id: SnapshotId,
    /// Its volume's id; unknown for an intent that cannot be read.
    pub volume_id: Option<VolumeId>,
    /// How far it is.
    pub status: Status,
    /// All that is known of a committed one.
    pub manifest: Option<Manifest>,
    /// When the upload of one that is not committed began.
    pub started_at: Option<Timestamp>,
}

impl SnapshotSummary {
    /// The volume as people call it: its name, else its id.
    #[must_use]
    pub fn volume(&self) -> Option<&str> {
        match &self.manifest {
            Some(manifest) if !manifest.volume_name.is_empty() => Some(&manifest.volume_name),
            _ => self.volume_id.as_ref().map(VolumeId::as_str),
        }
    }

    /// The moment its content is of.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        self.manifest.as_ref().map(|manifest| manifest.cut_at)
    }

    /// What it was built on.
    #[must_use]
    pub fn parent(&self) -> Option<&SnapshotId> {
        let base = self.manifest.as_ref()?.base.as_ref()?;
        Some(&base.snapshot_id)
    }
}

/// All snapshots: by volume, then by the moment of their content. Nothing that is there is left out: what cannot be read is
/// listed as such.
///
/// # Errors
/// Only if the bucket cannot be listed or does not answer.
pub async fn list(repository: &Repository) -> Result<Vec<SnapshotSummary>, RepositoryError> {
    list_with(repository, &RecordCache::default()).await
}

/// As [`list`], without reading again what an earlier listing of this repository read.
///
/// # Errors
/// As [`list`].
pub async fn list_with(
    repository: &Repository,
    cache: &RecordCache,
) -> Result<Vec<SnapshotSummary>, RepositoryError> {
    let store = repository.store();
    // Intents first: one that is committed meanwhile is then seen as a manifest, not missed.
    let intents = list_keys(&**store, INTENTS_PREFIX).await?;
    let records = list_keys(&**store, SNAPSHOTS_PREFIX).await?;
    cache.keep_only(&records);
    let mut found: Vec<SnapshotSummary> = Vec::new();
    let mut bytes = 0;
    let mut reading = stream::iter(records)
        .map(|meta| measured(repository, cache, meta))
        .buffered(RECORDS_IN_FLIGHT);
    while let Some((length, summary)) = reading.try_next().await? {
        let Some(summary) = summary else { continue };
        if summary.manifest.is_some() {
            bytes += length;
            too_many(
                SNAPSHOTS_PREFIX,
                "bytes of manifests",
                bytes,
                MANIFESTS_BYTES_MAX,
            )?;
        }
        found.push(summary);
    }
    drop(reading);
    let mut known: BTreeSet<SnapshotId> = found.iter().map(|s| s.snapshot_id.clone()).collect();
    for meta in intents {
        // A snapshot may have the intents of several attempts.
        if let Some(uploading) = uploading(repository, &meta.key, &known).await? {
            known.insert(uploading.snapshot_id.clone());
            found.push(uploading);
        }
    }
    found.sort_by(|a, b| {
        let order = |s: &SnapshotSummary| {
            (
                s.volume_id.clone(),
                s.created_at().or(s.started_at),
                s.snapshot_id.clone(),
            )
        };
        order(a).cmp(&order(b))
    });
    Ok(found)
}

/// How many bytes of the record were read, now or when it was kept, and what it says. What a listing says of its size is not relied on.
async fn measured(
    repository: &Repository,
    cache: &RecordCache,
    meta: ObjectMeta,
) -> Result<(usize, Option<SnapshotSummary>), RepositoryError> {
    if let Some((length, known)) = cache.get(&meta) {
        return Ok((length, Some(known)));
    }
    let (length, read) = summary(repository, meta.key.clone()).await?;
    if let Some(read) = &read {
        cache.put(&meta, length, read);
    }
    Ok((length, read))
}

/// How many bytes of a record were read, and what it says; nothing of what is not ours, or gone.
async fn summary(
    repository: &Repository,
    key: String,
) -> Result<(usize, Option<SnapshotSummary>), RepositoryError> {
    let Ok((volume_id, snapshot_id)) = parse_snapshot_key(&key) else {
        tracing::warn!(key, "this object does not belong to the repository");
        return Ok((0, None));
    };
    let mut summary = SnapshotSummary {
        snapshot_id,
        volume_id: Some(volume_id),
        status: Status::Committed,
        manifest: None,
        started_at: None,
    };
    let mut length = 0;
    let read = match repository.sealer() {
        Ok(_) => read_small(repository, &key).await,
        Err(error) => Err(error),
    };
    let record = read.and_then(|object| {
        length = object.as_ref().map_or(0, Bytes::len);
        let opened = object.map(|object| opened(repository, &key, &object));
        opened.transpose()
    });
    match record {
        Ok(Some(SnapshotRecord::Manifest(manifest, _))) => summary.manifest = Some(*manifest),
        Ok(Some(SnapshotRecord::Tombstone(..))) => summary.status = Status::Deleted,
        Ok(None) => return Ok((0, None)),
        Err(RepositoryError::KeyNeeded { .. }) => {
            summary.status = sealed_status(repository, &key).await?;
        }
        Err(error) if error.is_of_one_object() => {
            summary.status = Status::Unreadable(chain(&error));
        }
        Err(error) => return Err(error),
    }
    Ok((length, Some(summary)))
}

/// Without the key only the kind of a record can be seen.
async fn sealed_status(repository: &Repository, key: &str) -> Result<Status, RepositoryError> {
    let object = match read_small(repository, key).await {
        Ok(Some(object)) => object,
        Ok(None) => return Ok(Status::Unreadable("it has just gone".to_owned())),
        Err(error) if error.is_of_one_object() => return Ok(Status::Unreadable(chain(&error))),
        Err(error) => return Err(error),
    };
    Ok(match peek(&object) {
        Ok(head) if head.kind == RecordKind::Manifest => Status::Committed,
        Ok(head) if head.kind == RecordKind::Tombstone => Status::Deleted,
        Ok(head) => Status::Unreadable(format!("it is a {}", head.kind.word())),
        Err(error) => Status::Unreadable(chain(&error)),
    })
}

async fn uploading(
    repository: &Repository,
    key: &str,
    known: &BTreeSet<SnapshotId>,
) -> Result<Option<SnapshotSummary>, RepositoryError> {
    let id = parse_intent_key(key).ok().map(|(id, _)| id);
    let Some(snapshot_id) = id.filter(|id| !known.contains(id)) else {
        return Ok(None);
    };
    let object = match read_small(repository, key).await {
        Ok(Some(object)) => Ok(object),
        Ok(None) => return Ok(None),
        Err(error) if error.is_of_one_object() => Err(chain(&error)),
        Err(error) => return Err(error),
    };
    let intent = repository.sealer().ok().map(|sealer| {
        let (intent, _) = sealer
            .open_record::<Intent>(key, &object?)
            .map_err(|error| chain(&error))?;
        Ok(intent)
    });
    let (status, intent) = match intent {
        Some(Ok(intent)) => (Status::Uploading, Some(intent)),
        Some(Err(why)) => (Status::Unreadable(why), None),
        None => (Status::Uploading, None),
    };
    Ok(Some(SnapshotSummary {
        snapshot_id,
        volume_id: intent.as_ref().map(|intent| intent.volume_id.clone()),
        status,
        manifest: None,
        started_at: intent.map(|intent| intent.started_at),
    }))
}

/// How far a snapshot is; `None` if nothing in the bucket knows of it.
///
/// # Errors
/// Only if the bucket does not answer.
pub async fn status(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<Option<Status>, RepositoryError> {
    let (_, found) = summary(repository, snapshot_key(volume, snapshot)).await?;
    match found {
        Some(summary) => Ok(Some(summary.status)),
        None if is_uploading(repository, snapshot.as_str()).await? => Ok(Some(Status::Uploading)),
        None => Ok(None),
    }
}

/// What lies under a snapshot's key.
pub(crate) async fn read_record(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<Option<SnapshotRecord>, RepositoryError> {
    record_at(repository, &snapshot_key(volume, snapshot)).await
}

/// A manifest, tombstone or intent.
async fn read_small(repository: &Repository, key: &str) -> Result<Option<Bytes>, RepositoryError> {
    read_object(&**repository.store(), key, SMALL_OBJECT_MAX).await
}

/// What lies under the key of a snapshot.
pub(crate) async fn record_at(
    repository: &Repository,
    key: &str,
) -> Result<Option<SnapshotRecord>, RepositoryError> {
    repository.sealer()?;
    match read_small(repository, key).await? {
        Some(object) => opened(repository, key, &object).map(Some),
        None => Ok(None),
    }
}

/// What an object under a snapshot's key says.
fn opened(
    repository: &Repository,
    key: &str,
    object: &[u8],
) -> Result<SnapshotRecord, RepositoryError> {
    let record = SnapshotRecord::open(repository.sealer()?, key, object)
        .map_err(|source| RepositoryError::object(key, None, source))?;
    if let SnapshotRecord::Manifest(manifest, _) = &record
        && manifest.chunk_size_bytes != repository.chunk_size_bytes()
    {
        return Err(RepositoryError::Inconsistent {
            object: key.to_owned(),
            problem: "its chunk size is not that of the repository".to_owned(),
        });
    }
    Ok(record)
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{CreateOptions, store::MemoryStore};

    #[tokio::test]
    async fn what_was_read_counts_and_not_what_a_listing_says() {
        let store = Arc::new(MemoryStore::new());
        let made = Repository::create(store.clone(), CreateOptions::default()).await;
        let (repository, _) = made.unwrap();
        let (volume, snapshot) = (VolumeId::new("v").unwrap(), SnapshotId::new("s").unwrap());
        delete(&repository, &volume, &snapshot).await.unwrap();
        let key = snapshot_key(&volume, &snapshot);
        let stored = store.peek(&key).unwrap().len();
        let cache = RecordCache::default();
        // The second time it is not read any more.
        for from_bucket in [true, false] {
            let meta = ObjectMeta {
                key: key.clone(),
                size_bytes: 0,
                modified_at_s: 0,
            };
            let (length, summary) = measured(&repository, &cache, meta).await.unwrap();
            assert_eq!(length, stored, "from the bucket: {from_bucket}");
            assert_eq!(summary.unwrap().status, Status::Deleted);
            store.tamper(&key, None);
        }
    }
}
