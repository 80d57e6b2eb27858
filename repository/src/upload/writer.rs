//! Packs being filled: each worker has one of its own open, so that none waits for another.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use super::send::{Made, Part, Sender, Sent};
use crate::{
    RepositoryError, UploadSettings,
    buffers::BufferPool,
    format::{
        FormatError,
        crypto::{Hash, Sealer},
        frame::{FrameEncoder, FrameKind},
        ids::{PackName, Run, SnapshotId, VolumeId},
        location::Location,
        manifest::Base,
        pack_builder::{FrameInfo, PackBuilder},
        pack_index::ScannedRange,
    },
};

/// Room for one frame beyond a part: the largest chunk as zstd may need it, header and trailer.
fn frame_room(chunk_size_bytes: u32) -> usize {
    let chunk = chunk_size_bytes as usize;
    chunk + chunk / 128 + 4096
}

/// What all packs of one upload share.
pub(super) struct Packing {
    handle: Handle,
    sender: Sender,
    sealer: Sealer,
    owner: PackOwner,
    settings: UploadSettings,
    next_number: AtomicU32,
    permits: Arc<Semaphore>,
    pool: Arc<BufferPool>,
    under_way: Mutex<Vec<UnderWay>>,
}

/// A pack that was opened, and the task that sends it.
type UnderWay = (Arc<PackName>, JoinHandle<Result<Sent, RepositoryError>>);

/// Whose packs they are.
pub(super) struct PackOwner {
    pub(super) volume: VolumeId,
    pub(super) snapshot: SnapshotId,
    pub(super) run: Run,
    pub(super) volume_size_bytes: u64,
    pub(super) base: Option<Base>,
    /// Number of the first pack: a run never uses a name twice.
    pub(super) first_pack: u32,
}

impl Packing {
    /// To be called on the runtime that is to send.
    pub(super) fn new(
        sender: Sender,
        sealer: Sealer,
        owner: PackOwner,
        settings: &UploadSettings,
        chunk_size_bytes: u32,
    ) -> Arc<Self> {
        let capacity = settings.part_size_bytes + frame_room(chunk_size_bytes);
        Arc::new(Self {
            handle: Handle::current(),
            sender,
            sealer,
            next_number: AtomicU32::new(owner.first_pack),
            owner,
            permits: Arc::new(Semaphore::new(settings.parts_in_flight)),
            pool: BufferPool::new(capacity, settings.parts_in_flight + settings.workers),
            under_way: Mutex::default(),
            settings: settings.clone(),
        })
    }

    pub(super) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Number of the next pack.
    pub(super) fn next_pack(&self) -> u32 {
        self.next_number.load(Ordering::Relaxed)
    }

    /// Whether a pack may be in the bucket.
    pub(super) fn has_sent(&self) -> bool {
        self.sender.has_sent.load(Ordering::Relaxed)
    }

    /// The versions that its packs became, as far as they were asked for and told.
    pub(super) fn made(&self) -> Made {
        let made = self.sender.made.as_ref().map(|made| {
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *made)
        });
        made.unwrap_or_default()
    }

    /// Waits until every pack that was closed so far is in the bucket, and says what each is.
    ///
    /// # Errors
    /// Of the first pack that failed; the pipeline is stopped then.
    pub(super) async fn settle(&self) -> Result<BTreeMap<Arc<PackName>, Sent>, RepositoryError> {
        let packs = std::mem::take(
            &mut *self
                .under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let mut settled = BTreeMap::new();
        let mut failed = None;
        for (name, task) in packs {
            let sent = task
                .await
                .map_err(|e| RepositoryError::Internal(format!("a pack's task: {e}")))
                .and_then(|sent| sent);
            match sent {
                Ok(sent) => {
                    settled.insert(name, sent);
                }
                Err(error) => {
                    self.sender.stop.fail(error);
                    failed = Some(RepositoryError::Cancelled);
                }
            }
        }
        failed.map_or(Ok(settled), Err)
    }

    /// Starts a pack: names it, and starts the task that will send it.
    fn open_pack(&self, kind: FrameKind) -> OpenPack {
        let name = PackName {
            volume: self.owner.volume.clone(),
            snapshot: self.owner.snapshot.clone(),
            run: self.owner.run,
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
        };
        let (parts, receiver) = mpsc::unbounded_channel();
        let sender = self.sender.clone();
        let key = name.object_key();
        let task = self.handle.spawn(async move {
            let stop = sender.stop.clone();
            let sent = sender.send(key, receiver).await;
            sent.map_err(|error| {
                stop.fail(error);
                RepositoryError::Cancelled
            })
        });
        let (volume_size_bytes, base) = match kind {
            FrameKind::Chunk => (self.owner.volume_size_bytes, self.owner.base.clone()),
            _ => (0, None),
        };
        let mut buffer = self.pool.take();
        let builder = PackBuilder::new(&self.sealer, name, volume_size_bytes, base, &mut buffer);
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((builder.name().clone(), task));
        OpenPack {
            builder,
            buffer,
            parts,
        }
    }

    /// Sends all parts that are full. Something always stays in the buffer, so that a last part has content.
    fn send_full(
        &self,
        parts: &mpsc::UnboundedSender<Part>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let size = self.settings.part_size_bytes;
        while buffer.len() > size {
            // The permit first: whoever waits for it holds one buffer, not two.
            let permit = self.permit()?;
            let mut next = self.pool.take();
            next.extend_from_slice(&buffer[size..]);
            let mut filled = std::mem::replace(buffer, next);
            filled.truncate(size);
            self.send(parts, filled, permit, false)?;
        }
        Ok(())
    }

    /// Waits until fewer parts than the limit are in flight.
    fn permit(&self) -> Result<OwnedSemaphorePermit, RepositoryError> {
        let stop = &self.sender.stop;
        self.handle.block_on(async {
            tokio::select! {
                permit = self.permits.clone().acquire_owned() => permit.map_err(|_| RepositoryError::Cancelled),
                () = stop.stopped() => Err(RepositoryError::Cancelled),
            }
        })
    }

    /// Hands a part to the sender.
    fn send(
        &self,
        parts: &mpsc::UnboundedSender<Part>,
        filled: Vec<u8>,
        permit: OwnedSemaphorePermit,
        last: bool,
    ) -> Result<(), RepositoryError> {
        let body = self.pool.lend(filled);
        parts
            .send(Part { body, permit, last })
            .map_err(|_| RepositoryError::Cancelled)
    }
}

