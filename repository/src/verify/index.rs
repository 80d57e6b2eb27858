//! The packs' own indexes, kept while maps are compared with them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    RepositoryError,
    fetch::Fetcher,
    format::{
        FormatError,
        crypto::{Hash, Sealer},
        frame::{FrameDecoder, FrameKind},
        ids::PackName,
        location::Location,
        pack::{FOOTER_SIZE, Footer, HEADER_SIZE, check_header},
        pack_index::PackIndex,
    },
};

/// Frames that are kept in memory, all packs together: about 25 MiB.
const CACHED_FRAMES: usize = 512 << 10;

/// A frame as its pack's index has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) kind: FrameKind,
    pub(super) hash: Hash,
}

/// The frames of a pack before its index, by offset.
pub(super) type Frames = Arc<Vec<Frame>>;

/// Reads the index of a pack of that size.
pub(super) async fn read_index(
    fetcher: &Fetcher,
    sealer: &Sealer,
    pack: &Arc<PackName>,
    size_bytes: u64,
) -> Result<Vec<Frame>, RepositoryError> {
    let object = pack.object_key();
    let wrong = |offset: u64| {
        let object = object.clone();
        move |source: FormatError| RepositoryError::object(object.clone(), Some(offset), source)
    };
    let Some(footer_at) = size_bytes
        .checked_sub(FOOTER_SIZE.into())
        .filter(|at| *at >= u64::from(HEADER_SIZE))
    else {
        return Err(RepositoryError::Inconsistent {
            object,
            problem: format!("{size_bytes} bytes are too few for a pack"),
        });
    };
    let header = fetcher.get(pack, 0..u64::from(HEADER_SIZE)).await?;
    check_header(&header, sealer.is_sealed()).map_err(wrong(0))?;
    let footer = fetcher.get(pack, footer_at..size_bytes).await?;
    let footer = Footer::decode(&footer, size_bytes).map_err(wrong(footer_at))?;
    let at = footer.index_offset;
    let frame = fetcher.get(pack, at..footer_at).await?;
    let plain = FrameDecoder::new()
        .and_then(|mut decoder| decoder.decode(&sealer.pack(pack), &frame, FrameKind::Index))
        .map_err(wrong(at))?;
    let index = PackIndex::decode(&plain, pack).map_err(wrong(at))?;
    let frames: Vec<Frame> = index
        .with_offsets()
        .map(|(offset, entry)| Frame {
            offset,
            length: entry.length,
            kind: entry.kind,
            hash: entry.hash,
        })
        .collect();
    let end = frames
        .last()
        .map_or(u64::from(HEADER_SIZE), |f| f.offset + u64::from(f.length));
    if end != at || frames.len() != footer.frames as usize {
        return Err(RepositoryError::Inconsistent {
            object,
            problem: format!("its index ends at byte {end}, its footer says {at}"),
        });
    }
    Ok(frames)
}

/// Indexes that were used last.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    known: HashMap<Arc<PackName>, Option<Frames>>,
    order: VecDeque<Arc<PackName>>,
    frames: usize,
}

impl IndexCache {
    /// What is known of a pack; the inner `None` is an index that cannot be read.
    pub(super) fn get(&self, pack: &PackName) -> Option<Option<Frames>> {
        self.known.get(pack).cloned()
    }

    pub(super) fn put(&mut self, pack: Arc<PackName>, frames: Option<Frames>) {
        self.frames += frames.as_ref().map_or(0, |frames| frames.len());
        while self.frames > CACHED_FRAMES
            && let Some(oldest) = self.order.pop_front()
        {
            // An unreadable index stays known as such: it is a problem once.
            if let Some(Some(frames)) = self.known.remove(&oldest) {
                self.frames -= frames.len();
            }
        }
        if frames.is_some() {
            self.order.push_back(pack.clone());
        }
        self.known.insert(pack, frames);
    }
}

/// What is wrong with a location, seen from the pack's index.
pub(super) fn contradiction(
    frames: &Frames,
    location: &Location,
    kind: FrameKind,
) -> Option<&'static str> {
    let offset = u64::from(location.offset);
    let Ok(at) = frames.binary_search_by_key(&offset, |frame| frame.offset) else {
        return Some("a map points here, but no frame starts here");
    };
    let frame = &frames[at];
    if frame.kind != kind {
        return Some("a map points here, but the frame is of another kind");
    }
    if frame.length != location.length {
        return Some("a map points here, but the frame has another length");
    }
    (frame.hash != location.hash).then_some("a map points here, but the frame has another hash")
}
