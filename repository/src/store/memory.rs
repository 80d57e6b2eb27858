//! A bucket in memory: an ordinary store for tests and trials, with the same contract as S3.
//!
//! It is a fake, not a mock: what was put can be got, conditional writes are atomic, listings have pages, and
//! a multipart upload is judged as strictly as a good server judges it. Nothing survives the process.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{
    EndpointReport, ListPage, Multipart, ObjectMeta, ObjectStore, PartReceipt, PutMode,
    RequestCounts, StoreError,
    requests::{Counters, RequestKind},
};
use crate::format::crc32c::crc32c;

/// Least size of every part but the last, as S3 has it.
pub const PART_SIZE_BYTES_MIN: u64 = 5 << 20;

/// A bucket in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    counters: Arc<Counters>,
    next_upload: Arc<AtomicU64>,
    page_length: usize,
    part_size_bytes_min: u64,
    clock_ahead_s: Arc<AtomicI64>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, i64)>,
    uploads: BTreeMap<String, Upload>,
}

#[derive(Debug, Default)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, (Bytes, u32)>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty bucket.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            counters: Arc::default(),
            next_upload: Arc::default(),
            page_length: 1000,
            part_size_bytes_min: PART_SIZE_BYTES_MIN,
            clock_ahead_s: Arc::default(),
        }
    }

    /// Sets a clock that is ahead of this machine's, in seconds: all that is put from now on is stamped by it.
    pub fn set_clock_ahead_s(&self, clock_ahead_s: i64) {
        self.clock_ahead_s.store(clock_ahead_s, Ordering::Relaxed);
    }

    /// Listings of at most this many keys a page (at least 1).
    #[must_use]
    pub fn with_page_length(mut self, page_length: usize) -> Self {
        self.page_length = page_length.max(1);
        self
    }

    /// Another least size of parts, so that small tests can have many.
    #[must_use]
    pub fn with_part_size_bytes_min(mut self, part_size_bytes_min: u64) -> Self {
        self.part_size_bytes_min = part_size_bytes_min;
        self
    }

    /// Every key, ascending.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// An object's bytes, past all counting.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<Bytes> {
        self.lock().objects.get(key).map(|(body, _)| body.clone())
    }

    /// Puts an object in place or takes it away, past all rules: what a fault or an enemy does.
    pub fn tamper(&self, key: &str, body: Option<Bytes>) {
        let mut state = self.lock();
        match body {
            Some(body) => {
                state.objects.insert(key.to_owned(), (body, self.clock_s()));
            }
            None => {
                state.objects.remove(key);
            }
        }
    }

    /// How many multipart uploads are open.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    /// What a GET finds.
    fn stored(&self, key: &str) -> Result<Bytes, StoreError> {
        self.counters.sent(RequestKind::Get, 0, false);
        self.peek(key).ok_or_else(|| StoreError::NotFound {
            key: key.to_owned(),
        })
    }

    fn clock_s(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        i64::try_from(seconds).unwrap_or(i64::MAX) + self.clock_ahead_s.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn etag(crc32c: u32) -> String {
    format!("\"{crc32c:08x}\"")
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.counters
            .sent(RequestKind::Put, body.len() as u64, false);
        let mut state = self.lock();
        if mode == PutMode::IfAbsent && state.objects.contains_key(key) {
            return Err(StoreError::AlreadyExists {
                key: key.to_owned(),
            });
        }
        state.objects.insert(key.to_owned(), (body, self.clock_s()));
        Ok(())
    }

    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        let body = self.stored(key)?;
        if body.len() > bytes_max {
            return Err(StoreError::TooLarge {
                key: key.to_owned(),
                size_bytes: body.len() as u64,
                limit_bytes: bytes_max as u64,
            });
        }
        self.counters.received(body.len() as u64);
        Ok(body)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let body = self.stored(key)?;
        let within = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .filter(|(start, end)| start <= end && *end <= body.len());
        let Some((start, end)) = within else {
            return Err(StoreError::Integrity {
                key: key.to_owned(),
                problem: format!(
                    "bytes {}..{} were asked for, the object has {}",
                    range.start,
                    range.end,
                    body.len()
                ),
            });
        };
        self.counters.received((end - start) as u64);
        Ok(body.slice(start..end))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.counters.sent(RequestKind::Head, 0, false);
        let state = self.lock();
        let (body, modified_at_s) = state.objects.get(key).ok_or_else(|| StoreError::NotFound {
            key: key.to_owned(),
        })?;
        Ok(ObjectMeta {
            key: key.to_owned(),
            size_bytes: body.len() as u64,
            modified_at_s: *modified_at_s,
        })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.counters.sent(RequestKind::Delete, 0, false);
        self.lock().objects.remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        self.counters.sent(RequestKind::List, 0, false);
        let state = self.lock();
        let start = match from {
            Some(from) if from >= prefix => Bound::Excluded(from),
            _ => Bound::Included(prefix),
        };
        let mut found = state
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, (body, modified_at_s))| ObjectMeta {
                key: key.clone(),
                size_bytes: body.len() as u64,
                modified_at_s: *modified_at_s,
            });
        let objects: Vec<_> = found.by_ref().take(self.page_length).collect();
        let next = found
            .next()
            .and_then(|_| objects.last().map(|last| last.key.clone()));
        Ok(ListPage { objects, next })
    }

    async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError> {
        self.counters.sent(RequestKind::Multipart, 0, false);
        let upload_id = format!(
            "upload-{}",
            self.next_upload.fetch_add(1, Ordering::Relaxed)
        );
        let upload = Upload {
            key: key.to_owned(),
            parts: BTreeMap::new(),
        };
        self.lock().uploads.insert(upload_id.clone(), upload);
        Ok(Multipart {
            key: key.to_owned(),
            upload_id,
        })
    }

    async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        self.counters
            .sent(RequestKind::Part, body.len() as u64, false);
        if !(1..=10_000).contains(&number) {
            return Err(integrity(upload, format!("there is no part {number}")));
        }
        let crc32c = crc32c(&body);
        let size_bytes = body.len() as u64;
        let mut state = self.lock();
        let open = state
            .uploads
            .get_mut(&upload.upload_id)
            .filter(|open| open.key == upload.key)
            .ok_or_else(|| StoreError::NotFound {
                key: upload.key.clone(),
            })?;
        open.parts.insert(number, (body, crc32c));
        Ok(PartReceipt {
            number,
            size_bytes,
            etag: etag(crc32c),
            crc32c,
        })
    }

    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        self.counters.sent(RequestKind::Multipart, 0, false);
        super::check_receipts(&upload.key, parts)?;
        let mut state = self.lock();
        let Some(open) = state.uploads.get(&upload.upload_id) else {
            return settled_size(&state, upload, parts);
        };
        let mut whole = BytesMut::new();
        for (at, receipt) in parts.iter().enumerate() {
            let Some((body, crc32c)) = open.parts.get(&receipt.number) else {
                return Err(integrity(
                    upload,
                    format!("part {} was never sent", receipt.number),
                ));
            };
            if etag(*crc32c) != receipt.etag || body.len() as u64 != receipt.size_bytes {
                return Err(integrity(
                    upload,
                    format!("part {} is another one", receipt.number),
                ));
            }
            if at + 1 < parts.len() && receipt.size_bytes < self.part_size_bytes_min {
                return Err(integrity(
                    upload,
                    format!("part {} is too small", receipt.number),
                ));
            }
            whole.extend_from_slice(body);
        }
        state.uploads.remove(&upload.upload_id);
        state
            .objects
            .insert(upload.key.clone(), (whole.freeze(), self.clock_s()));
        Ok(())
    }

    async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError> {
        self.counters.sent(RequestKind::Multipart, 0, false);
        self.lock().uploads.remove(&upload.upload_id);
        Ok(())
    }

    async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        self.counters.sent(RequestKind::List, 0, false);
        let state = self.lock();
        Ok(state
            .uploads
            .iter()
            .filter(|(_, upload)| upload.key.starts_with(prefix))
            .map(|(id, upload)| Multipart {
                key: upload.key.clone(),
                upload_id: id.clone(),
            })
            .collect())
    }

    async fn now_s(&self) -> Result<i64, StoreError> {
        Ok(self.clock_s())
    }

    async fn probe(&self) -> Result<EndpointReport, StoreError> {
        Ok(EndpointReport::complete())
    }

    fn adopt(&self, _report: &EndpointReport) {}

    fn requests(&self) -> RequestCounts {
        self.counters.snapshot()
    }
}

/// Completing twice is success where the object is there as it should be.
fn settled_size(
    state: &State,
    upload: &Multipart,
    parts: &[PartReceipt],
) -> Result<(), StoreError> {
    let expected: u64 = parts.iter().map(|part| part.size_bytes).sum();
    match state.objects.get(&upload.key) {
        Some((body, _)) if body.len() as u64 == expected => Ok(()),
        _ => Err(integrity(
            upload,
            "the upload is gone and the object is not there".to_owned(),
        )),
    }
}

fn integrity(upload: &Multipart, problem: String) -> StoreError {
    StoreError::Integrity {
        key: upload.key.clone(),
        problem,
    }
}
