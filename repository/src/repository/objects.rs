//! Reading and listing what lies in a repository, with the limits of the format.

use bytes::Bytes;

use super::{
    PROBE_PREFIX,
    listing::{each_key, too_many},
};
use crate::{
    RepositoryError,
    format::{
        FormatError,
        ids::{MARKER_KEY, SLOTS_PREFIX},
        limits::SMALL_OBJECT_MAX,
    },
    store::{ObjectMeta, ObjectStore, StoreError},
};

/// Objects that creations which were broken off may have left below a prefix, before it is looked at no further.
const LEFTOVERS_MAX: usize = 512;

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
    let mut leftovers = 0;
    let look = |object: ObjectMeta| {
        let is_ours = object.key.starts_with(PROBE_PREFIX) || object.key.starts_with(SLOTS_PREFIX);
        if !is_ours {
            return Err(RepositoryError::Foreign {
                location: store.location(),
                found: object.key,
            });
        }
        leftovers += 1;
        too_many(
            &store.location(),
            "remains of repositories that were never finished",
            leftovers,
            LEFTOVERS_MAX,
        )
    };
    each_key(store, "", look).await
}

/// A marker that was deleted in a bucket with versions lies there still, and with it all that can be restored. Where
/// versions cannot be listed, nobody can tell.
pub(super) async fn refuse_hidden(store: &dyn ObjectStore) -> Result<(), RepositoryError> {
    let Some(versions) = store.versions() else {
        return Ok(());
    };
    match versions.versions_of(MARKER_KEY).await {
        Ok(markers) => {
            if markers.iter().any(|version| !version.is_delete_marker) {
                return Err(RepositoryError::Hidden {
                    location: store.location(),
                });
            }
            Ok(())
        }
        Err(
            error @ (StoreError::Unsupported { .. }
            | StoreError::AccessDenied { .. }
            | StoreError::Refused { .. }),
        ) => {
            tracing::debug!(
                %error,
                "whether the bucket has an older version of a marker here cannot be seen"
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, PutMode};

    /// A bucket with so many key slots and no marker, told in small pages.
    async fn slots_alone(count: usize) -> MemoryStore {
        let store = MemoryStore::new().with_page_length(10);
        for slot in 0..count {
            let key = format!("{SLOTS_PREFIX}{slot:012}");
            let body = Bytes::from_static(b"x");
            store.put(&key, body, PutMode::Overwrite).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn slots_without_end_are_not_followed() {
        let sound = slots_alone(LEFTOVERS_MAX).await;
        refuse_foreign(&sound).await.unwrap();
        let store = slots_alone(3 * LEFTOVERS_MAX).await;
        let before = store.requests().list;
        let error = refuse_foreign(&store).await.unwrap_err();
        assert!(
            matches!(
                error,
                RepositoryError::TooMany {
                    limit: LEFTOVERS_MAX,
                    ..
                }
            ),
            "{error:?}"
        );
        let pages = store.requests().list - before;
        assert!(pages <= LEFTOVERS_MAX as u64 / 10 + 1, "{pages} pages");
    }

    #[tokio::test]
    async fn what_is_not_ours_is_named() {
        let store = slots_alone(25).await;
        let body = Bytes::from_static(b"x");
        store
            .put("photo.jpg", body, PutMode::Overwrite)
            .await
            .unwrap();
        let error = refuse_foreign(&store).await.unwrap_err();
        assert!(
            matches!(&error, RepositoryError::Foreign { found, .. } if found == "photo.jpg"),
            "{error:?}"
        );
    }
}
