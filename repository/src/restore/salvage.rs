//! What a restore does about chunks that cannot be read: it ends, or, where somebody asked for that, they become zeroes and are told of.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::Shared;
use crate::{
    RepositoryError,
    device::Target,
    fetch::{Batch, Fetcher},
    repository::blocking,
    snapshots::chain,
    store::StoreError,
};

/// Chunks that cannot be read, and why.
type Unread = (Batch<u64>, RepositoryError);

impl Shared {
    /// Whether it goes on without what this error is about.
    fn may_lose(&self, error: &RepositoryError) -> bool {
        self.lost.is_some() && may_lose(error)
    }

    /// Notes chunks as lost, where that is wanted and the error tells of one damaged or missing object alone.
    ///
    /// # Errors
    /// Else the error itself.
    pub(super) fn lose(
        &self,
        chunks: impl IntoIterator<Item = Range<u64>>,
        error: RepositoryError,
    ) -> Result<(), RepositoryError> {
        let Some(lost) = self.lost.as_ref().filter(|_| self.may_lose(&error)) else {
            return Err(error);
        };
        let why = chain(&error);
        for row in chunks {
            let bytes = (row.end - row.start) * self.desks.chunk_size();
            self.fetcher.progress.scanned(bytes);
            lost.add(row, why.clone());
        }
        Ok(())
    }

    /// Fetches a range and writes its chunks.
    pub(super) async fn fill_range(
        self: &Arc<Self>,
        batch: Batch<u64>,
        target: Arc<Target>,
    ) -> Result<(), RepositoryError> {
        let unread = self.fill_from(&self.fetcher, batch, &target).await?;
        for (batch, error) in unread {
            self.fill_otherwise(batch, error, &target).await?;
        }
        Ok(())
    }

    /// As [`fill_range`](Self::fill_range), from one view of the bucket. What cannot be read there is returned, if it may be lost.
    async fn fill_from(
        self: &Arc<Self>,
        view: &Fetcher,
        batch: Batch<u64>,
        target: &Arc<Target>,
    ) -> Result<Vec<Unread>, RepositoryError> {
        match self.fetch(view, &batch).await {
            Ok(body) => self.take_in(batch, body, target).await,
            // Of a pack that is too short the first chunks are there.
            Err(error @ RepositoryError::Store(StoreError::Integrity { .. }))
                if self.may_lose(&error) && batch.frames.len() > 1 =>
            {
                let each: Vec<_> = ones(&batch, |own| own).collect();
                let mut unread = Vec::new();
                for one in each {
                    match self.fetch(view, &one).await {
                        Ok(body) => unread.extend(self.take_in(one, body, target).await?),
                        Err(error) if self.may_lose(&error) => unread.push((one, error)),
                        Err(error) => return Err(error),
                    }
                }
                Ok(unread)
            }
            Err(error) if self.may_lose(&error) => Ok(vec![(batch, error)]),
            Err(error) => Err(error),
        }
    }

