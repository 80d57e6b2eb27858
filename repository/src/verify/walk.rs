//! Every byte of every pack: header, frames, index, footer, and the checksum of the whole object. Or, of a sample, the frames.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Job, Problems,
    index::{Frame, read_index},
    sample::Choice,
    structure::{NeededPack, NeededPacks},
    unsound::Unsound,
};
use crate::{
    RepositoryError,
    format::{
        FormatError,
        crypto::{PackCipher, Sealer},
        frame::{FrameDecoder, FrameKind},
        ids::PackName,
        pack::HEADER_SIZE,
    },
    repository::blocking,
    snapshots::chain,
};

/// What is wrong inside a pack.
#[derive(Debug, Default)]
struct Found {
    /// Frames by offset.
    frames: Vec<(u64, String)>,
    /// The pack itself; where, if that is known.
    whole: Vec<(Option<u64>, String)>,
}

/// Reads all packs, or what is chosen of them, a few at a time.
pub(super) async fn check(
    job: &Job<'_>,
    needed: &NeededPacks,
    choice: Option<Choice>,
    problems: &mut Problems,
    unsound: &mut Unsound,
) -> Result<(), RepositoryError> {
    let walks = needed
        .0
        .iter()
        .filter(|(_, known)| known.size_bytes.is_some());
    let mut found = stream::iter(walks)
        .map(|(pack, known)| async move {
            let found = match choice {
                Some(choice) => walk_sample(job, pack, known, choice).await?,
                None => walk(job, pack, known).await?,
            };
            Ok::<_, RepositoryError>((pack, known, found))
        })
        .buffer_unordered(job.settings.read.gets_in_flight);
    while let Some((pack, known, found)) = found.try_next().await? {
        for (offset, what) in found.frames {
            unsound.frame(pack, offset, what);
        }
        for (offset, what) in found.whole {
            unsound.pack(pack);
            let who = known.snapshots.iter().cloned();
            problems.add(&pack.object_key(), offset, what, who);
        }
    }
    Ok(())
}

/// Reads a pack from its first byte to its last.
async fn walk(
    job: &Job<'_>,
    pack: &Arc<PackName>,
    known: &NeededPack,
) -> Result<Found, RepositoryError> {
    let size_bytes = known.size_bytes.unwrap_or_default();
    // Without the index, the object's checksum still says something.
    let frames = index(job, pack, size_bytes).await?.unwrap_or_default();
    let mut walker = Walker::new(job.repository.sealer()?, pack, frames)?;
    let mut at = 0;
    while at < size_bytes {
        job.check_cancelled()?;
        let end = size_bytes.min(at + job.settings.read.range_size_bytes as u64);
        let body = match job.fetcher.get(pack, at..end).await {
            Ok(body) => body,
            Err(error) => {
                walker.check.found.whole.extend(told(pack, at, error)?);
                return Ok(walker.check.found);
            }
        };
        job.fetcher.progress.scanned(body.len() as u64);
        walker = blocking(move || {
            walker.take(&body);
            walker
        })
        .await?;
        at = end;
    }
    Ok(walker.end(known))
}

/// Reads the frames of a pack that a sample has.
async fn walk_sample(
    job: &Job<'_>,
    pack: &Arc<PackName>,
    known: &NeededPack,
    choice: Choice,
) -> Result<Found, RepositoryError> {
    let size_bytes = known.size_bytes.unwrap_or_default();
    let has_any = (0..size_bytes)
        .step_by(usize::try_from(super::sample::WINDOW_BYTES).unwrap_or(usize::MAX))
        .any(|at| choice.has(pack, at));
    if !has_any {
        return Ok(Found::default());
    }
    let frames = index(job, pack, size_bytes).await?.unwrap_or_default();
    let chosen = frames
        .into_iter()
        .filter(|frame| choice.has(pack, frame.offset));
    let mut check = FrameCheck::new(job.repository.sealer()?, pack)?;
    for frames in batches(chosen, job.settings.read.range_size_bytes as u64) {
        job.check_cancelled()?;
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            continue;
        };
        let range = first.offset..last.offset + u64::from(last.length);
        let start = range.start;
        let body = match job.fetcher.get(pack, range).await {
            Ok(body) => body,
            Err(error) => {
                check.found.whole.extend(told(pack, start, error)?);
                return Ok(check.found);
            }
        };
        job.fetcher.progress.scanned(body.len() as u64);
        check = blocking(move || {
            for frame in &frames {
                let from = usize::try_from(frame.offset - start).expect("inside of the range");
                check.frame(frame, &body[from..from + frame.length as usize]);
            }
            check
        })
        .await?;
    }
    Ok(check.found)
}

