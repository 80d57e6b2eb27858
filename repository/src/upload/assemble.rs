//! From what the workers found to the trees: segments are put in order, their chunks go into the map, and what the map
//! reaches in each pack is counted for the pack list.
//!
//! Where only what changed is read, the segments leave gaps. Those are filled with the largest pages of the base's map
//! that fit them, of which nothing is looked at; so what the packs hold for this snapshot is counted as the base's count,
//! less what the pages held that are not kept, plus what is new.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use tokio::{runtime::Handle, sync::mpsc};

use super::{
    base::BaseMap,
    live::{Live, LivePacks},
    scan::Scanned,
    writer::{PackWriter, Packing},
};
use crate::{
    RepositoryError,
    format::{
        FormatError,
        crypto::Hash,
        frame::FrameKind,
        limits::{FAN_OUT, LEVELS_MAX},
        list::build_pack_list,
        list_page::PackEntry,
        location::Location,
        manifest::RootRef,
        map::{MapBuilder, PageInfo, PageSink, Place, VisitedPage},
        map_page::levels,
    },
};

/// The map, as far as it is written.
pub(super) struct Assembled {
    pub(super) root: Option<RootRef>,
    pub(super) live: LivePacks,
    /// Chunks that are not holes.
    pub(super) mapped: u64,
    /// Chunks that this upload put.
    pub(super) stored: u64,
    /// Those of them that the base has, in packs that are being emptied.
    pub(super) repacked: Live,
    /// Chunks that were read from the source.
    pub(super) read: u64,
}

/// Builds the map until the last worker is gone. With a `kept` base, what lies between the segments is as there. Blocks;
/// to be run on a thread of its own.
///
/// # Errors
/// [`RepositoryError::Cancelled`] once the pipeline stops; what is wrong with the base's map.
pub(super) fn assemble(
    packing: &Arc<Packing>,
    mut found: mpsc::UnboundedReceiver<Scanned>,
    chunk_count: u64,
    kept: Option<Arc<BaseMap>>,
    handle: &Handle,
) -> Result<Assembled, RepositoryError> {
    let mut map = Map::new(packing, chunk_count, kept, handle)?;
    let (mut waiting, mut next) = (BTreeMap::new(), 0);
    while let Some(scanned) = found.blocking_recv() {
        waiting.insert(scanned.number, scanned);
        while let Some(scanned) = waiting.remove(&next) {
            next += 1;
            map.segment(scanned)?;
        }
    }
    if !waiting.is_empty() {
        // A worker ended without its segment: the pipeline has stopped.
        return Err(RepositoryError::Cancelled);
    }
    map.finish()
}

struct Map<'a> {
    sink: Sink,
    builder: MapBuilder,
    chunk_count: u64,
    kept: Option<Arc<BaseMap>>,
    handle: &'a Handle,
    /// First chunk that is not in the map yet.
    at: u64,
    /// The last page of each level that was looked at, of the base's map.
    opened: [Option<u64>; LEVELS_MAX as usize],
    mapped: u64,
    stored: u64,
    repacked: Live,
    read: u64,
}

impl<'a> Map<'a> {
    fn new(
        packing: &Arc<Packing>,
        chunk_count: u64,
        kept: Option<Arc<BaseMap>>,
        handle: &'a Handle,
    ) -> Result<Self, RepositoryError> {
        let mut sink = Sink {
            writer: PackWriter::new(packing, FrameKind::MapPage)?,
            live: LivePacks::default(),
            known: HashMap::new(),
        };
        let mut mapped = 0;
        if let Some(base) = &kept {
            sink.live = LivePacks::of(base.packs.values());
            mapped = base.manifest.chunks.mapped;
        }
        Ok(Self {
            sink,
            builder: MapBuilder::new(packing.sealer().clone(), chunk_count)
                .map_err(SinkError::from)?,
            chunk_count,
            kept,
            handle,
            at: 0,
            opened: [None; LEVELS_MAX as usize],
            mapped,
            stored: 0,
            repacked: Live::default(),
            read: 0,
        })
    }

    fn segment(&mut self, scanned: Scanned) -> Result<(), RepositoryError> {
        self.keep(self.at..scanned.chunks.start)?;
        self.at = scanned.chunks.end;
        self.forget(&scanned.base_counted, scanned.base_mapped)?;
        for page in scanned.base_pages {
            self.open(page)?;
        }
        self.mapped += scanned.found.len() as u64;
        self.stored += scanned.stored;
        self.repacked += scanned.repacked;
        self.read += scanned.read;
        for (chunk, location) in scanned.found {
            self.sink.live.add(&location);
            self.builder.push(&mut self.sink, chunk, location)?;
        }
        Ok(())
    }

