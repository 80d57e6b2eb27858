//! Reading the pages of both trees: neighbours come with one request. What [`MapReader`] and [`PackListReader`] find
//! broken gets its object and offset here.

mod blocks;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use async_trait::async_trait;
use blocks::Blocks;

use crate::{
    RepositoryError,
    fetch::{BatchLimits, Fetcher, batches},
    format::{
        FormatError,
        crypto::Sealer,
        frame::{FrameDecoder, FrameKind},
        ids::PackName,
        list::{BrokenListPage, PackListReader},
        location::Location,
        manifest::{Manifest, RootRef},
        map::{BrokenPage, MapReader, PageSource},
    },
    restore::{is_no_help, may_lose, note_first},
    snapshots::chain,
    store::StoreError,
};

/// The children of one page lie close together; one or two requests bring them all.
const PAGE_LIMITS: BatchLimits = BatchLimits {
    range_bytes: 4 << 20,
    gap_bytes: 64 << 10,
    frames: 64,
};

/// Pages kept for those who come by the same way again: a path from the root, and some leaves. About 2 MiB.
const CACHED_PAGES: usize = 512;

/// Why a page is not there; where it should be is said by whoever asked.
#[derive(Debug)]
pub(crate) enum PageError {
    /// The bytes are not what they should be.
    Format(FormatError),
    /// They could not be had.
    Fetch(RepositoryError),
}

impl From<FormatError> for PageError {
    fn from(source: FormatError) -> Self {
        Self::Format(source)
    }
}

impl PageError {
    /// With the place.
    pub(crate) fn at(self, location: &Location) -> RepositoryError {
        match self {
            Self::Format(source) => damaged(location, source),
            Self::Fetch(error) => error,
        }
    }
}

/// An error of what lies at a location.
pub(crate) fn damaged(location: &Location, source: FormatError) -> RepositoryError {
    RepositoryError::object(
        location.pack.object_key(),
        Some(location.offset.into()),
        source,
    )
}

/// A map's page as the error that it is.
pub(crate) fn broken_page(broken: BrokenPage<PageError>) -> RepositoryError {
    broken.error.at(&broken.location)
}

/// A list's page as the error that it is.
pub(crate) fn broken_list_page(broken: BrokenListPage<PageError>) -> RepositoryError {
    broken.error.at(&broken.location)
}

/// Fetches pages. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    fetcher: Fetcher,
    sealer: Sealer,
    cache: Option<Arc<Mutex<PageCache>>>,
    blocks: Option<Arc<Blocks>>,
    /// Where a page that cannot be read is looked for once more, and whether one was found there.
    other: Option<(Fetcher, Arc<AtomicBool>)>,
}

/// The pages asked for, as they come.
type Answers = [Option<Result<Vec<u8>, PageError>>];

#[derive(Debug, Default)]
struct PageCache {
    plain: HashMap<Location, Vec<u8>>,
    order: VecDeque<Location>,
}

impl Pages {
    /// Every page is fetched when it is asked for.
    pub(crate) fn new(fetcher: Fetcher, sealer: Sealer) -> Self {
        Self {
            fetcher,
            sealer,
            cache: None,
            blocks: None,
            other: None,
        }
    }

    /// Pages that are damaged or missing are read from the bucket as it was first written. `found` tells that some were.
    pub(crate) fn or_from(mut self, first: Fetcher, found: Arc<AtomicBool>) -> Self {
        self.other = Some((first, found));
        self
    }

    /// The pages used last are kept.
    pub(crate) fn cached(mut self) -> Self {
        self.cache = Some(Arc::default());
        self
    }

    /// Of packs whose size is known, pages are read with their neighbours, and those are kept for a while.
    pub(crate) fn with_sizes(mut self, sizes: BTreeMap<Arc<PackName>, u64>) -> Self {
        self.blocks = Some(Arc::new(Blocks::new(sizes)));
        self
    }

    /// The map of a snapshot.
    pub(crate) fn map(&self, manifest: &Manifest) -> Result<MapReader<Self>, RepositoryError> {
        self.map_range(manifest, 0..manifest.chunks.total)
    }

    /// The leaves of a snapshot's map that have chunks in a range.
    pub(crate) fn map_range(
        &self,
        manifest: &Manifest,
        range: Range<u64>,
    ) -> Result<MapReader<Self>, RepositoryError> {
        let (root, total) = (manifest.map.as_ref(), manifest.chunks.total);
        MapReader::range(self.sealer.clone(), self.clone(), root, total, range)
            .map(|reader| reader.with_chunk_size(manifest.chunk_size_bytes))
            .map_err(|source| RepositoryError::object(manifest.object_key(), None, source))
    }

    /// The pack list of a snapshot.
    pub(crate) fn pack_list(&self, root: Option<&RootRef>) -> PackListReader<Self> {
        PackListReader::new(self.sealer.clone(), self.clone(), root)
    }

    /// Takes from blocks what can be had so, and returns the rest.
    async fn take_from_blocks(
        &self,
        kind: FrameKind,
        mut wanted: Vec<(Location, usize)>,
        answers: &mut Answers,
    ) -> Vec<(Location, usize)> {
        let Some(blocks) = &self.blocks else {
            return wanted;
        };
        match blocks.frames(&self.fetcher, &wanted).await {
            Ok(frames) => {
                for ((location, tag), frame) in wanted.iter().zip(frames) {
                    answers[*tag] = frame.map(|frame| self.open(kind, location, &frame));
                }
                wanted.retain(|(_, tag)| answers[*tag].is_none());
                wanted
            }
            Err(error) => {
                for (location, tag) in &wanted {
                    answers[*tag] = Some(Err(PageError::Fetch(self.again(location, &error))));
                }
                Vec::new()
            }
        }
    }

