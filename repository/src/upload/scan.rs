//! The workers: each reads a segment, passes zeroes over, hashes, compresses and seals what is left.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use super::{
    base::{BaseChunks, BaseMap},
    plan::{Plan, Segment},
    read_ahead::{ReadAhead, blocks},
    writer::PackWriter,
};
use crate::{
    Progress, RepositoryError,
    device::{Source, is_zero},
    format::{crypto::Sealer, location::Location, map::VisitedPage},
    stop::Stop,
};

/// What a worker found in a segment.
pub(super) struct Scanned {
    /// The segment's number.
    pub(super) number: u64,
    /// Its chunks that are not holes, ascending.
    pub(super) chunks: Vec<(u64, Location)>,
    /// How many of them were written, not reused.
    pub(super) stored: u64,
    /// Pages of the base that cover the segment.
    pub(super) base_pages: Vec<VisitedPage>,
    /// Keeps the number of segments that wait for their turn bounded.
    pub(super) _turn: OwnedSemaphorePermit,
}

/// What all workers share.
pub(super) struct Scan {
    pub(super) source: Arc<Source>,
    pub(super) plan: Mutex<Plan>,
    pub(super) chunk_size: usize,
    pub(super) sealer: Sealer,
    pub(super) base: Option<BaseMap>,
    /// Segments that were taken and not yet consumed in order.
    pub(super) turns: Arc<Semaphore>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Stop,
    pub(super) handle: Handle,
}

impl Scan {
    /// A worker's life: segment after segment, until none is left. Blocks; to be run on a thread of its own.
    ///
    /// # Errors
    /// [`RepositoryError::Cancelled`] once the pipeline stops, and whatever reading or writing meets.
    pub(super) fn work(
        &self,
        writer: PackWriter,
        found: &mpsc::UnboundedSender<Scanned>,
    ) -> Result<(), RepositoryError> {
        std::thread::scope(|scope| {
            let ahead = ReadAhead::start(scope, &self.source, self.chunk_size)?;
            self.work_reading(writer, ahead, found)
        })
    }

    fn work_reading(
        &self,
        mut writer: PackWriter,
        mut ahead: ReadAhead,
        found: &mpsc::UnboundedSender<Scanned>,
    ) -> Result<(), RepositoryError> {
        while let Some((segment, turn)) = self.take_segment()? {
            let mut base = match &self.base {
                Some(base) => self.handle.block_on(base.chunks(segment.chunks.clone()))?,
                None => BaseChunks::default(),
            };
            let mut scanned = Scanned {
                number: segment.number,
                chunks: Vec::new(),
                stored: 0,
                base_pages: std::mem::take(&mut base.pages),
                _turn: turn,
            };
            let mut desk = Desk {
                writer: &mut writer,
                ahead: &mut ahead,
                base: &base,
                scanned: &mut scanned,
            };
            self.scan_segment(&segment, &mut desk)?;
            found
                .send(scanned)
                .map_err(|_| RepositoryError::Cancelled)?;
        }
        writer.close()
    }

    /// The next segment, as soon as not too many are waiting for an earlier one.
    fn take_segment(&self) -> Result<Option<(Segment, OwnedSemaphorePermit)>, RepositoryError> {
        let turn = self.handle.block_on(async {
            tokio::select! {
                turn = self.turns.clone().acquire_owned() => turn.map_err(|_| RepositoryError::Cancelled),
                () = self.stop.stopped() => Err(RepositoryError::Cancelled),
            }
        })?;
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = plan.position();
        let segment = plan.next()?;
        // Up to here all was known to be holes.
        let holes = segment.as_ref().map_or(plan.position(), |s| s.chunks.start) - passed;
        self.progress.scanned(holes * self.chunk_size as u64);
        Ok(segment.map(|segment| (segment, turn)))
    }

    fn scan_segment(&self, segment: &Segment, desk: &mut Desk<'_>) -> Result<(), RepositoryError> {
        desk.writer.begin(segment.chunks.start);
        let chunk_size = self.chunk_size as u64;
        let mut passed = segment.chunks.start;
        let mut coming = blocks(&segment.runs, desk.ahead.block_chunks());
        let mut next = coming.next();
        if let Some(first) = &next {
            desk.ahead.ask(first.clone())?;
        }
        while let Some(block) = next {
            self.stop.check()?;
            next = coming.next();
            if let Some(next) = &next {
                desk.ahead.ask(next.clone())?;
            }
            self.scan_block(&block, desk)?;
            self.progress.scanned((block.end - passed) * chunk_size);
            passed = block.end;
        }
        self.progress
            .scanned((segment.chunks.end - passed) * chunk_size);
        desk.writer.scanned_to(segment.chunks.end);
        Ok(())
    }

    fn scan_block(&self, block: &Range<u64>, desk: &mut Desk<'_>) -> Result<(), RepositoryError> {
        let chunk_size = self.chunk_size;
        let chunks = usize::try_from(block.end - block.start).expect("fits the buffer");
        let buffer = desk.ahead.take()?;
        let bytes = &buffer[..chunks * chunk_size];
        for (chunk, plain) in (block.start..).zip(bytes.chunks_exact(chunk_size)) {
            if is_zero(plain) {
                continue;
            }
            self.progress.data(chunk_size as u64);
            let hash = self.sealer.chunk_hash(plain);
            let location = match desk.base.unchanged(chunk, &hash) {
                Some(location) => location.clone(),
                None => {
                    desk.scanned.stored += 1;
                    desk.writer.write_chunk(chunk, plain, hash)?
                }
            };
            desk.scanned.chunks.push((chunk, location));
        }
        desk.ahead.give_back(buffer);
        Ok(())
    }
}

/// What a worker has in its hands.
struct Desk<'a> {
    writer: &'a mut PackWriter,
    ahead: &'a mut ReadAhead,
    base: &'a BaseChunks,
    scanned: &'a mut Scanned,
}
