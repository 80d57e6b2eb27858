//! What the versions of a record say, in a bucket that keeps versions. The key tells ours from what somebody put there.

use crate::{
    Repository, RepositoryError,
    format::{limits::SMALL_OBJECT_MAX, manifest::SnapshotRecord},
    repository::too_many,
    store::{
        StoreError,
        versions::{ObjectVersion, Versions},
    },
};

/// Versions of one record that are read: more of them are somebody's, and what is below them is not known.
const VERSIONS_READ_MAX: usize = 1000;

/// What the versions of a record say.
#[derive(Debug)]
pub(crate) enum Below {
    /// No manifest: there are no versions, or the newest genuine one is a tombstone.
    Nothing,
    /// The newest genuine one is a manifest, so the snapshot was committed and never ended.
    Manifest,
    /// The same, and nothing hides it: it came in sight since the snapshots were listed.
    InSight,
    /// The credentials may not look; what the store said.
    Denied(StoreError),
}

/// Looks at the versions of the record of this key, which was not in sight. `before_each` is called before each request.
///
/// # Errors
/// As [`newest_genuine`]; if the versions cannot be listed.
pub(crate) async fn below(
    repository: &Repository,
    key: &str,
    before_each: impl Fn() -> Result<(), RepositoryError> + Sync,
) -> Result<Below, RepositoryError> {
    let Some(versions) = repository.store().versions() else {
        return Ok(Below::Nothing);
    };
    before_each()?;
    match versions.versions_of(key).await {
        Ok(history) => newest_genuine(repository, versions, &history, before_each).await,
        Err(error @ StoreError::AccessDenied { .. }) => Ok(Below::Denied(error)),
        // A store that knows nothing of versions.
        Err(StoreError::Refused { .. } | StoreError::Unsupported { .. }) => Ok(Below::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// Of the versions of one record, the newest first, what the newest one says that the key vouches for. `before_each` is called before each request.
///
/// # Errors
/// [`RepositoryError::TooMany`] for more versions than anybody writes; if one cannot be read; whatever `before_each` says.
pub(crate) async fn newest_genuine(
    repository: &Repository,
    versions: &dyn Versions,
    history: &[ObjectVersion],
    before_each: impl Fn() -> Result<(), RepositoryError> + Sync,
) -> Result<Below, RepositoryError> {
    let sealer = repository.sealer()?;
    let candidates = history
        .iter()
        .filter(|version| !version.is_delete_marker)
        .filter(|version| version.size_bytes <= SMALL_OBJECT_MAX as u64);
    // Somebody may have put what we may not read above what we wrote.
    let mut denied = None;
    for (before, version) in candidates.enumerate() {
        before_each()?;
        let key = &version.key;
        too_many(key, "versions", before + 1, VERSIONS_READ_MAX)?;
        let read = versions.get_version(key, &version.version_id, SMALL_OBJECT_MAX);
        let body = match read.await {
            Ok(body) => body,
            // Removed since the listing; or no record.
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => continue,
            Err(error @ StoreError::AccessDenied { .. }) => {
                denied.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match SnapshotRecord::open(sealer, key, &body) {
            Ok(SnapshotRecord::Manifest(..)) if version.is_latest => return Ok(Below::InSight),
            Ok(SnapshotRecord::Manifest(..)) => return Ok(Below::Manifest),
            Ok(SnapshotRecord::Tombstone(..)) if denied.is_none() => return Ok(Below::Nothing),
            Ok(SnapshotRecord::Tombstone(..)) => break,
            // What does not open is somebody else's.
            Err(_) => {}
        }
    }
    Ok(denied.map_or(Below::Nothing, Below::Denied))
}
