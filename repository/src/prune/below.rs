//! What lies below a record that is gone, in a bucket that keeps versions: somebody who has our credentials and not the key
//! can delete a manifest, and then its packs look like those of an upload that died.

use super::{
    PruneError,
    survey::{Place, Survey},
};
use crate::{
    RepositoryError,
    format::{ids::snapshot_key, limits::SMALL_OBJECT_MAX, manifest::SnapshotRecord},
    store::StoreError,
};

/// What the old versions of a record say.
#[derive(Debug)]
pub(super) enum Below {
    /// No manifest: there are no versions, or the newest genuine one is a tombstone.
    Nothing,
    /// The newest genuine one is a manifest, so the snapshot was committed and never ended.
    Manifest,
    /// The credentials may not look; what the store said.
    Denied(StoreError),
}

/// Looks at the versions of a snapshot's record, which is not in sight. The key tells ours from what somebody put there.
///
/// # Errors
/// If the store does not answer, or a version cannot be read.
pub(super) async fn below(survey: &Survey, place: &Place) -> Result<Below, PruneError> {
    let repository = &survey.repository;
    let Some(versions) = repository.store().versions() else {
        return Ok(Below::Nothing);
    };
    let key = snapshot_key(&place.0, &place.1);
    let history = match versions.versions_of(&key).await {
        Ok(history) => history,
        Err(error @ StoreError::AccessDenied { .. }) => return Ok(Below::Denied(error)),
        // A store that knows nothing of versions.
        Err(StoreError::Refused { .. } | StoreError::Unsupported { .. }) => {
            return Ok(Below::Nothing);
        }
        Err(error) => return Err(error.into()),
    };
    let sealer = repository.sealer()?;
    for version in history.iter().filter(|version| !version.is_delete_marker) {
        survey.check_cancelled()?;
        let read = versions.get_version(&key, &version.version_id, SMALL_OBJECT_MAX);
        let body = match read.await {
            Ok(body) => body,
            // Removed since the listing; or no record.
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => continue,
            Err(error @ StoreError::AccessDenied { .. }) => return Ok(Below::Denied(error)),
            Err(error) => return Err(PruneError::doubt(RepositoryError::from(error))),
        };
        match SnapshotRecord::open(sealer, &key, &body) {
            Ok(SnapshotRecord::Manifest(..)) => return Ok(Below::Manifest),
            Ok(SnapshotRecord::Tombstone(..)) => return Ok(Below::Nothing),
            Err(_) => {}
        }
    }
    Ok(Below::Nothing)
}

/// Refuses to take a snapshot for an upload that died that was committed, or may have been.
///
/// # Errors
/// [`PruneError::Vanished`], [`PruneError::VersionsUnknown`].
pub(super) async fn require_nothing_below(
    survey: &Survey,
    place: &Place,
) -> Result<(), PruneError> {
    let (volume, snapshot) = (place.0.to_string(), place.1.clone());
    match below(survey, place).await? {
        Below::Nothing => Ok(()),
        Below::Manifest => Err(PruneError::Vanished { volume, snapshot }),
        Below::Denied(source) => Err(PruneError::VersionsUnknown {
            volume,
            snapshot,
            source: Box::new(source),
        }),
    }
}
