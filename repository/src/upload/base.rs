//! The snapshot that an upload builds on: what it has at the same place with the same hash is referred to, not sent again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use super::live::LivePacks;
use crate::{
    RepositoryError,
    format::{
        FormatError,
        crypto::{Hash, Sealer},
        frame::FrameKind,
        ids::PackName,
        list_page::PackEntry,
        location::Location,
        manifest::{Base, Manifest, RootRef},
        map::{PageSource, VisitedPage},
        map_page::{MapPage, page_span},
    },
    pages::{Pages, broken_list_page, broken_page},
};

/// Frames that a verify found bad: they are stored again, so that no later snapshot inherits the damage.
#[derive(Debug, Default)]
pub(super) struct BadFrames(pub(super) HashSet<(PackName, u32)>);

impl BadFrames {
    pub(super) fn have(&self, location: &Location) -> bool {
        !self.0.is_empty()
            && self
                .0
                .contains(&((*location.pack).clone(), location.offset))
    }
}

/// A committed snapshot of the same volume.
pub(super) struct BaseMap {
    pub(super) base: Base,
    pub(super) manifest: Manifest,
    pages: Pages,
    sealer: Sealer,
    pub(super) bad: BadFrames,
    /// Packs of it that are to be referred to no longer, because little of them is needed.
    pub(super) sparse: HashSet<Arc<PackName>>,
    /// Packs of it that are not in the bucket: what lies there is not known.
    missing: HashSet<Arc<PackName>>,
    /// Its packs, for the new pack list, without those that are missing.
    pub(super) packs: BTreeMap<Arc<PackName>, PackEntry>,
    /// The packs that its pack list itself lies in.
    pub(super) list_packs: BTreeSet<Arc<PackName>>,
    /// The pages of its pack list: those whose content stays are kept.
    pub(super) list_pages: HashMap<Hash, Location>,
}

/// The base's chunks in a segment.
#[derive(Default)]
pub(super) struct BaseChunks {
    chunks: HashMap<u64, Location>,
    /// The pages that said so: those whose content stays may be kept.
    pub(super) pages: Vec<VisitedPage>,
    /// All chunks of these pages, as the base's pack list counts them.
    pub(super) counted: LivePacks,
    /// How many these are.
    pub(super) mapped: u64,
    /// Whether some chunks are not known, or bad, or to be sent anew.
    pub(super) patchy: bool,
    /// Those that are known and to be sent anew all the same, and their hashes.
    pub(super) anew: BTreeMap<u64, Hash>,
}

impl BaseChunks {
    /// Where the base has a chunk with this hash at the same place.
    pub(super) fn unchanged(&self, chunk: u64, hash: &Hash) -> Option<&Location> {
        self.chunks
            .get(&chunk)
            .filter(|location| location.hash == *hash)
    }

    /// Whether the base has data at a chunk, or may have.
    pub(super) fn may_have(&self, chunk: u64) -> bool {
        self.patchy || self.chunks.contains_key(&chunk)
    }

    /// The base's chunk.
    pub(super) fn get(&self, chunk: u64) -> Option<&Location> {
        self.chunks.get(&chunk)
    }

    /// The base's chunks in a range, ascending.
    pub(super) fn within(&self, chunks: Range<u64>) -> impl Iterator<Item = (u64, Location)> {
        chunks.filter_map(|chunk| Some((chunk, self.chunks.get(&chunk)?.clone())))
    }
}