    /// Takes a range over from the base, by its largest pages.
    fn keep(&mut self, range: Range<u64>) -> Result<(), RepositoryError> {
        let Some(base) = self.kept.clone().filter(|_| !range.is_empty()) else {
            return Ok(());
        };
        let levels = levels(self.chunk_count);
        let cover = base.cover(range, self.chunk_count, levels);
        let cover = self.handle.block_on(cover)?;
        for page in cover.opened {
            self.open(page)?;
        }
        for page in cover.subtrees {
            let VisitedPage {
                level,
                first_chunk,
                location,
            } = page;
            self.builder
                .push_subtree(&mut self.sink, level, first_chunk, location)?;
        }
        Ok(())
    }

    /// A page of the base that is built anew: if it comes out the same, the base's is kept.
    fn open(&mut self, page: VisitedPage) -> Result<(), RepositoryError> {
        if let Some(base) = self.kept.clone() {
            let last = &mut self.opened[usize::from(page.level).min(LEVELS_MAX as usize - 1)];
            // Upper pages are met again and again, always in order.
            if *last < Some(page.first_chunk) {
                *last = Some(page.first_chunk);
                let mut gone = LivePacks::default();
                gone.add(&page.location);
                self.forget(&gone, 0)?;
            }
            if !base.may_refer_to(&page.location) {
                return Ok(());
            }
        }
        self.builder
            .offer(page.level, page.first_chunk, page.location);
        Ok(())
    }

    /// What the base's counts have in them and this map has not, unless it is added again.
    fn forget(&mut self, gone: &LivePacks, mapped: u64) -> Result<(), RepositoryError> {
        let Some(base) = &self.kept else {
            return Ok(());
        };
        let left = self.mapped.checked_sub(mapped);
        match left.filter(|_| self.sink.live.remove(gone)) {
            Some(left) => {
                self.mapped = left;
                Ok(())
            }
            None => Err(miscounted(base)),
        }
    }

    fn finish(mut self) -> Result<Assembled, RepositoryError> {
        self.keep(self.at..self.chunk_count)?;
        if let Some(base) = self.kept.clone() {
            // A volume that shrank: what lay past the new end is not reached any more.
            let total = base.manifest.chunks.total;
            let mut start = self.chunk_count.next_multiple_of(FAN_OUT);
            while start < total {
                let end = (start + FAN_OUT * FAN_OUT).min(total);
                let gone = self.handle.block_on(base.all_chunks(start..end))?;
                self.forget(&gone.counted, gone.mapped)?;
                for page in gone.pages {
                    self.open(page)?;
                }
                start = end;
            }
        }
        let root = self.builder.finish(&mut self.sink)?;
        self.sink.writer.close()?;
        let mut live = self.sink.live;
        if let Some(base) = &self.kept
            && (!live.tidy() || root.is_none() != (self.mapped == 0))
        {
            return Err(miscounted(base));
        }
        Ok(Assembled {
            root,
            live,
            mapped: self.mapped,
            stored: self.stored,
            repacked: self.repacked,
            read: self.read,
        })
    }
}

fn miscounted(base: &BaseMap) -> RepositoryError {
    RepositoryError::Inconsistent {
        object: base.manifest.object_key(),
        problem: "its pack list counts other frames than its map has".to_owned(),
    }
}

/// Writes the pack list; pages that are as in `known` are kept. Blocks.
pub(super) fn write_pack_list(
    packing: &Arc<Packing>,
    entries: Vec<PackEntry>,
    known: HashMap<Hash, Location>,
) -> Result<(Option<RootRef>, LivePacks), RepositoryError> {
    let mut sink = Sink {
        writer: PackWriter::new(packing, FrameKind::ListPage)?,
        live: LivePacks::default(),
        known,
    };
    let root = build_pack_list(packing.sealer(), &mut sink, entries)?;
    sink.writer.close()?;
    Ok((root, sink.live))
}

struct Sink {
    writer: PackWriter,
    live: LivePacks,
    /// Pages that are in the bucket, by the hash of their content.
    known: HashMap<Hash, Location>,
}

impl PageSink for Sink {
    type Error = SinkError;

    fn write(&mut self, info: PageInfo, plain: &[u8]) -> Result<Place, SinkError> {
        let location = match self.known.get(&info.hash) {
            Some(known) => known.clone(),
            None => self
                .writer
                .write_page(info.level, info.first_chunk, plain, info.hash)
                .map_err(SinkError)?,
        };
        self.live.add(&location);
        Ok(Place {
            pack: location.pack,
            offset: location.offset,
            length: location.length,
        })
    }

    fn keep(&mut self, location: &Location) {
        self.live.add(location);
    }
}

/// What a builder can meet.
struct SinkError(RepositoryError);

impl From<FormatError> for SinkError {
    fn from(error: FormatError) -> Self {
        Self(RepositoryError::Internal(format!(
            "a tree cannot be built: {error}"
        )))
    }
}

impl From<SinkError> for RepositoryError {
    fn from(error: SinkError) -> Self {
        error.0
    }
}
