//! Reading and listing what lies in a repository, with the limits of the format.

use bytes::Bytes;

use super::PROBE_PREFIX;
use crate::{
    RepositoryError,
    format::{
        FormatError,
        ids::{MARKER_KEY, SLOTS_PREFIX},
        limits::SMALL_OBJECT_MAX,
    },
    store::{ObjectStore, StoreError},
};

/// Reads an object whole; `None` if it is not there. One that is larger than the format allows is damaged.
pub(crate) async fn read_object(
    store: &dyn ObjectStore,
    key: &str,
    bytes_max: usize,
) -> Result<Option<Bytes>, RepositoryError> {
    match store.get(key, bytes_max).await {
        Ok(object) => Ok(Some(object)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(StoreError::TooLarge {
            key,
            size_bytes,
            limit_bytes,
        }) => {
            let source = FormatError::Limit {
                what: "the object's size",
                found: size_bytes,
                limit: limit_bytes,
            };
            Err(RepositoryError::object(key, None, source))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn read_marker(store: &dyn ObjectStore) -> Result<Option<Bytes>, RepositoryError> {
    read_object(store, MARKER_KEY, SMALL_OBJECT_MAX).await
}

/// A prefix without a marker may hold what a creation that was broken off left, and nothing else.
pub(super) async fn refuse_foreign(store: &dyn ObjectStore) -> Result<(), RepositoryError> {
    let mut from = None;
    loop {
        let page = store.list("", from.as_deref()).await?;
        let ours = |key: &str| key.starts_with(PROBE_PREFIX) || key.starts_with(SLOTS_PREFIX);
        if let Some(object) = page.objects.into_iter().find(|object| !ours(&object.key)) {
            return Err(RepositoryError::Foreign {
                location: store.location(),
                found: object.key,
            });
        }
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}
