//! Listings, which a hostile endpoint must not make endless.

use crate::{
    RepositoryError,
    store::{ObjectMeta, ObjectStore},
};

/// Keys of one listing that are kept in memory at most, about 150 bytes each.
const KEYS_MAX: usize = 1 << 20;

/// Bytes of such keys: somebody may have given them names of a kilobyte each.
pub(crate) const KEYS_BYTES_MAX: usize = 256 << 20;

/// Pages of one listing: an endpoint that sends empty pages for ever is not waited for.
const PAGES_MAX: usize = 1 << 17;

/// All keys below a prefix.
///
/// # Errors
/// [`RepositoryError::TooMany`] for more than a repository can have; whatever the store says.
pub(crate) async fn list_keys(
    store: &dyn ObjectStore,
    prefix: &str,
) -> Result<Vec<ObjectMeta>, RepositoryError> {
    let mut found = Vec::new();
    let mut bytes = 0;
    let take = |meta: ObjectMeta| {
        bytes += meta.key.len();
        found.push(meta);
        too_many(prefix, "bytes of keys", bytes, KEYS_BYTES_MAX)?;
        too_many(prefix, "objects", found.len(), KEYS_MAX)
    };
    each_key(store, prefix, take).await?;
    Ok(found)
}

/// Tells all keys below a prefix one by one, in pages that the store chooses: a page is kept in memory, not the listing.
///
/// # Errors
/// [`RepositoryError::TooMany`] for more pages than a repository can have; whatever the store or `tell` says.
pub(crate) async fn each_key(
    store: &dyn ObjectStore,
    prefix: &str,
    mut tell: impl FnMut(ObjectMeta) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let mut from: Option<String> = None;
    for pages in 1.. {
        let page = store.list(prefix, from.as_deref()).await?;
        page.objects.into_iter().try_for_each(&mut tell)?;
        too_many(prefix, "pages of the listing", pages, PAGES_MAX)?;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    Ok(())
}

/// Refuses what would fill the memory.
pub(crate) fn too_many(
    prefix: &str,
    what: &'static str,
    found: usize,
    limit: usize,
) -> Result<(), RepositoryError> {
    if found <= limit {
        return Ok(());
    }
    Err(RepositoryError::TooMany {
        prefix: prefix.to_owned(),
        what,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_anybody_has_is_refused() {
        assert!(too_many("packs/", "objects", 5, 5).is_ok());
        let error = too_many("packs/", "objects", 6, 5).unwrap_err();
        assert!(matches!(error, RepositoryError::TooMany { limit: 5, .. }));
        assert!(
            error
                .to_string()
                .contains("more than 5 objects below packs/")
        );
    }
}
