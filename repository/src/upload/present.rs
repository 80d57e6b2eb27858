//! Whether the packs of a base are in the bucket: a manifest alone says what was there when it was put. One that was deleted and put
//! back may have lost packs to a prune in between, and a thief takes packs and leaves the manifest.
//!
//! Asked after the intent is there, the condemned lists are read and the base is found committed: what is there then stays, as far as
//! prunes go. Right before the commit all that the snapshot refers to is asked for once more: whoever has our credentials deletes also while an upload is
//! under way.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{base::BaseMap, commit::Attempt};
use crate::{
    Progress, RepositoryError,
    format::ids::{PACKS_PREFIX, PackName},
    repository::too_many,
    store::{ListPage, ObjectStore},
};

/// Pages that are listed at most, beside one for each pack that is looked for.
const PAGES_MAX: usize = 1 << 14;

/// Packs by their keys, as long as they should be, where that is known.
pub(super) type Wanted = BTreeMap<String, (Arc<PackName>, Option<u64>)>;

impl Attempt<'_> {
    /// The packs of a base that are not in the bucket, or are not as long as its pack list says.
    ///
    /// # Errors
    /// If the bucket cannot be listed.
    pub(super) async fn missing_packs(
        &self,
        map: &BaseMap,
    ) -> Result<HashSet<Arc<PackName>>, RepositoryError> {
        let wanted = map.packs.values().map(|entry| {
            let key = entry.pack.object_key();
            (key, (entry.pack.clone(), Some(entry.size_bytes)))
        });
        missing(&**self.repository.store(), self.progress, wanted.collect()).await
    }

    /// Makes sure that all these packs are in the bucket, as long as they were put: what is committed without one cannot be restored.
    ///
    /// # Errors
    /// [`RepositoryError::PacksGone`]; if the bucket cannot be listed.
    pub(super) async fn require_packs(&self, wanted: Wanted) -> Result<(), RepositoryError> {
        let missing = missing(&**self.repository.store(), self.progress, wanted).await?;
        let count = missing.len();
        match missing.into_iter().min() {
            None => Ok(()),
            Some(first) => Err(RepositoryError::PacksGone {
                first: first.object_key(),
                others: count - 1,
            }),
        }
    }
}

/// Those of the packs that are not there as they should be. Parts of a listing without any of them are stepped over: there is at
/// most one request for each pack, and mostly one for a thousand.
async fn missing(
    store: &dyn ObjectStore,
    progress: &Progress,
    mut wanted: Wanted,
) -> Result<HashSet<Arc<PackName>>, RepositoryError> {
    let mut missing = HashSet::new();
    let pages_max = PAGES_MAX + wanted.len();
    let mut last: Option<String> = None;
    for pages in 1.. {
        let Some((first, (pack, _))) = wanted.first_key_value() else {
            break;
        };
        let folder = format!("{PACKS_PREFIX}{}/", pack.volume);
        // One letter less sorts before it, and before it alone as good as always.
        let before = first[..first.len() - 1].to_owned();
        let from = last.take().filter(|last| *last > before).unwrap_or(before);
        progress.requested(1);
        too_many(&folder, "pages of the listing", pages, pages_max)?;
        let page = store.list(&folder, Some(&from)).await?;
        last = page.next.clone();
        decide(&folder, page, &mut wanted, &mut missing);
    }
    Ok(missing)
}

/// Takes out of `wanted` whatever a page of a folder decides.
fn decide(folder: &str, page: ListPage, wanted: &mut Wanted, missing: &mut HashSet<Arc<PackName>>) {
    let mut lose = |(pack, _): (Arc<PackName>, Option<u64>)| {
        missing.insert(pack);
    };
    for object in page.objects {
        // What sorts before it would have come before it.
        while let Some(first) = wanted.first_entry()
            && *first.key() < object.key
        {
            lose(first.remove());
        }
        if let Some((pack, size_bytes)) = wanted.remove(&object.key)
            && size_bytes.is_some_and(|size_bytes| size_bytes != object.size_bytes)
        {
            lose((pack, size_bytes));
        }
    }
    while page.next.is_none()
        && let Some(first) = wanted.first_entry()
        && first.key().starts_with(folder)
    {
        lose(first.remove());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        format::ids::{Run, SnapshotId, VolumeId},
        store::{MemoryStore, PutMode},
    };

    fn pack(volume: &str, snapshot: &str, number: u32) -> Arc<PackName> {
        Arc::new(PackName {
            volume: VolumeId::new(volume).unwrap(),
            snapshot: SnapshotId::new(snapshot).unwrap(),
            run: Run([1; 16]),
            number,
        })
    }

    async fn put(store: &MemoryStore, key: &str) {
        let body = Bytes::from_static(b"pack");
        store.put(key, body, PutMode::Overwrite).await.unwrap();
    }

    /// Whatever lies around them, and however short the pages are, exactly those are found that are gone or have another length.
    #[tokio::test]
    async fn packs_that_are_gone_are_found_among_others() {
        for page_length in [1, 2, 3, 7, 1000] {
            let store = MemoryStore::new().with_page_length(page_length);
            let mut wanted = Wanted::new();
            let mut expected = HashSet::new();
            for (at, (volume, snapshot)) in
                (0..).zip([("v", "a"), ("v", "b"), ("w", "a"), ("w", "c")])
            {
                for number in 0..12 {
                    let pack = pack(volume, snapshot, number);
                    let is_gone = number % 5 == at;
                    let size_bytes = if number == 6 {
                        Some(5)
                    } else {
                        (number != 7).then_some(4)
                    };
                    if !is_gone {
                        put(&store, &pack.object_key()).await;
                    }
                    if is_gone || number == 6 {
                        expected.insert(pack.clone());
                    }
                    wanted.insert(pack.object_key(), (pack, size_bytes));
                }
            }
            for other in [
                "packs/a/x",
                "packs/v/aa/x",
                "packs/v/b/0",
                "packs/w/b/y",
                "packs/z",
            ] {
                put(&store, other).await;
            }
            let found = missing(&store, &Progress::new(), wanted).await.unwrap();
            assert_eq!(found, expected, "pages of {page_length}");
        }
    }

    /// A volume of many snapshots, of which a few packs are needed.
    #[tokio::test]
    async fn what_is_not_needed_is_not_listed() {
        let store = MemoryStore::new().with_page_length(10);
        for snapshot in 0..100 {
            for number in 0..10 {
                let name = pack("v", &format!("s{snapshot:03}"), number);
                put(&store, &name.object_key()).await;
            }
        }
        let names = ["s010", "s090"].map(|snapshot| pack("v", snapshot, 3));
        let wanted = names.map(|name| (name.object_key(), (name, Some(4))));
        let before = store.requests().list;
        let found = missing(&store, &Progress::new(), wanted.into()).await;
        assert!(found.unwrap().is_empty());
        assert_eq!(store.requests().list - before, 2);
    }
}