struct OpenPack {
    builder: PackBuilder,
    /// The part being filled.
    buffer: Vec<u8>,
    parts: mpsc::UnboundedSender<Part>,
}

/// A worker's place to put frames. Dropped without [`close`](Self::close), its open pack is aborted. Its calls block.
pub(super) struct PackWriter {
    packing: Arc<Packing>,
    kind: FrameKind,
    encoder: FrameEncoder,
    open: Option<OpenPack>,
    /// First chunk that no pack of this writer claims as scanned.
    scanned_from: u64,
}

impl PackWriter {
    /// For frames of one kind.
    pub(super) fn new(packing: &Arc<Packing>, kind: FrameKind) -> Result<Self, RepositoryError> {
        Ok(Self {
            packing: packing.clone(),
            kind,
            encoder: FrameEncoder::new(packing.settings.zstd_level).map_err(internal)?,
            open: None,
            scanned_from: 0,
        })
    }

    /// Starts to scan the volume at a chunk; what lies before it belongs to others.
    pub(super) fn begin(&mut self, chunk: u64) {
        self.scanned_from = chunk;
    }

    /// All chunks since [`begin`](Self::begin) up to this one were looked at, and written unless they are holes or as
    /// in the base.
    pub(super) fn scanned_to(&mut self, end: u64) {
        if let Some(pack) = &mut self.open {
            claim(&mut pack.builder, &mut self.scanned_from, end);
        }
    }

    /// No pack of this writer vouches for a chunk: it is neither written here nor as in the base.
    pub(super) fn leave_out(&mut self, chunk: u64) {
        self.scanned_to(chunk);
        self.scanned_from = self.scanned_from.max(chunk + 1);
    }

    /// Appends a chunk; all before it were looked at. Waits while the bucket is slower.
    pub(super) fn write_chunk(
        &mut self,
        chunk: u64,
        plain: &[u8],
        hash: Hash,
    ) -> Result<Location, RepositoryError> {
        self.append(plain, hash, 0, chunk, true)
    }

    /// Appends a page of the map or the list.
    pub(super) fn write_page(
        &mut self,
        level: u8,
        first_chunk: u64,
        plain: &[u8],
        hash: Hash,
    ) -> Result<Location, RepositoryError> {
        self.append(plain, hash, level, first_chunk, false)
    }

    fn append(
        &mut self,
        plain: &[u8],
        hash: Hash,
        level: u8,
        position: u64,
        is_chunk: bool,
    ) -> Result<Location, RepositoryError> {
        let mut pack = match self.open.take() {
            Some(pack) => pack,
            None => self.packing.open_pack(self.kind),
        };
        let info = FrameInfo {
            kind: self.kind,
            level,
            position,
            hash,
        };
        let location = pack
            .builder
            .append(&mut self.encoder, &mut pack.buffer, info, plain)
            .map_err(internal)?;
        if is_chunk {
            // Before the pack may close: a range is claimed by the pack that has its chunks.
            claim(&mut pack.builder, &mut self.scanned_from, position + 1);
        }
        self.packing.send_full(&pack.parts, &mut pack.buffer)?;
        if pack.builder.is_full(self.packing.settings.pack_size_bytes) {
            self.finish(pack)?;
        } else {
            self.open = Some(pack);
        }
        Ok(location)
    }

    /// Completes the pack under way, if there is one. It is in the bucket after [`Packing::settle`].
    pub(super) fn close(&mut self) -> Result<(), RepositoryError> {
        match self.open.take() {
            Some(pack) => self.finish(pack),
            None => Ok(()),
        }
    }

    fn finish(&mut self, pack: OpenPack) -> Result<(), RepositoryError> {
        let OpenPack {
            builder,
            mut buffer,
            parts,
        } = pack;
        builder
            .finish(&mut self.encoder, &mut buffer)
            .map_err(internal)?;
        self.packing.send_full(&parts, &mut buffer)?;
        let permit = self.packing.permit()?;
        self.packing.send(&parts, buffer, permit, true)
    }
}

fn claim(builder: &mut PackBuilder, from: &mut u64, end: u64) {
    if end > *from {
        builder.scanned(ScannedRange {
            first: *from,
            count: end - *from,
        });
        *from = end;
    }
}

/// Our own frames are always within the limits.
fn internal(error: FormatError) -> RepositoryError {
    RepositoryError::Internal(format!("a frame cannot be written: {error}"))
}
