//! What lies below tombstones: snapshots that were deleted, in a bucket that keeps versions.
//!
//! Whoever took over a host has its key too, and deletes snapshots like their owner: the newest genuine record is a tombstone then.
//! Object Lock keeps the manifest below it, and what it needs, for the time of the lock. So they are looked for where
//! somebody asks for it, and only there: what the owner deleted is to stay deleted otherwise.

use futures::{StreamExt, TryStreamExt, stream};

use super::{RECORDS_IN_FLIGHT, SnapshotSummary, Status, find::find_in, list, opened};
use crate::{
    Repository, RepositoryError,
    format::{
        ids::{SnapshotId, VolumeId, snapshot_key},
        manifest::{Manifest, SnapshotRecord},
    },
};

/// As [`list`], and of a deleted snapshot what its newest genuine manifest says: its status stays deleted.
///
/// # Errors
/// As [`list`]; [`RepositoryError::Settings`] for a repository that was not opened by
/// [`open_first`](Repository::open_first).
pub async fn list_deleted(
    repository: &Repository,
) -> Result<Vec<SnapshotSummary>, RepositoryError> {
    view(repository)?;
    stream::iter(list(repository).await?)
        .map(|mut summary| async {
            if let (Status::Deleted, Some(volume)) = (&summary.status, &summary.volume_id) {
                summary.manifest = below(repository, volume, &summary.snapshot_id).await?;
            }
            Ok(summary)
        })
        .buffered(RECORDS_IN_FLIGHT)
        .try_collect()
        .await
}

/// As [`find`](super::find), deleted snapshots of which a manifest is left included.
///
/// # Errors
/// As [`find`](super::find); [`RepositoryError::Settings`] for a repository that was not opened by
/// [`open_first`](Repository::open_first).
pub async fn find_deleted(repository: &Repository, id: &str) -> Result<Manifest, RepositoryError> {
    view(repository)?;
    find_in(repository, id, true).await
}

/// The newest genuine manifest of a snapshot that has a tombstone.
///
/// # Errors
/// What is wrong with it; whatever the store says.
pub(crate) async fn below(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<Option<Manifest>, RepositoryError> {
    let key = snapshot_key(volume, snapshot);
    let Some(object) = view(repository)?.first_manifest(&key).await? else {
        return Ok(None);
    };
    Ok(match opened(repository, &key, &object)? {
        SnapshotRecord::Manifest(manifest, _) => Some(*manifest),
        SnapshotRecord::Tombstone(..) => None,
    })
}

fn view(repository: &Repository) -> Result<&crate::store::first::FirstVersions, RepositoryError> {
    repository.first_versions().ok_or_else(|| {
        RepositoryError::Settings(
            "deleted snapshots are seen only where the first versions of all objects are read"
                .to_owned(),
        )
    })
}
