//! Finding single chunks in a map, with a cache of pages.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{PageSource, read::open_page};
use crate::format::{
    FormatError,
    crypto::Sealer,
    frame::FrameKind,
    location::Location,
    manifest::RootRef,
    map_page::{MapPage, levels, page_first},
};

/// Pages that a lookup keeps: about 6 MiB.
const CACHED_PAGES: usize = 1024;

/// Finds chunks one by one, reading only the pages on the way.
#[derive(Debug)]
pub struct MapLookup<S: PageSource> {
    sealer: Sealer,
    source: S,
    chunk_count: u64,
    root: Option<RootRef>,
    cache: HashMap<(u8, u64), Arc<MapPage>>,
    order: VecDeque<(u8, u64)>,
}

impl<S: PageSource> MapLookup<S> {
    /// For a map.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the root's level does not fit the number of chunks.
    pub fn new(
        sealer: Sealer,
        source: S,
        root: Option<RootRef>,
        chunk_count: u64,
    ) -> Result<Self, FormatError> {
        if root
            .as_ref()
            .is_some_and(|root| root.level != levels(chunk_count) - 1)
        {
            return Err(FormatError::malformed(
                "map",
                "its root is of a wrong level",
            ));
        }
        Ok(Self {
            sealer,
            source,
            chunk_count,
            root,
            cache: HashMap::new(),
            order: VecDeque::new(),
        })
    }

    /// Where a chunk lies; `None` for a hole.
    ///
    /// # Errors
    /// The source's, and [`FormatError`] for pages that are not what they should be.
    pub async fn find(&mut self, chunk: u64) -> Result<Option<Location>, S::Error> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let mut level = root.level;
        let mut location = root.location();
        loop {
            let page = self
                .page(level, page_first(level, chunk), &location)
                .await?;
            match page.entry_for(chunk) {
                None => return Ok(None),
                Some(found) if level == 0 => return Ok(Some(found.clone())),
                Some(found) => location = found.clone(),
            }
            level -= 1;
        }
    }

    async fn page(
        &mut self,
        level: u8,
        first: u64,
        location: &Location,
    ) -> Result<Arc<MapPage>, S::Error> {
        if let Some(page) = self.cache.get(&(level, first)) {
            return Ok(Arc::clone(page));
        }
        let answer = self
            .source
            .pages(FrameKind::MapPage, std::slice::from_ref(location))
            .await
            .pop();
        let page = Arc::new(open_page(
            &self.sealer,
            answer,
            location,
            level,
            first,
            self.chunk_count,
        )?);
        if self.order.len() >= CACHED_PAGES
            && let Some(oldest) = self.order.pop_front()
        {
            self.cache.remove(&oldest);
        }
        self.order.push_back((level, first));
        self.cache.insert((level, first), Arc::clone(&page));
        Ok(page)
    }
}
