//! What a restore does about chunks that cannot be read: it ends, or, where somebody asked for that, they become zeroes and are told of.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use super::Shared;
use crate::{
    RepositoryError, device::Target, fetch::Batch, repository::blocking, snapshots::chain,
    store::StoreError,
};

impl Shared {
    /// Whether it goes on without what this error is about. What the store refuses to give is not lost: it can be had by whoever may read it,
    /// or once it was brought back from an archive.
    fn may_lose(&self, error: &RepositoryError) -> bool {
        let is_refused = matches!(error, RepositoryError::Store(StoreError::Refused { .. }));
        self.lost.is_some() && error.is_of_one_object() && !is_refused
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
        match self.fetch(&batch).await {
            // Of a pack that is too short the first chunks are there.
            Err(error @ RepositoryError::Store(StoreError::Integrity { .. }))
                if self.may_lose(&error) && batch.frames.len() > 1 =>
            {
                let each: Vec<_> = ones(&batch, |own| own).collect();
                for one in each {
                    let body = self.fetch(&one).await;
                    self.take_in(one, body, target.clone()).await?;
                }
                Ok(())
            }
            body => self.take_in(batch, body, target).await,
        }
    }

    async fn fetch(&self, batch: &Batch<u64>) -> Result<Bytes, RepositoryError> {
        tokio::select! {
            body = self.fetcher.get(&batch.pack, batch.range.clone()) => body,
            () = self.stop.stopped() => Err(RepositoryError::Cancelled),
        }
    }

    async fn take_in(
        self: &Arc<Self>,
        batch: Batch<u64>,
        body: Result<Bytes, RepositoryError>,
        target: Arc<Target>,
    ) -> Result<(), RepositoryError> {
        let _worker = self
            .workers
            .acquire()
            .await
            .map_err(|_| RepositoryError::Cancelled)?;
        let shared = self.clone();
        blocking(move || match body {
            Ok(body) => shared.write(&batch, &body, &target),
            Err(error) => shared.zero(&batch, error, &target),
        })
        .await?
    }

    /// Zeroes for the chunks of a range that cannot be read, if that is wanted. Blocks.
    fn zero(
        &self,
        batch: &Batch<u64>,
        error: RepositoryError,
        target: &Target,
    ) -> Result<(), RepositoryError> {
        let chunks = batch.frames.iter().map(|(_, chunk)| *chunk..chunk + 1);
        self.lose(chunks, error)?;
        let size = self.desks.chunk_size();
        for (_, chunk) in &batch.frames {
            self.stop.check()?;
            target.zero(chunk * size..(chunk + 1) * size)?;
        }
        Ok(())
    }

    /// Writes the chunks of a range, or those of them that are sound. Blocks.
    fn write(
        &self,
        batch: &Batch<u64>,
        body: &[u8],
        target: &Target,
    ) -> Result<(), RepositoryError> {
        let unpacked = self.desks.unpack(batch, body, |chunk, bytes| {
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
            Err(error) if batch.frames.len() > 1 && self.may_lose(&error) => {
                let range = &batch.range;
                ones(batch, |_| range.clone()).try_for_each(|one| self.write(&one, body, target))
            }
            Err(error) => self.zero(batch, error, target),
        }
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
