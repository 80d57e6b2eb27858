//! Listings, which a hostile endpoint must not make endless, and which somebody who fills the bucket must not stop: a key that a
//! repository does not give is passed over before anything is counted.

use crate::{
    RepositoryError,
    format::object_keys::is_ours,
    store::{ObjectMeta, ObjectStore},
};

/// Keys of one listing that are kept in memory at most, about 150 bytes each.
const KEYS_MAX: usize = 1 << 20;

/// Bytes of such keys: somebody may have given them long names.
pub(crate) const KEYS_BYTES_MAX: usize = 256 << 20;

/// Pages of one listing: an endpoint that sends empty pages for ever is not waited for.
pub(super) const PAGES_MAX: usize = 1 << 17;

/// Pages without a key, one after the other: a store may send some, and not for ever.
const EMPTY_PAGES_MAX: usize = 1000;

/// What lies below a prefix.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Objects with a key that a repository gives, keys ascending.
    pub(crate) ours: Vec<ObjectMeta>,
    /// The others.
    pub(crate) strays: Strays,
}

/// Objects below a repository's prefix that are none of its own: readers ignore them.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// How many there are.
    pub(crate) count: u64,
    /// The key of the first one.
    pub(crate) first: Option<String>,
}

impl Strays {
    fn add(&mut self, key: String) {
        self.count += 1;
        self.first.get_or_insert(key);
    }

    /// Says, once, that they were passed over.
    fn tell(&self, prefix: &str) {
        if let Some(first) = &self.first {
            tracing::warn!(
                prefix,
                objects = self.count,
                first,
                "there are objects here that do not belong to the repository: they are passed over"
            );
        }
    }
}

/// The keys below a prefix that a repository gives. That others were passed over is logged.
///
/// # Errors
/// As [`list_all`].
pub(crate) async fn list_keys(
    store: &dyn ObjectStore,
    prefix: &str,
) -> Result<Vec<ObjectMeta>, RepositoryError> {
    let listed = list_all(store, prefix).await?;
    listed.strays.tell(prefix);
    Ok(listed.ours)
}

/// All that is below a prefix.
///
/// # Errors
/// [`RepositoryError::TooMany`] for more than a repository can have; whatever the store says.
pub(crate) async fn list_all(
    store: &dyn ObjectStore,
    prefix: &str,
) -> Result<Listed, RepositoryError> {
    let mut listed = Listed::default();
    let mut bytes = 0;
    let take = |meta: ObjectMeta| {
        if !is_ours(&meta.key) {
            listed.strays.add(meta.key);
            return Ok(());
        }
        bytes += meta.key.len();
        listed.ours.push(meta);
        too_many(prefix, "bytes of keys", bytes, KEYS_BYTES_MAX)?;
        too_many(prefix, "objects", listed.ours.len(), KEYS_MAX)
    };
    each_key(store, prefix, take).await?;
    Ok(listed)
}

/// Tells all keys below a prefix one by one, whosever they are, in pages that the store chooses: a page is kept in memory, not the
/// listing.
///
/// # Errors
/// [`RepositoryError::TooMany`] for more pages than a repository can have; whatever the store or `tell` says.
pub(crate) async fn each_key(
    store: &dyn ObjectStore,
    prefix: &str,
    mut tell: impl FnMut(ObjectMeta) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let mut from: Option<String> = None;
    let mut empty = 0;
    for pages in 1.. {
        let page = store.list(prefix, from.as_deref()).await?;
        empty = if page.objects.is_empty() {
            empty + 1
        } else {
            0
        };
        too_many(prefix, "empty pages in a row", empty, EMPTY_PAGES_MAX)?;
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
        let text = error.to_string();
        assert!(text.contains("more than 5 objects below packs/"), "{text}");
        assert!(text.contains("delete what they put there"), "{text}");
    }
}
