//! Ending a snapshot: the tombstone, then what is left of its uploads.

use bytes::Bytes;

use super::{Unreadable, chain, record_at, remove_intents};
use crate::{
    Repository, RepositoryError,
    format::{
        ids::{SnapshotId, VolumeId, packs_of, snapshot_key},
        manifest::{RootRef, SnapshotRecord, Tombstone, now, tool},
    },
    store::{PutMode, StoreError},
};

/// A snapshot is decided once, so a refused tombstone finds a record with the next look.
const END_TRIES: u32 = 3;

/// Deletes a snapshot, or cancels an upload that is not committed: its id is used up after that, and an upload under
/// way will not be able to commit. What only it needed stays in the bucket until a prune. Deleting again is success.
///
/// # Errors
/// [`RepositoryError::KeyNeeded`]; [`RepositoryError::MarkerGone`] and [`RepositoryError::MarkerReplaced`], before anything is written;
/// whatever the store says.
pub async fn delete(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<(), RepositoryError> {
    repository.sealer_to_write()?;
    repository.check_marker().await?;
    end(repository, volume, snapshot).await?;
    // After the tombstone: an intent that is gone means that its upload is decided.
    remove_intents(repository, volume, snapshot, None, Unreadable::Goes).await?;
    abort_uploads(repository, volume, snapshot).await
}

/// Puts the tombstone, whatever is committed meanwhile. It takes over where the pack list of the manifest lies, so nothing is
/// replaced that was not read.
async fn end(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<(), RepositoryError> {
    let key = snapshot_key(volume, snapshot);
    let mut refused = 0;
    loop {
        let (mode, reason, pack_list) = match record_at(repository, &key).await {
            Ok(Some(SnapshotRecord::Tombstone(..))) => return Ok(()),
            Ok(Some(SnapshotRecord::Manifest(manifest, _))) => {
                (PutMode::Overwrite, "deleted", manifest.pack_list)
            }
            Ok(None) => (PutMode::IfAbsent, "cancelled", None),
            // Whatever lies there, it is to go.
            Err(error) if error.is_of_one_object() => (PutMode::Overwrite, "deleted", None),
            Err(error) => return Err(error),
        };
        let body = tombstone(repository, volume, snapshot, reason, pack_list)?;
        match repository.store().put(&key, body, mode).await {
            // Decided since the look: the next look sees how.
            Err(StoreError::AlreadyExists { .. }) if refused < END_TRIES => refused += 1,
            done => return Ok(done?),
        }
    }
}

/// A tombstone as an object.
pub(crate) fn tombstone(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
    reason: &str,
    pack_list: Option<RootRef>,
) -> Result<Bytes, RepositoryError> {
    let tombstone = Tombstone {
        snapshot_id: snapshot.clone(),
        volume_id: volume.clone(),
        deleted_at: now(),
        reason: reason.to_owned(),
        pack_list,
        tool: tool(),
    };
    let object = repository
        .sealer_to_write()?
        .seal_record(&snapshot_key(volume, snapshot), &tombstone)
        .map_err(|source| RepositoryError::Unstorable {
            what: "the tombstone".to_owned(),
            source,
        })?;
    Ok(Bytes::from(object.bytes))
}

/// Aborts the multipart uploads that earlier attempts at a snapshot left open (a crash does). Only for a
/// snapshot that nobody is uploading now: an attempt under way would fail.
///
/// What the credentials may not do, or the store refuses, is said in the log, and left to a prune with other credentials or to a
/// lifecycle rule.
///
/// # Errors
/// Any other failure of the store.
pub async fn abort_uploads(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<(), RepositoryError> {
    let store = repository.store();
    let open = match store.multipart_list(&packs_of(volume, snapshot)).await {
        Ok(open) => open,
        Err(StoreError::Unsupported { what, .. }) => {
            tracing::debug!(what, "open uploads cannot be listed");
            return Ok(());
        }
        // Somebody fills the bucket with uploads: a lifecycle rule aborts them, and these.
        Err(error @ StoreError::Integrity { .. }) => {
            tracing::warn!(
                %snapshot,
                error = chain(&error),
                "open multipart uploads cannot be listed, so none is aborted"
            );
            return Ok(());
        }
        Err(error) if is_refusal(&error) => {
            tracing::warn!(
                %snapshot,
                error = chain(&error),
                "open multipart uploads cannot be listed, so none is aborted; the credentials need s3:ListBucketMultipartUploads"
            );
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    for upload in &open {
        tracing::info!(
            key = upload.key,
            "aborting what an earlier attempt left open"
        );
        match store.multipart_abort(upload).await {
            Ok(()) => {}
            Err(error) if is_refusal(&error) => tracing::warn!(
                key = upload.key,
                error = chain(&error),
                "a multipart upload cannot be aborted; a prune tries again"
            ),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether asking again is of no use.
fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::AccessDenied { .. } | StoreError::Refused { .. }
    )
}
