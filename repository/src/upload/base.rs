//! The snapshot that an upload builds on: what it has at the same place with the same hash is referred to, not sent again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use crate::{
    RepositoryError,
    format::{
        crypto::Hash,
        ids::PackName,
        list_page::PackEntry,
        location::Location,
        manifest::{Base, Manifest},
        map::VisitedPage,
    },
    pages::{Pages, broken_list_page, broken_page},
};

/// Frames that a verify found bad: they are stored again, so that no later snapshot inherits the damage.
#[derive(Debug, Default)]
pub(super) struct BadFrames(pub(super) HashSet<(PackName, u32)>);

impl BadFrames {
    fn have(&self, location: &Location) -> bool {
        !self.0.is_empty()
            && self
                .0
                .contains(&((*location.pack).clone(), location.offset))
    }
}

/// A committed snapshot of the same volume.
pub(super) struct BaseMap {
    pub(super) base: Base,
    manifest: Manifest,
    pages: Pages,
    bad: BadFrames,
    /// Its packs, for the new pack list.
    pub(super) packs: BTreeMap<Arc<PackName>, PackEntry>,
}

/// The base's chunks in a segment.
#[derive(Default)]
pub(super) struct BaseChunks {
    chunks: HashMap<u64, Location>,
    /// The pages that said so: those whose content stays may be kept.
    pub(super) pages: Vec<VisitedPage>,
}

impl BaseChunks {
    /// Where the base has a chunk with this hash at the same place.
    pub(super) fn unchanged(&self, chunk: u64, hash: &Hash) -> Option<&Location> {
        self.chunks
            .get(&chunk)
            .filter(|location| location.hash == *hash)
    }
}

impl BaseMap {
    /// Reads the base's pack list.
    ///
    /// # Errors
    /// If it cannot be read: then it is no base.
    pub(super) async fn open(
        base: Base,
        manifest: Manifest,
        pages: Pages,
        bad: BadFrames,
    ) -> Result<Self, RepositoryError> {
        let mut packs = BTreeMap::new();
        let mut list = pages.pack_list(manifest.pack_list.as_ref());
        while let Some(entries) = list.next().await {
            for entry in entries.map_err(broken_list_page)? {
                packs.insert(entry.pack.clone(), entry);
            }
        }
        let sizes = packs
            .values()
            .map(|entry| (entry.pack.clone(), entry.size_bytes));
        let sizes = sizes.collect();
        Ok(Self {
            base,
            manifest,
            pages: pages.with_sizes(sizes).cached(),
            bad,
            packs,
        })
    }

    /// The base's chunks in a range. Where a page of it is broken its chunks are taken for changed, and sent again.
    ///
    /// # Errors
    /// Only if the bucket does not answer.
    pub(super) async fn chunks(&self, range: Range<u64>) -> Result<BaseChunks, RepositoryError> {
        let total = self.manifest.chunks.total;
        let mut found = BaseChunks::default();
        let range = range.start..range.end.min(total);
        if range.is_empty() {
            return Ok(found);
        }
        let mut reader = self.pages.map_range(&self.manifest, range)?;
        while let Some(leaf) = reader.next().await {
            let leaf = match leaf.map_err(broken_page) {
                Ok(leaf) => leaf,
                Err(error) if error.is_of_one_object() => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a page of the base is damaged; its chunks are stored again"
                    );
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (chunk, location) in leaf.chunks() {
                if !self.bad.have(location) {
                    found.chunks.insert(chunk, location.clone());
                }
            }
            let kept = leaf
                .visited
                .into_iter()
                .filter(|page| !self.bad.have(&page.location));
            found.pages.extend(kept);
        }
        Ok(found)
    }
}
