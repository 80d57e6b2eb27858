//! Opening a repository as it was first written, after somebody deleted or overwrote what is in it.

use std::sync::Arc;

use super::Repository;
use crate::{
    RepositoryError,
    format::{ids::MARKER_KEY, keys::KeySource},
    store::{ObjectStore, first::FirstVersions},
};

/// Versions of the marker that are tried: the first that fits the key is ours.
const MARKERS_TRIED_MAX: usize = 16;

impl Repository {
    /// Opens a repository for reading, from the versions of its objects that were written first: plain deletions and
    /// overwrites since, by whomever, are seen through. The bucket has to keep versions.
    ///
    /// In a repository that is not sealed nobody can tell a record that was forged from ours: the newest one counts.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`RepositoryError::NoVersions`].
    pub async fn open_first(
        store: Arc<dyn ObjectStore>,
        key: Option<KeySource>,
    ) -> Result<Self, RepositoryError> {
        let location = store.location();
        let Some(view) = FirstVersions::of(store) else {
            return Err(RepositoryError::NoVersions { location });
        };
        let mut failure = RepositoryError::NoRepository { location };
        // A creation long ago may have been deleted for good reasons: the first one that opens is the right one.
        let markers = view.history(MARKER_KEY).await?;
        for version in markers.iter().take(MARKERS_TRIED_MAX) {
            view.pin(version);
            match Self::open(Arc::new(view.clone()), key.clone()).await {
                Ok(repository) => {
                    view.trust(repository.sealer()?.clone());
                    return Ok(repository);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}
