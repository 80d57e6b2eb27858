//! Opening a repository as it was first written, after somebody deleted or overwrote what is in it.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::Repository;
use crate::{
    RepositoryError,
    format::{ids::MARKER_KEY, keys::KeySource, limits::SMALL_OBJECT_MAX},
    lock::versions::looked_at,
    snapshots,
    store::{ObjectStore, first::FirstVersions, versions::ObjectVersion},
};

/// Different markers that are opened at most: each may cost the derivation of a key.
const MARKERS_OPENED_MAX: usize = 32;

impl Repository {
    /// Opens a repository for reading, from the versions of its objects that were written first: plain deletions and
    /// overwrites since, by whomever, are seen through. The bucket has to keep versions.
    ///
    /// A prefix may have held several repositories, one after the other, and one key may open them all: then it is the one with
    /// the snapshot that was committed last, which nobody else can forge where it is sealed. In a repository that is not
    /// sealed nobody can tell a record that was forged from ours: the newest one counts.
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
        let mut opened: Vec<Self> = Vec::new();
        let markers = view.history(MARKER_KEY).await?;
        let possible = |marker: &&ObjectVersion| marker.size_bytes <= SMALL_OBJECT_MAX as u64;
        let markers: Vec<&ObjectVersion> = markers.iter().filter(possible).collect();
        let mut tried: Vec<Bytes> = Vec::new();
        for version in looked_at(&markers) {
            // Copies say nothing new, and opening is dear.
            match view.body(version, SMALL_OBJECT_MAX).await {
                Ok(body) if tried.contains(&body) => continue,
                Ok(body) => tried.push(body),
                Err(error) if error.is_of_one_object() => {
                    failure = error.into();
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if tried.len() > MARKERS_OPENED_MAX {
                tracing::warn!(
                    opened = MARKERS_OPENED_MAX,
                    "somebody has put many markers here: only the oldest are opened"
                );
                break;
            }
            let view = view.with_marker(version);
            match Self::open(Arc::new(view.clone()), key.clone()).await {
                Ok(repository) if opened.iter().any(|known| known.id() == repository.id()) => {}
                Ok(repository) => {
                    view.trust(repository.sealer()?.clone());
                    // It was opened just now.
                    let _ = repository.0.first.set(view);
                    opened.push(repository);
                }
                Err(error) => failure = error,
            }
        }
        if opened.len() < 2 {
            return opened.pop().ok_or(failure);
        }
        newest(opened).await?.ok_or(failure)
    }

    /// What its first versions are read through; `None` where they are not.
    pub(crate) fn first_versions(&self) -> Option<&FirstVersions> {
        self.0.first.get()
    }
}

/// The repository with the snapshot that was committed last; of empty ones the first.
async fn newest(opened: Vec<Repository>) -> Result<Option<Repository>, RepositoryError> {
    let mut chosen: Option<(Option<Timestamp>, Repository)> = None;
    for repository in opened {
        let found = snapshots::list(&repository).await?;
        let manifests = found.iter().filter_map(|found| found.manifest.as_ref());
        let committed_at = manifests.map(|manifest| manifest.committed_at).max();
        let is_newer = |(best, _): &(Option<Timestamp>, _)| committed_at > *best;
        if chosen.as_ref().is_none_or(is_newer) {
            chosen = Some((committed_at, repository));
        }
    }
    if let Some((_, repository)) = &chosen {
        tracing::warn!(
            location = repository.location(),
            id = %repository.id(),
            "this prefix held several repositories: the one with the newest snapshot is read"
        );
    }
    Ok(chosen.map(|(_, repository)| repository))
}