/// Frames that follow one another without a gap, in ranges of about this size.
fn batches(frames: impl Iterator<Item = Frame>, range_bytes: u64) -> Vec<Vec<Frame>> {
    let mut batches: Vec<Vec<Frame>> = Vec::new();
    for frame in frames {
        let end = frame.offset + u64::from(frame.length);
        match batches.last_mut() {
            Some(batch)
                if batch
                    .last()
                    .is_some_and(|last| last.offset + u64::from(last.length) == frame.offset)
                    && end - batch[0].offset <= range_bytes =>
            {
                batch.push(frame);
            }
            _ => batches.push(vec![frame]),
        }
    }
    batches
}

/// The frames that a pack's index has; `None` for an index that cannot be read, which the check of the structure told.
async fn index(
    job: &Job<'_>,
    pack: &Arc<PackName>,
    size_bytes: u64,
) -> Result<Option<Vec<Frame>>, RepositoryError> {
    let sealer = job.repository.sealer()?;
    match read_index(&job.fetcher, sealer, pack, size_bytes).await {
        Ok(frames) => Ok(Some(frames)),
        Err(error) => {
            told(pack, 0, error)?;
            Ok(None)
        }
    }
}

/// What a failed read says of the pack.
///
/// # Errors
/// Gives back what says nothing of it.
fn told(
    pack: &PackName,
    at: u64,
    error: RepositoryError,
) -> Result<Vec<(Option<u64>, String)>, RepositoryError> {
    let mut problems = Problems::default();
    problems.take_at(error, &pack.object_key(), Some(at), &[])?;
    let told = problems.into_sorted().into_iter();
    Ok(told.map(|problem| (problem.offset, problem.what)).collect())
}

/// Opens frames and compares their hashes.
struct FrameCheck {
    sealer: Sealer,
    cipher: PackCipher,
    decoder: FrameDecoder,
    found: Found,
}

impl FrameCheck {
    fn new(sealer: &Sealer, pack: &PackName) -> Result<Self, RepositoryError> {
        Ok(Self {
            sealer: sealer.clone(),
            cipher: sealer.pack(pack),
            decoder: FrameDecoder::new().map_err(|e| RepositoryError::Internal(e.to_string()))?,
            found: Found::default(),
        })
    }

    fn frame(&mut self, frame: &Frame, bytes: &[u8]) {
        if let Err(error) = self.open(frame, bytes) {
            self.found.frames.push((frame.offset, chain(&error)));
        }
    }

    fn open(&mut self, frame: &Frame, bytes: &[u8]) -> Result<(), FormatError> {
        let plain = self.decoder.decode(&self.cipher, bytes, frame.kind)?;
        let hash = match frame.kind {
            FrameKind::Chunk => self.sealer.chunk_hash(&plain),
            _ => self.sealer.page_hash(&plain),
        };
        if hash == frame.hash {
            return Ok(());
        }
        Err(FormatError::Damaged {
            what: "frame",
            check: "hash",
        })
    }
}

/// Goes through a whole pack as it comes.
struct Walker {
    check: FrameCheck,
    frames: std::vec::IntoIter<Frame>,
    /// The frame that comes next.
    next: Option<Frame>,
    /// Bytes from `offset` on that do not make a whole frame yet.
    pending: BytesMut,
    offset: u64,
    crc: Digest,
}

impl Walker {
    fn new(sealer: &Sealer, pack: &PackName, frames: Vec<Frame>) -> Result<Self, RepositoryError> {
        let mut frames = frames.into_iter();
        Ok(Self {
            check: FrameCheck::new(sealer, pack)?,
            next: frames.next(),
            frames,
            pending: BytesMut::new(),
            offset: 0,
            crc: Digest::new(CrcAlgorithm::Crc32Iscsi),
        })
    }

    /// Goes through what came; frames follow one another from behind the header.
    fn take(&mut self, body: &Bytes) {
        self.crc.update(body);
        if self.next.is_none() {
            return;
        }
        self.pending.extend_from_slice(body);
        while let Some(frame) = self.next {
            debug_assert!(self.offset <= frame.offset && frame.offset >= u64::from(HEADER_SIZE));
            let skip = usize::try_from(frame.offset - self.offset).expect("the header at most");
            let length = frame.length as usize;
            if self.pending.len() < skip + length {
                return;
            }
            let _ = self.pending.split_to(skip);
            let bytes = self.pending.split_to(length);
            self.offset = frame.offset + u64::from(frame.length);
            self.check.frame(&frame, &bytes);
            self.next = self.frames.next();
        }
        self.pending.clear();
    }

    /// Compares the whole object's checksum. Where a frame was found bad that is said already.
    fn end(self, known: &NeededPack) -> Found {
        let crc = self.crc.finalize();
        let mut found = self.check.found;
        if let Some(entry) = &known.entry
            && crc != u64::from(entry.crc32c)
            && found.frames.is_empty()
        {
            let what = "its checksum is not that of the pack list".to_owned();
            found.whole.push((None, what));
        }
        found
    }
}
