//! Reading a map in order, leaf by leaf.

use std::{collections::VecDeque, ops::Range};

use async_trait::async_trait;

use crate::format::{
    FormatError,
    crypto::Sealer,
    frame::FrameKind,
    limits::{CHUNK_SIZE_MAX, CHUNKS_MAX},
    location::Location,
    manifest::RootRef,
    map_page::{MapPage, levels, page_span},
};

/// Fetches pages.
#[async_trait]
pub trait PageSource: Send + Sync {
    /// What can go wrong.
    type Error: From<FormatError> + Send;

    /// The plain bytes of up to 64 pages, which mostly lie side by side in a pack: their frames opened and decompressed,
    /// their hashes not yet checked. One answer for each location, in order.
    async fn pages(
        &self,
        kind: FrameKind,
        wanted: &[Location],
    ) -> Vec<Result<Vec<u8>, Self::Error>>;
}

/// A page of a map that was read on the way to a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitedPage {
    /// Its level.
    pub level: u8,
    /// Its first chunk.
    pub first_chunk: u64,
    /// Where it lies.
    pub location: Location,
}

/// A leaf of the map: up to 64 chunks.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The page.
    pub page: MapPage,
    /// The pages read since the leaf before, this one last: what a next map may keep ([`super::MapBuilder::offer`]).
    pub visited: Vec<VisitedPage>,
}

impl Leaf {
    /// Chunk numbers and locations, ascending.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, &Location)> {
        self.page
            .entries
            .iter()
            .map(|(slot, location)| (self.page.slot_chunk(*slot), location))
    }
}

/// A page that could not be had: nothing is known of the chunks it covers.
#[derive(Debug)]
pub struct BrokenPage<E> {
    /// Its level.
    pub level: u8,
    /// The chunks it covers.
    pub chunks: Range<u64>,
    /// Where it lies.
    pub location: Location,
    /// What went wrong.
    pub error: E,
}

/// Streams the leaves of a map. After a broken page it goes on behind it, for those who want to know everything that is wrong.
#[derive(Debug)]
pub struct MapReader<S: PageSource> {
    sealer: Sealer,
    source: S,
    chunk_count: u64,
    chunk_size_bytes: u32,
    range: Range<u64>,
    /// What is still to be read, level by level, the root's first. At most 64 pages in each.
    pending: Vec<VecDeque<Fetched<S::Error>>>,
    root: Option<(u8, Location)>,
    visited: Vec<VisitedPage>,
}

#[derive(Debug)]
struct Fetched<E> {
    level: u8,
    first_chunk: u64,
    location: Location,
    page: Result<MapPage, E>,
}

impl<S: PageSource> MapReader<S> {
    /// Reads a whole map.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the root's level does not fit the number of chunks.
    pub fn new(
        sealer: Sealer,
        source: S,
        root: Option<&RootRef>,
        chunk_count: u64,
    ) -> Result<Self, FormatError> {
        Self::range(sealer, source, root, chunk_count, 0..chunk_count)
    }

    /// Reads the leaves that have chunks in a range; the first and last may reach past it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn range(
        sealer: Sealer,
        source: S,
        root: Option<&RootRef>,
        chunk_count: u64,
        range: Range<u64>,
    ) -> Result<Self, FormatError> {
        FormatError::check_limit("the number of chunks", chunk_count, CHUNKS_MAX)?;
        if root.is_some_and(|root| root.level != levels(chunk_count) - 1) {
            return Err(FormatError::malformed(
                "map",
                "its root is of a wrong level",
            ));
        }
        let root = root.map(|root| (root.level, root.location()));
        Ok(Self {
            sealer,
            source,
            chunk_count,
            chunk_size_bytes: CHUNK_SIZE_MAX,
            range,
            pending: Vec::new(),
            root,
            visited: Vec::new(),
        })
    }

    /// Takes leaves for broken that name longer frames than chunks of this size can have. Without it the limit is that of
    /// the largest chunks there are.
    #[must_use]
    pub fn with_chunk_size(mut self, chunk_size_bytes: u32) -> Self {
        self.chunk_size_bytes = chunk_size_bytes;
        self
    }

    /// The next leaf that has entries, or the next page that is broken; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Leaf, BrokenPage<S::Error>>> {
        if let Some((level, location)) = self.root.take() {
            let pages = self.fetch(level, vec![(0, location)]).await;
            self.pending.push(pages);
        }
        loop {
            let pages = self.pending.last_mut()?;
            let Some(Fetched {
                level,
                first_chunk,
                location,
                page,
            }) = pages.pop_front()
            else {
                self.pending.pop();
                continue;
            };
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    let chunks =
                        first_chunk..(first_chunk + page_span(level)).min(self.chunk_count);
                    return Some(Err(BrokenPage {
                        level,
                        chunks,
                        location,
                        error,
                    }));
                }
            };
            self.visited.push(VisitedPage {
                level,
                first_chunk,
                location,
            });
            if level == 0 {
                let visited = std::mem::take(&mut self.visited);
                return Some(Ok(Leaf { page, visited }));
            }
            let children = self.children(&page);
            let pages = self.fetch(level - 1, children).await;
            self.pending.push(pages);
        }
    }

    /// First chunk and location of the children that reach into the range.
    fn children(&self, page: &MapPage) -> Vec<(u64, Location)> {
        let span = page_span(page.level - 1);
        let wanted = |first: u64| first < self.range.end && first + span > self.range.start;
        let all = page
            .entries
            .iter()
            .map(|(slot, location)| (page.slot_chunk(*slot), location));
        all.filter(|(first, _)| wanted(*first))
            .map(|(first, location)| (first, location.clone()))
            .collect()
    }

    async fn fetch(&self, level: u8, wanted: Vec<(u64, Location)>) -> VecDeque<Fetched<S::Error>> {
        let (firsts, locations): (Vec<u64>, Vec<Location>) = wanted.into_iter().unzip();
        let mut answers = self
            .source
            .pages(FrameKind::MapPage, &locations)
            .await
            .into_iter();
        let page = |(first_chunk, location): (u64, Location)| {
            let answer = answers.next();
            let page = open_page(
                &self.sealer,
                answer,
                &location,
                level,
                first_chunk,
                self.chunk_count,
            )
            .and_then(|page| {
                page.check_chunks(self.chunk_size_bytes)?;
                Ok(page)
            });
            Fetched {
                level,
                first_chunk,
                location,
                page,
            }
        };
        firsts.into_iter().zip(locations).map(page).collect()
    }
}

/// Checks the hash of a page, then reads it.
pub(super) fn open_page<E: From<FormatError>>(
    sealer: &Sealer,
    answer: Option<Result<Vec<u8>, E>>,
    location: &Location,
    level: u8,
    first_chunk: u64,
    chunk_count: u64,
) -> Result<MapPage, E> {
    let missing = || FormatError::malformed("map page", "it was not fetched");
    let plain = answer.unwrap_or_else(|| Err(missing().into()))?;
    if sealer.page_hash(&plain) != location.hash {
        return Err(FormatError::Damaged {
            what: "map page",
            check: "hash",
        }
        .into());
    }
    Ok(MapPage::decode(&plain, level, first_chunk, chunk_count)?)
}