    /// Tries what was written first, below whatever somebody put over it; what cannot be read there either is lost.
    async fn fill_otherwise(
        self: &Arc<Self>,
        batch: Batch<u64>,
        error: RepositoryError,
        target: &Arc<Target>,
    ) -> Result<(), RepositoryError> {
        let chunks = |batch: &Batch<u64>| -> Vec<u64> {
            batch.frames.iter().map(|(_, chunk)| *chunk).collect()
        };
        let mut lost = chunks(&batch);
        if let Some(first) = &self.first {
            match self.fill_from(first, batch, target).await {
                Ok(unread) => {
                    let count = lost.len();
                    lost = unread.iter().flat_map(|(batch, _)| chunks(batch)).collect();
                    if lost.len() < count {
                        note_first(&self.read_first);
                    }
                }
                Err(also) if is_no_help(&also) => {}
                Err(also) => return Err(also),
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let (shared, target) = (self.clone(), target.clone());
        let _worker = self.worker().await?;
        blocking(move || shared.zero(&lost, error, &target)).await?
    }

    async fn worker(&self) -> Result<SemaphorePermit<'_>, RepositoryError> {
        let worker = self.workers.acquire().await;
        worker.map_err(|_| RepositoryError::Cancelled)
    }

    async fn fetch(&self, view: &Fetcher, batch: &Batch<u64>) -> Result<Bytes, RepositoryError> {
        tokio::select! {
            body = view.get(&batch.pack, batch.range.clone()) => body,
            () = self.stop.stopped() => Err(RepositoryError::Cancelled),
        }
    }

    async fn take_in(
        self: &Arc<Self>,
        batch: Batch<u64>,
        body: Bytes,
        target: &Arc<Target>,
    ) -> Result<Vec<Unread>, RepositoryError> {
        let _worker = self.worker().await?;
        let (shared, target) = (self.clone(), target.clone());
        blocking(move || {
            let mut unread = Vec::new();
            shared.write(batch, &body, &target, &mut unread)?;
            Ok(unread)
        })
        .await?
    }

    /// Zeroes for chunks that cannot be read. Blocks.
    fn zero(
        &self,
        chunks: &[u64],
        error: RepositoryError,
        target: &Target,
    ) -> Result<(), RepositoryError> {
        self.lose(chunks.iter().map(|chunk| *chunk..chunk + 1), error)?;
        let size = self.desks.chunk_size();
        for chunk in chunks {
            self.stop.check()?;
            target.zero(chunk * size..(chunk + 1) * size)?;
        }
        Ok(())
    }

    /// Writes the chunks of a range. Those that are not sound are added to `unread`, if they may be lost. Blocks.
    fn write(
        &self,
        batch: Batch<u64>,
        body: &[u8],
        target: &Target,
        unread: &mut Vec<Unread>,
    ) -> Result<(), RepositoryError> {
        let unpacked = self.desks.unpack(&batch, body, |chunk, bytes| {
            self.stop.check()?;
            target.write_at(chunk * self.desks.chunk_size(), bytes)?;
            Ok(())
        });
        match unpacked {
            Ok(bytes) => {
                self.fetcher.progress.data(bytes);
                self.fetcher.progress.scanned(bytes);
                let count = batch.frames.len() as u64;
                self.written.fetch_add(count, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if !self.may_lose(&error) => Err(error),
            Err(_) if batch.frames.len() > 1 => {
                let range = batch.range.clone();
                ones(&batch, |_| range.clone())
                    .try_for_each(|one| self.write(one, body, target, unread))
            }
            Err(error) => {
                unread.push((batch, error));
                Ok(())
            }
        }
    }
}

/// Whether an error is of something damaged or missing. What the store refuses to give is neither: it can be had by whoever may read it, or
/// once it was brought back from an archive.
pub(crate) fn may_lose(error: &RepositoryError) -> bool {
    let is_refused = matches!(error, RepositoryError::Store(StoreError::Refused { .. }));
    error.is_of_one_object() && !is_refused
}

/// That something was read as it was first written; said aloud once.
pub(crate) fn note_first(read_first: &AtomicBool) {
    if !read_first.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "objects of this repository were deleted or overwritten: what was written first under the same names is read instead"
        );
    }
}

/// Whether looking for older versions told nothing: there are none, or they cannot be looked at.
pub(crate) fn is_no_help(error: &RepositoryError) -> bool {
    match error {
        RepositoryError::Store(error) => {
            error.is_of_one_object()
                || matches!(
                    error,
                    StoreError::AccessDenied { .. } | StoreError::Unsupported { .. }
                )
        }
        _ => false,
    }
}

/// The frames of a batch, each by itself, with the range that `range` makes of its own.
fn ones<'a>(
    batch: &'a Batch<u64>,
    range: impl Fn(Range<u64>) -> Range<u64> + 'a,
) -> impl Iterator<Item = Batch<u64>> + 'a {
    batch.frames.iter().map(move |(location, chunk)| Batch {
        pack: batch.pack.clone(),
        range: range(location.range()),
        frames: vec![(location.clone(), *chunk)],
    })
}
