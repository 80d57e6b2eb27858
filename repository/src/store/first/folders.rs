//! Listings of versions that are remembered, as far as there is room.

use std::{collections::HashMap, sync::Arc};

use crate::store::versions::ObjectVersion;

/// Bytes of the listings that are remembered, all together: what is listed again costs time only.
const FOLDERS_BYTES_MAX: usize = 256 << 20;

/// Versions by key, of each the newest first, without delete markers.
pub(super) type ByKey = Arc<HashMap<String, Vec<ObjectVersion>>>;

/// What a listed version takes in memory, about.
fn room(version: &ObjectVersion) -> usize {
    2 * version.key.len() + version.version_id.len() + size_of::<ObjectVersion>()
}

/// Folders that were listed, together within a budget.
#[derive(Default)]
pub(super) struct Folders {
    pub(super) listed: HashMap<String, ByKey>,
    bytes: usize,
}

impl Folders {
    /// One that leaves no room for the others is kept alone.
    pub(super) fn keep(&mut self, prefix: &str, by_key: &ByKey) {
        if self.listed.contains_key(prefix) {
            return;
        }
        let bytes: usize = by_key.values().flatten().map(room).sum();
        if self.bytes.saturating_add(bytes) > FOLDERS_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += bytes;
        self.listed.insert(prefix.to_owned(), by_key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_listings_stay_within_their_bytes() {
        let version = |key: String| ObjectVersion {
            key,
            version_id: "v".repeat(1000),
            size_bytes: 1,
            modified_at_s: 0,
            is_delete_marker: false,
            is_latest: true,
        };
        let by_key: ByKey = Arc::new(HashMap::from([(
            "packs/a".to_owned(),
            vec![version("packs/a".to_owned()); 50_000],
        )]));
        let mut folders = Folders::default();
        for number in 0..40 {
            let prefix = format!("packs/{number}/");
            folders.keep(&prefix, &by_key);
            assert!(folders.bytes <= FOLDERS_BYTES_MAX);
            assert!(folders.listed.contains_key(&prefix), "the newest is kept");
            let bytes: usize = folders
                .listed
                .values()
                .flat_map(|f| f.values())
                .flatten()
                .map(room)
                .sum();
            assert_eq!(bytes, folders.bytes);
        }
        assert!(folders.listed.len() < 40);
    }
}