/// What covers a range of the base's map.
#[derive(Debug, Default)]
pub(super) struct Cover {
    /// The largest pages that lie wholly in the range, ascending.
    pub(super) subtrees: Vec<VisitedPage>,
    /// The pages above them, which reach past the range. Each before what is below it.
    pub(super) opened: Vec<VisitedPage>,
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
        sealer: Sealer,
        bad: BadFrames,
    ) -> Result<Self, RepositoryError> {
        let mut packs = BTreeMap::new();
        let mut list = pages.pack_list(manifest.pack_list.as_ref());
        while let Some(entries) = list.next().await {
            for entry in entries.map_err(broken_list_page)? {
                packs.insert(entry.pack.clone(), entry);
            }
        }
        let list_packs = list.page_packs().clone();
        let list_pages = list
            .pages()
            .iter()
            .filter(|page| !bad.have(page))
            .map(|page| (page.hash, page.clone()))
            .collect();
        let sizes = packs
            .values()
            .map(|entry| (entry.pack.clone(), entry.size_bytes));
        let sizes = sizes.collect();
        Ok(Self {
            base,
            manifest,
            pages: pages.with_sizes(sizes).cached(),
            sealer,
            bad,
            sparse: HashSet::new(),
            missing: HashSet::new(),
            packs,
            list_packs,
            list_pages,
        })
    }

    /// The base's chunks in a range. Where a page of it is broken its chunks are taken for changed, and sent again.
    ///
    /// # Errors
    /// Only if the bucket does not answer.
    pub(super) async fn chunks(&self, range: Range<u64>) -> Result<BaseChunks, RepositoryError> {
        self.read(range, false).await
    }

    /// The base's chunks in a range of whole leaves, all of them, for a writer that does not look at the others.
    ///
    /// # Errors
    /// If a page is broken too: nobody else knows what it counted.
    pub(super) async fn all_chunks(
        &self,
        range: Range<u64>,
    ) -> Result<BaseChunks, RepositoryError> {
        self.read(range, true).await
    }

    async fn read(&self, range: Range<u64>, strict: bool) -> Result<BaseChunks, RepositoryError> {
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
                Err(error) if error.is_of_one_object() && !strict => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a page of the base is damaged; its chunks are stored again"
                    );
                    found.patchy = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (chunk, location) in leaf.chunks() {
                if strict {
                    found.counted.add(location);
                    found.mapped += 1;
                }
                if self.bad.have(location) || self.missing.contains(&location.pack) {
                    found.patchy = true;
                } else if self.sparse.contains(&location.pack) {
                    found.patchy = true;
                    found.anew.insert(chunk, location.hash);
                } else {
                    found.chunks.insert(chunk, location.clone());
                }
            }
            let kept = leaf
                .visited
                .into_iter()
                .filter(|page| strict || self.may_refer_to(&page.location));
            found.pages.extend(kept);
        }
        Ok(found)
    }

    /// Whether a new map may have a page at its old place.
    pub(super) fn may_refer_to(&self, page: &Location) -> bool {
        !self.bad.have(page)
            && !self.sparse.contains(&page.pack)
            && !self.missing.contains(&page.pack)
    }

    /// From now on nothing is known of what lies in these packs, and nothing refers to them: a map that did could have no pack list.
    pub(super) fn lose(&mut self, missing: HashSet<Arc<PackName>>) {
        self.packs.retain(|pack, _| !missing.contains(pack));
        self.list_pages
            .retain(|_, page| !missing.contains(&page.pack));
        self.missing = missing;
    }

    /// The pages that a new map of `chunk_count` chunks and `levels` levels can keep for a range of whole leaves, or for
    /// all up to its end. Nothing below them is read.
    ///
    /// # Errors
    /// If a page above them cannot be read.
    pub(super) async fn cover(
        &self,
        range: Range<u64>,
        chunk_count: u64,
        levels: u8,
    ) -> Result<Cover, RepositoryError> {
        let total = self.manifest.chunks.total;
        let mut cover = Cover::default();
        let mut pending: Vec<VisitedPage> = self.root().into_iter().collect();
        while let Some(page) = pending.pop() {
            let (start, end) = (page.first_chunk, page.first_chunk + page_span(page.level));
            if start >= range.end || end <= range.start {
                continue;
            }
            // Only at the end of both maps may a page reach past what it has.
            let ends_well = end <= range.end || (range.end == chunk_count && total <= chunk_count);
            if page.level < levels && start >= range.start && ends_well {
                cover.subtrees.push(page);
                continue;
            }
            if page.level == 0 {
                return Err(RepositoryError::Internal(format!(
                    "chunks {range:?} do not start and end with leaves"
                )));
            }
            pending.extend(self.children(&page).await?.into_iter().rev());
            cover.opened.push(page);
        }
        Ok(cover)
    }

    /// The root page, if there is data at all.
    pub(super) fn root(&self) -> Option<VisitedPage> {
        self.manifest
            .map
            .as_ref()
            .map(|root: &RootRef| VisitedPage {
                level: root.level,
                first_chunk: 0,
                location: root.location(),
            })
    }

    async fn children(&self, page: &VisitedPage) -> Result<Vec<VisitedPage>, RepositoryError> {
        let content = self.page(page).await?;
        let child = |(slot, location): &(u8, Location)| VisitedPage {
            level: page.level - 1,
            first_chunk: content.slot_chunk(*slot),
            location: location.clone(),
        };
        Ok(content.entries.iter().map(child).collect())
    }

    /// Reads one page of the map, and checks that it is what it should be.
    pub(super) async fn page(&self, page: &VisitedPage) -> Result<MapPage, RepositoryError> {
        let at = &page.location;
        let answer = self
            .pages
            .pages(FrameKind::MapPage, std::slice::from_ref(at))
            .await
            .pop();
        let missing = || FormatError::malformed("map page", "it was not fetched").into();
        let plain = answer
            .unwrap_or_else(|| Err(missing()))
            .map_err(|error| error.at(at))?;
        let opened = if self.sealer.page_hash(&plain) == at.hash {
            MapPage::decode(
                &plain,
                page.level,
                page.first_chunk,
                self.manifest.chunks.total,
            )
            .and_then(|page| {
                page.check_chunks(self.manifest.chunk_size_bytes)?;
                Ok(page)
            })
        } else {
            Err(FormatError::Damaged {
                what: "map page",
                check: "hash",
            })
        };
        opened.map_err(|source| {
            RepositoryError::object(at.pack.object_key(), Some(at.offset.into()), source)
        })
    }
}
