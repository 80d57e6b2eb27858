//! Reading while the worker compresses: each worker has a thread that fills its next buffer.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::Scope,
};

use crate::{
    RepositoryError,
    device::{AlignedBuffer, DeviceError, Source},
};

/// Bytes read by one call. With a second read under way meanwhile, longer ones gain nothing.
pub(crate) const READ_SIZE_BYTES: usize = 2 << 20;

/// Buffers of a worker: one that it goes through, one that is being filled.
pub(crate) const READ_BUFFERS: usize = 2;

/// The chunks of some runs in pieces that fit a buffer.
pub(super) fn blocks(
    runs: &[Range<u64>],
    block_chunks: u64,
) -> impl Iterator<Item = Range<u64>> + '_ {
    runs.iter().flat_map(move |run| {
        let starts = std::iter::successors(Some(run.start), move |at| at.checked_add(block_chunks));
        starts
            .take_while(move |at| *at < run.end)
            .map(move |at| at..run.end.min(at + block_chunks))
    })
}

/// Chunks to be read, and where to.
type Asked = (Range<u64>, AlignedBuffer);

/// A worker's reader. No more than [`READ_BUFFERS`] blocks are asked for and not yet given back at a time.
pub(super) struct ReadAhead {
    asked: SyncSender<Asked>,
    filled: Receiver<Result<AlignedBuffer, DeviceError>>,
    spare: Vec<AlignedBuffer>,
    block_chunks: u64,
}

impl ReadAhead {
    /// Starts the thread; it ends when this is dropped.
    ///
    /// # Errors
    /// [`RepositoryError::Internal`] if the system gives no thread.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        source: &Arc<Source>,
        chunk_size: usize,
    ) -> Result<Self, RepositoryError> {
        let (asked, to_read) = sync_channel::<Asked>(READ_BUFFERS);
        let (tell, filled) = sync_channel(READ_BUFFERS);
        let source = source.clone();
        let read = move || {
            for (chunks, mut buffer) in to_read {
                let length = usize::try_from(chunks.end - chunks.start).unwrap_or(usize::MAX);
                let length = length.saturating_mul(chunk_size).min(buffer.len());
                let read = source.read_at(chunks.start * chunk_size as u64, &mut buffer[..length]);
                if tell.send(read.map(|()| buffer)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn_scoped(scope, read)
            .map_err(|error| RepositoryError::Internal(format!("no thread to read on: {error}")))?;
        let size = READ_SIZE_BYTES.max(chunk_size);
        Ok(Self {
            asked,
            filled,
            spare: (0..READ_BUFFERS)
                .map(|_| AlignedBuffer::new(size))
                .collect(),
            block_chunks: (size / chunk_size) as u64,
        })
    }

    /// Chunks that fit a buffer.
    pub(super) fn block_chunks(&self) -> u64 {
        self.block_chunks
    }

    /// Has a block read. Blocks come out of [`take`](Self::take) in the order in which they were asked for.
    pub(super) fn ask(&mut self, chunks: Range<u64>) -> Result<(), RepositoryError> {
        let buffer = self.spare.pop();
        let buffer =
            buffer.ok_or_else(|| RepositoryError::Internal("read too far ahead".into()))?;
        self.asked.send((chunks, buffer)).map_err(|_| gone())
    }

    /// The next block that was asked for, as soon as it is read.
    ///
    /// # Errors
    /// As reading it failed.
    pub(super) fn take(&mut self) -> Result<AlignedBuffer, RepositoryError> {
        let filled = self.filled.recv().map_err(|_| gone())?;
        Ok(filled?)
    }

    /// A block was gone through: its buffer may be filled again.
    pub(super) fn give_back(&mut self, buffer: AlignedBuffer) {
        self.spare.push(buffer);
    }
}

fn gone() -> RepositoryError {
    RepositoryError::Internal("the thread that reads has ended".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::device::SourceOptions;

    #[test]
    fn runs_are_cut_into_blocks() {
        let found: Vec<_> = blocks(&[0..5, 9..10, 12..18], 3).collect();
        assert_eq!(found, [0..3, 3..5, 9..10, 12..15, 15..18]);
    }

    #[test]
    fn blocks_come_in_order_with_their_bytes_and_an_error_ends_it() {
        const CHUNK: usize = 64 << 10;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for chunk in 0..8_u8 {
            file.write_all(&[chunk; CHUNK]).unwrap();
        }
        // It stays open for writing here, so that it can be cut.
        let options = SourceOptions { force: true };
        let source = Arc::new(Source::open(file.path(), options).unwrap());
        std::thread::scope(|scope| {
            let mut ahead = ReadAhead::start(scope, &source, CHUNK).unwrap();
            assert_eq!(ahead.block_chunks(), 32);
            ahead.ask(0..2).unwrap();
            ahead.ask(5..6).unwrap();
            assert!(ahead.ask(7..8).is_err(), "both buffers are out");
            let first = ahead.take().unwrap();
            assert_eq!((first[0], first[2 * CHUNK - 1]), (0, 1));
            ahead.give_back(first);
            file.as_file().set_len(7 * CHUNK as u64).unwrap();
            ahead.ask(7..8).unwrap();
            assert_eq!(ahead.take().unwrap()[0], 5);
            assert!(matches!(
                ahead.take(),
                Err(RepositoryError::Device(DeviceError::Shrank { .. }))
            ));
        });
    }
}
