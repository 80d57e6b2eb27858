//! One pack on its way to the bucket: parts in flight, then the completion; or, if anything fails, no trace.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
};

use crate::{
    Progress, RepositoryError,
    format::crc32c::{combine_crc32c, crc32c},
    joined,
    stop::Stop,
    store::{Multipart, ObjectStore, PartReceipt, PutMode, StoreError},
};

/// A filled part, with the permit that keeps the number of parts in flight bounded.
pub(super) struct Part {
    pub(super) body: Bytes,
    pub(super) permit: OwnedSemaphorePermit,
    /// No other follows: the pack can be completed.
    pub(super) last: bool,
}

/// A pack that is in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) size_bytes: u64,
    /// Of the whole object.
    pub(super) crc32c: u32,
}

/// The versions that packs became, by their object keys, as far as the store says: what is locked is that, and nothing that somebody puts
/// in its place.
pub(crate) type Made = HashMap<String, String>;

/// Sends packs.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Stop,
    /// Set before the first request that may make a pack: from then on one may be there, whatever is answered.
    pub(super) has_sent: Arc<AtomicBool>,
    /// Where packs are to be locked.
    pub(super) made: Option<Arc<Mutex<Made>>>,
}

impl Sender {
    /// Sends the parts that come in as the object `key`. A pack of one part is written at once.
    ///
    /// # Errors
    /// [`RepositoryError::Cancelled`] if the parts end without a last one or the pipeline stops; an upload that was
    /// opened has been aborted then.
    pub(super) async fn send(
        self,
        key: String,
        mut parts: mpsc::UnboundedReceiver<Part>,
    ) -> Result<Sent, RepositoryError> {
        let first = self.next(&mut parts).await?;
        if first.last {
            return self.put(&key, first).await;
        }
        self.stop.check()?;
        self.progress.requested(1);
        let upload = self.store.multipart_create(&key).await?;
        let mut in_flight = JoinSet::new();
        let sent = self
            .send_parts(&upload, first, &mut parts, &mut in_flight)
            .await;
        if sent.is_err() {
            // First nothing may be under way, or the store could take a part after the abort.
            in_flight.shutdown().await;
            if let Err(error) = self.store.multipart_abort(&upload).await {
                tracing::warn!(
                    key,
                    error = &error as &dyn std::error::Error,
                    "an open upload could not be aborted"
                );
            }
        }
        sent
    }

    async fn put(&self, key: &str, part: Part) -> Result<Sent, RepositoryError> {
        let sent = Sent {
            size_bytes: part.body.len() as u64,
            crc32c: crc32c(&part.body),
        };
        self.stop.check()?;
        self.progress.requested(1);
        self.has_sent.store(true, Ordering::Relaxed);
        // The name is new: there is nothing that this could replace.
        let mode = PutMode::Overwrite;
        match self.store.versions().filter(|_| self.made.is_some()) {
            Some(versions) => self.note(key, versions.put_version(key, part.body, mode).await?),
            None => self.store.put(key, part.body, mode).await?,
        }
        self.progress.moved(sent.size_bytes);
        Ok(sent)
    }

    async fn send_parts(
        &self,
        upload: &Multipart,
        first: Part,
        parts: &mut mpsc::UnboundedReceiver<Part>,
        in_flight: &mut JoinSet<Result<PartReceipt, StoreError>>,
    ) -> Result<Sent, RepositoryError> {
        let mut receipts = Vec::new();
        let mut part = first;
        for number in 1.. {
            let last = part.last;
            in_flight.spawn(self.clone().send_part(upload.clone(), number, part));
            if last {
                break;
            }
            part = loop {
                tokio::select! {
                    next = self.next(parts) => break next?,
                    Some(done) = in_flight.join_next() => receipts.push(receipt(done).await?),
                }
            };
        }
        while let Some(done) = tokio::select! {
            done = in_flight.join_next() => done,
            () = self.stop.stopped() => return Err(RepositoryError::Cancelled),
        } {
            receipts.push(receipt(done).await?);
        }
        receipts.sort_by_key(|receipt| receipt.number);
        self.progress.requested(1);
        self.has_sent.store(true, Ordering::Relaxed);
        match self.store.versions().filter(|_| self.made.is_some()) {
            Some(versions) => {
                let made = versions.complete_version(upload, &receipts).await?;
                self.note(&upload.key, made);
            }
            None => self.store.multipart_complete(upload, &receipts).await?,
        }
        Ok(whole(&receipts))
    }

    fn note(&self, key: &str, version: Option<String>) {
        if let (Some(made), Some(version)) = (&self.made, version) {
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            made.insert(key.to_owned(), version);
        }
    }

    async fn send_part(
        self,
        upload: Multipart,
        number: u32,
        part: Part,
    ) -> Result<PartReceipt, StoreError> {
        let size_bytes = part.body.len() as u64;
        self.progress.requested(1);
        let receipt = self.store.multipart_put(&upload, number, part.body).await?;
        self.progress.moved(size_bytes);
        drop(part.permit);
        Ok(receipt)
    }

    async fn next(
        &self,
        parts: &mut mpsc::UnboundedReceiver<Part>,
    ) -> Result<Part, RepositoryError> {
        tokio::select! {
            part = parts.recv() => part.ok_or(RepositoryError::Cancelled),
            () = self.stop.stopped() => Err(RepositoryError::Cancelled),
        }
    }
}

async fn receipt(
    done: Result<Result<PartReceipt, StoreError>, tokio::task::JoinError>,
) -> Result<PartReceipt, RepositoryError> {
    let done = joined::ended(done, "a part's task").await?;
    done.map_err(RepositoryError::Store)
}

/// Size and checksum of the object that the parts make.
fn whole(receipts: &[PartReceipt]) -> Sent {
    let start = Sent {
        size_bytes: 0,
        crc32c: crc32c(&[]),
    };
    receipts.iter().fold(start, |sum, part| Sent {
        size_bytes: sum.size_bytes + part.size_bytes,
        crc32c: combine_crc32c(sum.crc32c, part.crc32c, part.size_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_parts_make_the_whole() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        let parts: Vec<PartReceipt> = bytes
            .chunks(30_000)
            .zip(1..)
            .map(|(part, number)| PartReceipt {
                number,
                size_bytes: part.len() as u64,
                etag: String::new(),
                crc32c: crc32c(part),
            })
            .collect();
        let expected = Sent {
            size_bytes: 100_000,
            crc32c: crc32c(&bytes),
        };
        assert_eq!(whole(&parts), expected);
    }
}
