//! Building a map, page by page, as chunks come in ascending order.

use std::{collections::BTreeMap, sync::Arc};

use crate::format::{
    FormatError,
    crypto::{Hash, Sealer},
    frame::FrameKind,
    ids::PackName,
    limits::CHUNKS_MAX,
    location::Location,
    manifest::RootRef,
    map_page::{MapPage, levels, page_first, page_span, slot_span},
};

/// Which page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageInfo {
    /// Map page or list page.
    pub kind: FrameKind,
    /// Its level.
    pub level: u8,
    /// Its first chunk; 0 for a list page.
    pub first_chunk: u64,
    /// Its page hash.
    pub hash: Hash,
}

/// Where a sink put a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: Arc<PackName>,
    /// Offset of the frame, bytes.
    pub offset: u32,
    /// Length of the frame, bytes.
    pub length: u32,
}

/// Takes finished pages, and packs them. It does not block: bytes are buffered, and sent by the caller between pushes.
pub trait PageSink {
    /// What can go wrong.
    type Error: From<FormatError>;

    /// Packs a page.
    ///
    /// # Errors
    /// As the sink says.
    fn write(&mut self, info: PageInfo, plain: &[u8]) -> Result<Place, Self::Error>;

    /// Learns that an offered page of the base became a page of this map; nothing is to be written.
    fn keep(&mut self, location: &Location) {
        let _ = location;
    }
}

/// Builds the map of one volume.
#[derive(Debug)]
pub struct MapBuilder {
    sealer: Sealer,
    chunk_count: u64,
    next_chunk: u64,
    mapped: u64,
    /// The page under construction of each level.
    open: Vec<Option<MapPage>>,
    /// Pages of the base by position, to be kept where the new page turns out to be the same.
    offered: BTreeMap<(u8, u64), Location>,
    root: Option<Location>,
}

impl MapBuilder {
    /// For a volume with that many chunks.
    ///
    /// # Errors
    /// [`FormatError::Limit`] when it has none or too many.
    pub fn new(sealer: Sealer, chunk_count: u64) -> Result<Self, FormatError> {
        FormatError::check_limit("the number of chunks", chunk_count, CHUNKS_MAX)?;
        if chunk_count == 0 {
            return Err(FormatError::Limit {
                what: "the number of chunks",
                found: 0,
                limit: 1,
            });
        }
        let open = (0..levels(chunk_count)).map(|_| None).collect();
        Ok(Self {
            sealer,
            chunk_count,
            next_chunk: 0,
            mapped: 0,
            open,
            offered: BTreeMap::new(),
            root: None,
        })
    }

    /// Chunks pushed so far one by one (subtrees not counted).
    #[must_use]
    pub fn mapped(&self) -> u64 {
        self.mapped
    }

    /// Adds a chunk. Those left out are holes.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when chunks do not ascend or lie past the end; the sink's errors.
    pub fn push<S: PageSink>(
        &mut self,
        sink: &mut S,
        chunk: u64,
        location: Location,
    ) -> Result<(), S::Error> {
        self.advance(chunk, 1)?;
        self.mapped += 1;
        self.add(sink, 0, chunk, location)
    }

    /// Adds a whole page of the base, with all below it: nothing in its span has changed.
    ///
    /// # Errors
    /// As [`Self::push`]; also when the page would be the root or does not start on its span.
    pub fn push_subtree<S: PageSink>(
        &mut self,
        sink: &mut S,
        level: u8,
        first_chunk: u64,
        location: Location,
    ) -> Result<(), S::Error> {
        if usize::from(level) >= self.open.len() || !first_chunk.is_multiple_of(page_span(level)) {
            return Err(
                FormatError::malformed("map", "a subtree does not fit in this place").into(),
            );
        }
        self.advance(
            first_chunk,
            page_span(level)
                .min(self.chunk_count.saturating_sub(first_chunk))
                .max(1),
        )?;
        for below in 0..=level {
            self.close(sink, below)?;
        }
        if usize::from(level) + 1 == self.open.len() {
            self.root = Some(location);
            return Ok(());
        }
        self.add(sink, level + 1, first_chunk, location)
    }

    /// Offers a page of the base: where the page built for the same place is equal, the base's is kept and nothing is written. Offer
    /// a page before its chunks are pushed, see [`super::Leaf::visited`].
    pub fn offer(&mut self, level: u8, first_chunk: u64, location: Location) {
        self.offered.insert((level, first_chunk), location);
    }

    /// Writes what is open, and returns the root; `None` when the whole volume is a hole.
    ///
    /// # Errors
    /// As the sink says.
    pub fn finish<S: PageSink>(mut self, sink: &mut S) -> Result<Option<RootRef>, S::Error> {
        let levels = u8::try_from(self.open.len()).expect("at most 5 levels");
        for level in 0..levels {
            self.close(sink, level)?;
        }
        Ok(self
            .root
            .map(|location| RootRef::new(levels - 1, &location)))
    }

    fn advance(&mut self, chunk: u64, count: u64) -> Result<(), FormatError> {
        if chunk < self.next_chunk || chunk >= self.chunk_count {
            let problem = format!("chunk {chunk} comes out of order or past the end");
            return Err(FormatError::malformed("map", problem));
        }
        self.next_chunk = chunk + count;
        Ok(())
    }

    /// Adds an entry to the page of `level` that covers `chunk`.
    fn add<S: PageSink>(
        &mut self,
        sink: &mut S,
        level: u8,
        chunk: u64,
        location: Location,
    ) -> Result<(), S::Error> {
        let first = page_first(level, chunk);
        let other = self.open[usize::from(level)]
            .as_ref()
            .is_some_and(|page| page.first_chunk != first);
        if other {
            // What is open below belongs to the page that is closed now.
            for below in 0..=level {
                self.close(sink, below)?;
            }
        }
        let page = self.open[usize::from(level)].get_or_insert_with(|| MapPage::new(level, first));
        let slot = u8::try_from((chunk - first) / slot_span(level)).expect("below the fan-out");
        page.entries.push((slot, location));
        Ok(())
    }

    fn close<S: PageSink>(&mut self, sink: &mut S, level: u8) -> Result<(), S::Error> {
        let Some(page) = self.open[usize::from(level)].take() else {
            return Ok(());
        };
        let plain = page.encode();
        let hash = self.sealer.page_hash(&plain);
        let same = self
            .offered
            .remove(&(level, page.first_chunk))
            .filter(|base| base.hash == hash);
        self.forget_offers(level, page.first_chunk);
        let location = match same {
            Some(base) => {
                sink.keep(&base);
                base
            }
            None => {
                let info = PageInfo {
                    kind: FrameKind::MapPage,
                    level,
                    first_chunk: page.first_chunk,
                    hash,
                };
                let Place {
                    pack,
                    offset,
                    length,
                } = sink.write(info, &plain)?;
                Location {
                    pack,
                    offset,
                    length,
                    hash,
                }
            }
        };
        if usize::from(level) + 1 == self.open.len() {
            self.root = Some(location);
            return Ok(());
        }
        self.add(sink, level + 1, page.first_chunk, location)
    }

    /// Drops offers of a level that were passed by, so that they do not pile up.
    fn forget_offers(&mut self, level: u8, before: u64) {
        while let Some(entry) = self.offered.range((level, 0)..(level, before)).next() {
            let key = *entry.0;
            self.offered.remove(&key);
        }
        debug_assert!(self.offered.len() < 1 << 20, "offers pile up");
    }
}
