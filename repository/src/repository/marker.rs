//! Whether a repository that was opened a while ago is still where it was.

use super::{objects::read_marker, parse};
use crate::{Repository, RepositoryError};

impl Repository {
    /// Reads the marker again, which is one request. To be asked before something is written: without its marker nobody can open a
    /// repository, and what is put into an emptied place keeps a new one from being made there.
    ///
    /// # Errors
    /// [`RepositoryError::MarkerGone`]; [`RepositoryError::MarkerReplaced`] where another repository is now;
    /// [`RepositoryError::Damaged`]; whatever the store says.
    pub async fn check_marker(&self) -> Result<(), RepositoryError> {
        let location = self.location();
        let Some(object) = read_marker(&**self.store()).await? else {
            return Err(RepositoryError::MarkerGone { location });
        };
        let found = parse(&object)?.id;
        if found != self.id() {
            return Err(RepositoryError::MarkerReplaced {
                location,
                found: found.short(),
                opened: self.short_id(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        CreateOptions,
        format::ids::{MARKER_KEY, SnapshotId, VolumeId},
        snapshots,
        store::{MemoryStore, ObjectStore},
    };

    async fn made() -> (Arc<MemoryStore>, Repository) {
        let store = Arc::new(MemoryStore::new());
        let options = CreateOptions::default();
        let (repository, _) = Repository::create(store.clone(), options).await.unwrap();
        (store, repository)
    }

    #[tokio::test]
    async fn a_marker_that_goes_is_noticed() {
        let (store, repository) = made().await;
        repository.check_marker().await.unwrap();
        let own = store.peek(MARKER_KEY).unwrap();
        store.tamper(MARKER_KEY, None);
        let gone = repository.check_marker().await.unwrap_err();
        assert!(
            matches!(gone, RepositoryError::MarkerGone { .. }),
            "{gone:?}"
        );
        let (other, _) = made().await;
        store.tamper(MARKER_KEY, other.peek(MARKER_KEY));
        let replaced = repository.check_marker().await.unwrap_err();
        assert!(
            matches!(&replaced, RepositoryError::MarkerReplaced { opened, .. } if *opened == repository.short_id()),
            "{replaced:?}"
        );
        store.tamper(MARKER_KEY, Some(own));
        repository.check_marker().await.unwrap();
    }

    /// A tombstone alone would keep a new repository from being made there.
    #[tokio::test]
    async fn nothing_is_written_to_a_place_that_was_emptied() {
        let (store, repository) = made().await;
        store.tamper(MARKER_KEY, None);
        let snapshot: SnapshotId = repository.new_snapshot_id();
        let volume = VolumeId::new("v").unwrap();
        let refused = snapshots::delete(&repository, &volume, &snapshot).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, RepositoryError::MarkerGone { .. }),
            "{refused:?}"
        );
        assert_eq!(store.keys(), Vec::<String>::new());
        let store: Arc<dyn ObjectStore> = store;
        Repository::create(store, CreateOptions::default())
            .await
            .unwrap();
    }
}