    async fn fetch_batches(
        &self,
        kind: FrameKind,
        wanted: Vec<(Location, usize)>,
        answers: &mut Answers,
    ) {
        let wanted = self.take_from_blocks(kind, wanted, answers).await;
        for batch in batches(wanted, PAGE_LIMITS) {
            match self.fetcher.get(&batch.pack, batch.range.clone()).await {
                Ok(body) => {
                    for (location, tag) in &batch.frames {
                        let frame = batch.slice(&body, location).unwrap_or_default();
                        answers[*tag] = Some(self.open(kind, location, frame));
                    }
                }
                // A pack that is too short still has its first pages.
                Err(RepositoryError::Store(StoreError::Integrity { .. })) => {
                    for (location, tag) in &batch.frames {
                        answers[*tag] = Some(self.fetch_one(kind, location).await);
                    }
                }
                // Whatever else it is, it is the same for all, and asking again is the store's business.
                Err(error) => {
                    for (location, tag) in &batch.frames {
                        answers[*tag] = Some(Err(PageError::Fetch(self.again(location, &error))));
                    }
                }
            }
        }
    }

    /// The same failure once more, of the same kind: callers tell by it whether trying again is of use.
    fn again(&self, location: &Location, error: &RepositoryError) -> RepositoryError {
        let key = location.pack.object_key();
        let doing = format!("reading {key}");
        let source = |error: &dyn std::error::Error| match error.source() {
            Some(cause) => chain(cause).into(),
            None => chain(error).into(),
        };
        let RepositoryError::Store(error) = error else {
            return RepositoryError::Internal(format!("{doing}: {}", chain(error)));
        };
        RepositoryError::Store(match error {
            StoreError::NotFound { .. } => StoreError::NotFound { key },
            StoreError::NoSuchBucket { bucket, endpoint } => StoreError::NoSuchBucket {
                bucket: bucket.clone(),
                endpoint: endpoint.clone(),
            },
            StoreError::AccessDenied { .. } => StoreError::AccessDenied {
                doing,
                source: source(error),
            },
            StoreError::Credentials { endpoint, .. } => StoreError::Credentials {
                endpoint: endpoint.clone(),
                source: source(error),
            },
            StoreError::Certificate { endpoint, .. } => StoreError::Certificate {
                endpoint: endpoint.clone(),
                source: source(error),
            },
            StoreError::Unavailable {
                endpoint, attempts, ..
            } => StoreError::Unavailable {
                endpoint: endpoint.clone(),
                doing,
                attempts: *attempts,
                source: source(error),
            },
            other => StoreError::Refused {
                endpoint: self.fetcher.store.location(),
                doing,
                source: chain(other).into(),
            },
        })
    }

    async fn fetch_one(&self, kind: FrameKind, location: &Location) -> Result<Vec<u8>, PageError> {
        let body = self.fetcher.get(&location.pack, location.range()).await;
        self.open(kind, location, &body.map_err(PageError::Fetch)?)
    }

    /// Of a page that cannot be read what was written first; the page as it is where that is no better.
    async fn or_first(
        &self,
        kind: FrameKind,
        location: &Location,
        page: Result<Vec<u8>, PageError>,
    ) -> Result<Vec<u8>, PageError> {
        let Some((first, found)) = &self.other else {
            return page;
        };
        let is_sound = |plain: &Vec<u8>| self.sealer.page_hash(plain) == location.hash;
        match &page {
            Ok(plain) if is_sound(plain) => return page,
            Err(PageError::Fetch(error)) if !may_lose(error) => return page,
            _ => {}
        }
        match first.get(&location.pack, location.range()).await {
            Ok(frame) => match self.open(kind, location, &frame) {
                Ok(plain) if is_sound(&plain) => {
                    note_first(found);
                    Ok(plain)
                }
                _ => page,
            },
            Err(error) if is_no_help(&error) => page,
            Err(error) => Err(PageError::Fetch(error)),
        }
    }

    fn open(
        &self,
        kind: FrameKind,
        location: &Location,
        frame: &[u8],
    ) -> Result<Vec<u8>, PageError> {
        let cipher = self.sealer.pack(&location.pack);
        let plain = FrameDecoder::new()?.decode(&cipher, frame, kind)?;
        if let Some(cache) = &self.cache {
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.order.len() >= CACHED_PAGES
                && let Some(oldest) = cache.order.pop_front()
            {
                cache.plain.remove(&oldest);
            }
            cache.order.push_back(location.clone());
            cache.plain.insert(location.clone(), plain.clone());
        }
        Ok(plain)
    }

    fn look_up(&self, location: &Location) -> Option<Vec<u8>> {
        let cache = self.cache.as_ref()?;
        let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.plain.get(location).cloned()
    }
}

#[async_trait]
impl PageSource for Pages {
    type Error = PageError;

    async fn pages(&self, kind: FrameKind, wanted: &[Location]) -> Vec<Result<Vec<u8>, PageError>> {
        let mut answers: Vec<Option<Result<Vec<u8>, PageError>>> = wanted
            .iter()
            .map(|location| self.look_up(location).map(Ok))
            .collect();
        let missing = wanted
            .iter()
            .enumerate()
            .filter(|(tag, _)| answers[*tag].is_none())
            .map(|(tag, location)| (location.clone(), tag))
            .collect();
        self.fetch_batches(kind, missing, &mut answers).await;
        let mut pages = Vec::with_capacity(wanted.len());
        for (page, location) in answers.into_iter().zip(wanted) {
            let page = page.expect("each location is in one batch");
            pages.push(self.or_first(kind, location, page).await);
        }
        pages
    }
}
