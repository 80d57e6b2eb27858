//! Every byte of every pack: header, frames, index, footer, and the checksum of the whole object.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Job, Problems,
    index::{Frame, read_index},
    structure::{NeededPack, NeededPacks},
};
use crate::{
    RepositoryError,
    format::{
        FormatError,
        crypto::{PackCipher, Sealer},
        frame::{FrameDecoder, FrameKind},
        ids::{PackName, SnapshotId},
        manifest::Manifest,
        pack::HEADER_SIZE,
    },
    repository::blocking,
    snapshots::chain,
};

/// What is wrong inside a pack: offset, if known, and what.
type Found = Vec<(Option<u64>, String)>;

/// Bad frames, and the snapshots that turn out to need them.
type BadFrames = BTreeMap<(Arc<PackName>, u64), (String, BTreeSet<SnapshotId>)>;

/// Reads all packs, a few at a time.
pub(super) async fn check(
    job: &Job<'_>,
    needed: &NeededPacks,
    manifests: &[Manifest],
    problems: &mut Problems,
) -> Result<(), RepositoryError> {
    let mut bad = BadFrames::new();
    let walks = needed
        .0
        .iter()
        .filter(|(_, known)| known.size_bytes.is_some());
    let mut found = stream::iter(walks)
        .map(|(pack, known)| async move {
            Ok::<_, RepositoryError>((pack, known, walk(job, pack, known).await?))
        })
        .buffer_unordered(job.settings.read.gets_in_flight);
    while let Some((pack, known, in_pack)) = found.try_next().await? {
        for (offset, what) in in_pack {
            match offset {
                Some(offset) => {
                    bad.insert((pack.clone(), offset), (what, BTreeSet::new()));
                }
                None => problems.add(
                    &pack.object_key(),
                    None,
                    what,
                    known.snapshots.iter().cloned(),
                ),
            }
        }
    }
    drop(found);
    attribute(job, needed, manifests, &mut bad).await?;
    for ((pack, offset), (what, snapshots)) in bad {
        problems.add(&pack.object_key(), Some(offset), what, snapshots);
    }
    Ok(())
}

/// Reads a pack from its first byte to its last.
async fn walk(
    job: &Job<'_>,
    pack: &Arc<PackName>,
    known: &NeededPack,
) -> Result<Found, RepositoryError> {
    let sealer = job.repository.sealer()?;
    let size_bytes = known.size_bytes.unwrap_or_default();
    // An index that cannot be read was told of before; the object's checksum still says something.
    let frames = match read_index(&job.fetcher, sealer, pack, size_bytes).await {
        Ok(frames) => frames,
        Err(error) => {
            Problems::default().take(error, &[])?;
            Vec::new()
        }
    };
    let mut walker = Walker::new(sealer, pack, frames)?;
    let mut at = 0;
    while at < size_bytes {
        job.check_cancelled()?;
        let end = size_bytes.min(at + job.settings.read.range_size_bytes as u64);
        let body = match job.fetcher.get(pack, at..end).await {
            Ok(body) => body,
            Err(error) => {
                let mut problems = Problems::default();
                problems.take_at(error, Some(at), &[])?;
                let told = problems.into_sorted().into_iter();
                walker
                    .found
                    .extend(told.map(|problem| (problem.offset, problem.what)));
                return Ok(walker.found);
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

struct Walker {
    sealer: Sealer,
    cipher: PackCipher,
    decoder: FrameDecoder,
    frames: std::vec::IntoIter<Frame>,
    /// The frame that comes next.
    next: Option<Frame>,
    /// Bytes from `offset` on that do not make a whole frame yet.
    pending: BytesMut,
    offset: u64,
    crc: Digest,
    found: Found,
}

impl Walker {
    fn new(sealer: &Sealer, pack: &PackName, frames: Vec<Frame>) -> Result<Self, RepositoryError> {
        let mut frames = frames.into_iter();
        Ok(Self {
            sealer: sealer.clone(),
            cipher: sealer.pack(pack),
            decoder: FrameDecoder::new().map_err(|e| RepositoryError::Internal(e.to_string()))?,
            next: frames.next(),
            frames,
            pending: BytesMut::new(),
            offset: 0,
            crc: Digest::new(CrcAlgorithm::Crc32Iscsi),
            found: Vec::new(),
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
            if let Err(error) = self.open(&frame, &bytes) {
                self.found.push((Some(frame.offset), chain(&error)));
            }
            self.next = self.frames.next();
        }
        self.pending.clear();
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

    /// Compares the whole object's checksum. Where a frame was found bad that is said already.
    fn end(mut self, known: &NeededPack) -> Found {
        let crc = self.crc.finalize();
        if let Some(entry) = &known.entry
            && crc != u64::from(entry.crc32c)
            && self.found.is_empty()
        {
            let what = "its checksum is not that of the pack list".to_owned();
            self.found.push((None, what));
        }
        self.found
    }
}

/// Finds the snapshots whose maps reach bad frames.
async fn attribute(
    job: &Job<'_>,
    needed: &NeededPacks,
    manifests: &[Manifest],
    bad: &mut BadFrames,
) -> Result<(), RepositoryError> {
    let packs: BTreeSet<Arc<PackName>> = bad.keys().map(|(pack, _)| pack.clone()).collect();
    for manifest in manifests {
        let id = &manifest.snapshot_id;
        let uses = |pack: &Arc<PackName>| {
            needed
                .0
                .get(pack)
                .is_some_and(|known| known.snapshots.contains(id))
        };
        if !packs.iter().any(uses) {
            continue;
        }
        let mut reached = Vec::new();
        if let Ok(mut map) = job.pages()?.map(manifest) {
            while let Some(leaf) = map.next().await {
                job.check_cancelled()?;
                match leaf {
                    Ok(leaf) => {
                        let pages = leaf.visited.iter().map(|page| &page.location);
                        let all = pages.chain(leaf.chunks().map(|(_, location)| location));
                        reached.extend(
                            all.map(|at| (at.pack.clone(), u64::from(at.offset)))
                                .filter(|place| bad.contains_key(place)),
                        );
                    }
                    Err(broken) => {
                        reached.push((broken.location.pack, broken.location.offset.into()));
                    }
                }
            }
        }
        for place in reached {
            if let Some((_, snapshots)) = bad.get_mut(&place) {
                snapshots.insert(id.clone());
            }
        }
    }
    Ok(())
}
