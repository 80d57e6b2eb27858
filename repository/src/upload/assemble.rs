//! From what the workers found to the trees: segments are put in order, their chunks go into the map, and what the map
//! reaches in each pack is counted for the pack list.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use super::{
    scan::Scanned,
    writer::{PackWriter, Packing},
};
use crate::{
    RepositoryError,
    format::{
        FormatError,
        frame::FrameKind,
        ids::PackName,
        list::build_pack_list,
        list_page::PackEntry,
        location::Location,
        manifest::RootRef,
        map::{MapBuilder, PageInfo, PageSink, Place},
    },
};

/// What a snapshot's map reaches in a pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) frames: u32,
    pub(super) bytes: u64,
}

/// Live frames of all packs.
#[derive(Debug, Default)]
pub(super) struct LivePacks(pub(super) BTreeMap<Arc<PackName>, Live>);

impl LivePacks {
    fn count(&mut self, location: &Location) {
        let live = self.0.entry(location.pack.clone()).or_default();
        live.frames += 1;
        live.bytes += u64::from(location.length);
    }
}

/// The map, as far as it is written.
pub(super) struct Assembled {
    pub(super) root: Option<RootRef>,
    pub(super) live: LivePacks,
    /// Chunks that are not holes.
    pub(super) mapped: u64,
    /// Chunks that this upload put.
    pub(super) stored: u64,
}

/// Builds the map until the last worker is gone. Blocks; to be run on a thread of its own.
///
/// # Errors
/// [`RepositoryError::Cancelled`] once the pipeline stops.
pub(super) fn assemble(
    packing: &Arc<Packing>,
    mut found: mpsc::UnboundedReceiver<Scanned>,
    chunk_count: u64,
) -> Result<Assembled, RepositoryError> {
    let mut sink = Sink {
        writer: PackWriter::new(packing, FrameKind::MapPage)?,
        live: LivePacks::default(),
    };
    let mut builder =
        MapBuilder::new(packing.sealer().clone(), chunk_count).map_err(SinkError::from)?;
    let (mut waiting, mut next) = (BTreeMap::new(), 0);
    let (mut mapped, mut stored) = (0, 0);
    while let Some(scanned) = found.blocking_recv() {
        waiting.insert(scanned.number, scanned);
        while let Some(scanned) = waiting.remove(&next) {
            next += 1;
            for page in scanned.base_pages {
                builder.offer(page.level, page.first_chunk, page.location);
            }
            mapped += scanned.chunks.len() as u64;
            stored += scanned.stored;
            for (chunk, location) in scanned.chunks {
                sink.live.count(&location);
                builder.push(&mut sink, chunk, location)?;
            }
        }
    }
    if !waiting.is_empty() {
        // A worker ended without its segment: the pipeline has stopped.
        return Err(RepositoryError::Cancelled);
    }
    let root = builder.finish(&mut sink)?;
    sink.writer.close()?;
    Ok(Assembled {
        root,
        live: sink.live,
        mapped,
        stored,
    })
}

/// Writes the pack list. Blocks.
pub(super) fn write_pack_list(
    packing: &Arc<Packing>,
    entries: Vec<PackEntry>,
) -> Result<Option<RootRef>, RepositoryError> {
    let mut sink = Sink {
        writer: PackWriter::new(packing, FrameKind::ListPage)?,
        live: LivePacks::default(),
    };
    let root = build_pack_list(packing.sealer(), &mut sink, entries)?;
    sink.writer.close()?;
    Ok(root)
}

struct Sink {
    writer: PackWriter,
    live: LivePacks,
}

impl PageSink for Sink {
    type Error = SinkError;

    fn write(&mut self, info: PageInfo, plain: &[u8]) -> Result<Place, SinkError> {
        let location = self
            .writer
            .write_page(info.level, info.first_chunk, plain, info.hash)
            .map_err(SinkError)?;
        self.live.count(&location);
        Ok(Place {
            pack: location.pack,
            offset: location.offset,
            length: location.length,
        })
    }

    fn keep(&mut self, location: &Location) {
        self.live.count(location);
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
