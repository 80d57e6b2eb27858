//! The workers: each reads a segment, passes zeroes over, hashes, compresses and seals what is left.

use std::{
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use super::{
    adopt::{Adopted, AdoptedChunks},
    base::{BaseChunks, BaseMap},
    live::{Live, LivePacks},
    plan::{Plan, Segment},
    read_ahead::{ReadAhead, blocks},
    writer::PackWriter,
};
use crate::{
    Progress, RepositoryError,
    device::{Source, is_zero},
    format::{
        crypto::{Hash, Sealer},
        location::Location,
        map::VisitedPage,
    },
    stop::Stop,
};

/// What a worker found in a segment.
pub(super) struct Scanned {
    /// The segment's number.
    pub(super) number: u64,
    /// Its chunks.
    pub(super) chunks: Range<u64>,
    /// Those that are not holes, ascending.
    pub(super) found: Vec<(u64, Location)>,
    /// How many of them were written, not reused.
    pub(super) stored: u64,
    /// Those that were written anew though the base has them: their pack is being emptied.
    pub(super) repacked: Live,
    /// How many chunks were read.
    pub(super) read: u64,
    /// Pages of the base that cover the segment.
    pub(super) base_pages: Vec<VisitedPage>,
    /// Chunks of these pages, where not all pages are looked at.
    pub(super) base_counted: LivePacks,
    /// How many these are.
    pub(super) base_mapped: u64,
    /// Keeps the number of segments that wait for their turn bounded.
    pub(super) _turn: OwnedSemaphorePermit,
}

impl Scanned {
    /// Adds what is in ranges that were not read: as in the base, or as an earlier attempt found it.
    fn take_over(&mut self, base: &BaseChunks, adopted: &AdoptedChunks, segment: &Segment) {
        let is_kept = |chunk: u64| segment.kept.iter().any(|range| range.contains(&chunk));
        for (range, pack) in adopted.scanned() {
            let of_pack = |chunk| adopted.of_pack(chunk, pack).or_else(|| base.get(chunk));
            let found = range.clone().filter(|chunk| !is_kept(*chunk));
            self.found
                .extend(found.filter_map(|chunk| Some((chunk, of_pack(chunk)?.clone()))));
        }
        let kept = segment.kept.iter().cloned();
        self.found.extend(kept.flat_map(|range| base.within(range)));
        self.found.sort_unstable_by_key(|(chunk, _)| *chunk);
    }
}

/// What all workers share.
pub(super) struct Scan {
    pub(super) source: Arc<Source>,
    pub(super) plan: Mutex<Plan>,
    pub(super) chunk_size: usize,
    pub(super) sealer: Sealer,
    pub(super) base: Option<Arc<BaseMap>>,
    pub(super) adopted: Option<Arc<Adopted>>,
    /// Whether what is not in a segment is as in the base.
    pub(super) keeps_rest: bool,
    /// A chunk that is said to be unchanged and is not, once there is one.
    pub(super) unsaid: Arc<OnceLock<u64>>,
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
        while let Some((mut segment, turn)) = self.take_segment()? {
            let mut base = self.base_of(&segment)?;
            let planned = segment.read_chunks();
            // Those are read: it is cheaper than fetching them, and shows whether they are what they are said to be.
            let taken_back = segment.take_back(base.anew.keys().copied());
            let adopted = self.adopted_of(&mut segment, &base)?;
            let (read, chunk_size) = (segment.read_chunks(), self.chunk_size as u64);
            self.progress
                .reads_instead(planned * chunk_size, read * chunk_size);
            let mut scanned = Scanned {
                number: segment.number,
                chunks: segment.chunks.clone(),
                found: Vec::new(),
                stored: 0,
                repacked: Live::default(),
                read,
                base_pages: std::mem::take(&mut base.pages),
                base_counted: std::mem::take(&mut base.counted),
                base_mapped: base.mapped,
                _turn: turn,
            };
            let mut desk = Desk {
                writer: &mut writer,
                ahead: &mut ahead,
                base: &base,
                adopted: &adopted,
                taken_back: &taken_back,
                scanned: &mut scanned,
            };
            self.scan_segment(&segment, &mut desk)?;
            scanned.take_over(&base, &adopted, &segment);
            found
                .send(scanned)
                .map_err(|_| RepositoryError::Cancelled)?;
        }
        writer.close()
    }

    /// What the base has in a segment.
    fn base_of(&self, segment: &Segment) -> Result<BaseChunks, RepositoryError> {
        let chunks = segment.chunks.clone();
        match &self.base {
            Some(base) if self.keeps_rest => self.handle.block_on(base.all_chunks(chunks)),
            Some(base) => self.handle.block_on(base.chunks(chunks)),
            None => Ok(BaseChunks::default()),
        }
    }

    /// What earlier attempts left of a segment. What they looked at is not read again, if that says what is there.
    fn adopted_of(
        &self,
        segment: &mut Segment,
        base: &BaseChunks,
    ) -> Result<AdoptedChunks, RepositoryError> {
        let Some(adopted) = &self.adopted else {
            return Ok(AdoptedChunks::default());
        };
        let mut adopted = self.handle.block_on(adopted.chunks(&segment.chunks))?;
        if base.patchy {
            adopted.read_again();
        }
        segment.skip(adopted.scanned().iter().map(|(range, _)| range));
        Ok(adopted)
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
        // Of a volume that is read whole a pack vouches for the holes as well; else only for what is read.
        let vouches_for_all = self.base.is_none() && desk.adopted.scanned().is_empty();
        desk.writer.begin(segment.chunks.start);
        let chunk_size = self.chunk_size as u64;
        let mut passed = segment.chunks.start;
        // A block never spans two runs.
        let mut runs = segment.runs.iter().peekable();
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
            let run = runs.peek().copied();
            if !vouches_for_all && run.is_some_and(|run| run.start == block.start) {
                desk.writer.begin(block.start);
            }
            self.scan_block(&block, desk)?;
            self.progress.scanned((block.end - passed) * chunk_size);
            self.progress.read((block.end - block.start) * chunk_size);
            passed = block.end;
            if run.is_some_and(|run| run.end == block.end) {
                desk.writer.scanned_to(block.end);
                runs.next();
            }
        }
        self.progress
            .scanned((segment.chunks.end - passed) * chunk_size);
        if vouches_for_all {
            desk.writer.scanned_to(segment.chunks.end);
        }
        Ok(())
    }

    fn scan_block(&self, block: &Range<u64>, desk: &mut Desk<'_>) -> Result<(), RepositoryError> {
        let chunk_size = self.chunk_size;
        let chunks = usize::try_from(block.end - block.start).expect("fits the buffer");
        let buffer = desk.ahead.take()?;
        let bytes = &buffer[..chunks * chunk_size];
        for (chunk, plain) in (block.start..).zip(bytes.chunks_exact(chunk_size)) {
            if is_zero(plain) {
                desk.check(chunk, None, &self.unsaid)?;
                if desk.base.may_have(chunk) {
                    desk.writer.leave_out(chunk);
                }
                continue;
            }
            self.progress.data(chunk_size as u64);
            let hash = self.sealer.chunk_hash(plain);
            desk.check(chunk, Some(&hash), &self.unsaid)?;
            let location = match desk.base.unchanged(chunk, &hash) {
                Some(location) => location.clone(),
                None => match desk.adopted.same(chunk, &hash) {
                    Some(location) => {
                        desk.writer.leave_out(chunk);
                        location.clone()
                    }
                    None => {
                        desk.scanned.stored += 1;
                        let location = desk.writer.write_chunk(chunk, plain, hash)?;
                        if desk.base.anew.get(&chunk) == Some(&location.hash) {
                            desk.scanned.repacked.add(&location);
                        }
                        location
                    }
                },
            };
            desk.scanned.found.push((chunk, location));
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
    adopted: &'a AdoptedChunks,
    /// Chunks that are said to be unchanged and are read all the same, ascending.
    taken_back: &'a [u64],
    scanned: &'a mut Scanned,
}

impl Desk<'_> {
    /// Makes sure of a chunk that is said to be unchanged.
    ///
    /// # Errors
    /// [`RepositoryError::Cancelled`] if it is not; which one it is, is noted.
    fn check(
        &self,
        chunk: u64,
        found: Option<&Hash>,
        unsaid: &OnceLock<u64>,
    ) -> Result<(), RepositoryError> {
        if found == self.base.anew.get(&chunk) || self.taken_back.binary_search(&chunk).is_err() {
            return Ok(());
        }
        unsaid.get_or_init(|| chunk);
        Err(RepositoryError::Cancelled)
    }
}
