//! Unpacking the frames of one range: opened, decompressed and checked right where they are written from.

use std::sync::{Mutex, PoisonError};

use crate::{
    RepositoryError,
    device::AlignedBuffer,
    fetch::Batch,
    format::{
        FormatError,
        crypto::{PackCipher, Sealer},
        frame::{FrameDecoder, FrameKind},
        location::Location,
    },
    pages::damaged,
};

/// Chunks in a row are written by one call up to this size, in bytes.
pub(crate) const WRITE_SIZE_BYTES: usize = 4 << 20;

/// What a worker needs, kept for the next one.
struct Desk {
    decoder: FrameDecoder,
    buffer: AlignedBuffer,
}

/// Desks for all workers.
pub(crate) struct Desks {
    sealer: Sealer,
    chunk_size: usize,
    free: Mutex<Vec<Desk>>,
}

impl Desks {
    pub(crate) fn new(sealer: Sealer, chunk_size_bytes: u32) -> Self {
        Self {
            sealer,
            chunk_size: chunk_size_bytes as usize,
            free: Mutex::default(),
        }
    }

    pub(crate) fn chunk_size(&self) -> u64 {
        self.chunk_size as u64
    }

    fn take(&self) -> Result<Desk, RepositoryError> {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        if let Some(desk) = free {
            return Ok(desk);
        }
        Ok(Desk {
            decoder: FrameDecoder::new().map_err(|e| RepositoryError::Internal(e.to_string()))?,
            buffer: AlignedBuffer::new(WRITE_SIZE_BYTES.max(self.chunk_size)),
        })
    }

    /// Unpacks the chunks of a batch and hands them on in rows: the first chunk's number and the bytes of all. Blocks.
    /// Returns the number of plain bytes.
    pub(crate) fn unpack(
        &self,
        batch: &Batch<u64>,
        body: &[u8],
        mut write: impl FnMut(u64, &[u8]) -> Result<(), RepositoryError>,
    ) -> Result<u64, RepositoryError> {
        let cipher = self.sealer.pack(&batch.pack);
        let mut desk = self.take()?;
        let mut frames: Vec<&(Location, u64)> = batch.frames.iter().collect();
        frames.sort_unstable_by_key(|(_, chunk)| *chunk);
        let row_max = desk.buffer.len() / self.chunk_size;
        let mut rest = frames.as_slice();
        while let Some((_, first)) = rest.first() {
            let row_len = rest
                .iter()
                .zip(*first..)
                .take(row_max)
                .take_while(|((_, chunk), expected)| chunk == expected)
                .count();
            let (row, behind) = rest.split_at(row_len);
            let plain = &mut desk.buffer[..row_len * self.chunk_size];
            for ((location, _), chunk) in row.iter().zip(plain.chunks_exact_mut(self.chunk_size)) {
                let frame = batch.slice(body, location).unwrap_or_default();
                self.open(&mut desk.decoder, &cipher, location, frame, chunk)?;
            }
            write(*first, plain)?;
            rest = behind;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(desk);
        Ok(batch.frames.len() as u64 * self.chunk_size())
    }

    fn open(
        &self,
        decoder: &mut FrameDecoder,
        cipher: &PackCipher,
        location: &Location,
        frame: &[u8],
        into: &mut [u8],
    ) -> Result<(), RepositoryError> {
        let opened = decoder.decode_into(cipher, frame, FrameKind::Chunk, into);
        let checked = opened.and_then(|_| {
            if self.sealer.chunk_hash(into) == location.hash {
                return Ok(());
            }
            Err(FormatError::Damaged {
                what: "chunk",
                check: "hash",
            })
        });
        checked.map_err(|source| damaged(location, source))
    }
}
