//! Object Lock in a bucket in memory, as far as a manager sees of it: of each key the newest version is kept, and until when it is
//! locked. What a locked one is covered by or deleted with is noted for the test, since a manager has no business doing that.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::{
    lock::{LockSupport, Purged, Retention},
    store::{
        MemoryStore, Multipart, ObjectStore, PartReceipt, PutMode, StoreError,
        versions::{ObjectVersion, Versions},
    },
};

use super::lock;

/// The id of every version: there is one of each key.
const ONLY: &str = "newest";

/// A bucket that can lock.
#[derive(Debug, Default)]
pub(super) struct Locking {
    bucket: Arc<MemoryStore>,
    locks: Mutex<BTreeMap<String, Retention>>,
    covered: Mutex<Vec<String>>,
}

impl Locking {
    pub(super) fn new(bucket: Arc<MemoryStore>) -> Self {
        Self {
            bucket,
            ..Self::default()
        }
    }

    /// Keys that something was put over, or that were deleted, while they were locked.
    pub(super) fn covered(&self) -> Vec<String> {
        lock(&self.covered).clone()
    }

    /// Keys that are or were locked.
    pub(super) fn locked(&self) -> Vec<String> {
        lock(&self.locks).keys().cloned().collect()
    }

    /// Notes that what is in sight under a key is to go.
    pub(super) async fn goes(&self, key: &str) -> Result<(), StoreError> {
        let now_s = self.bucket.now_s().await?;
        let locked = lock(&self.locks).remove(key);
        if locked.is_some_and(|locked| locked.until_s > now_s) {
            lock(&self.covered).push(key.to_owned());
        }
        Ok(())
    }

    /// Puts, and notes what that covers.
    pub(super) async fn put(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        self.bucket.put(key, body, mode).await?;
        self.goes(key).await
    }
}

#[async_trait]
impl Versions for Locking {
    async fn lock_support(&self) -> Result<LockSupport, StoreError> {
        Ok(LockSupport::Enabled { has_default: false })
    }

    async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let (mut found, mut from) = (Vec::new(), None::<String>);
        loop {
            let page = self.bucket.list(prefix, from.as_deref()).await?;
            found.extend(page.objects.into_iter().map(|object| ObjectVersion {
                key: object.key,
                version_id: ONLY.to_owned(),
                size_bytes: object.size_bytes,
                modified_at_s: object.modified_at_s,
                is_delete_marker: false,
                is_latest: true,
            }));
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(found),
            }
        }
    }

    async fn get_version(
        &self,
        key: &str,
        _version_id: &str,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError> {
        self.bucket.get(key, bytes_max).await
    }

    async fn get_version_range(
        &self,
        key: &str,
        _version_id: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.bucket.get_range(key, range).await
    }

    async fn retain(
        &self,
        key: &str,
        _version_id: &str,
        retention: Retention,
    ) -> Result<(), StoreError> {
        self.bucket.head(key).await?;
        let mut locks = lock(&self.locks);
        let locked = locks.entry(key.to_owned()).or_insert(retention);
        if !locked.covers(&retention) {
            *locked = retention;
        }
        Ok(())
    }

    async fn retention(
        &self,
        key: &str,
        _version_id: &str,
    ) -> Result<Option<Retention>, StoreError> {
        Ok(lock(&self.locks).get(key).copied())
    }

    async fn put_version(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
    ) -> Result<Option<String>, StoreError> {
        self.put(key, body, mode).await?;
        Ok(Some(ONLY.to_owned()))
    }

    async fn complete_version(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<Option<String>, StoreError> {
        self.bucket.multipart_complete(upload, parts).await?;
        self.goes(&upload.key).await?;
        Ok(Some(ONLY.to_owned()))
    }

    async fn put_retained(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
        retention: Retention,
    ) -> Result<(), StoreError> {
        self.put(key, body, mode).await?;
        lock(&self.locks).insert(key.to_owned(), retention);
        Ok(())
    }

    async fn hide(&self, key: &str) -> Result<Purged, StoreError> {
        self.bucket.delete(key).await?;
        self.goes(key).await?;
        Ok(Purged::Gone)
    }

    async fn purge(&self, key: &str) -> Result<Purged, StoreError> {
        let now_s = self.bucket.now_s().await?;
        match self.retention(key, ONLY).await? {
            Some(locked) if locked.until_s > now_s => Ok(Purged::KeptUntil(locked.until_s)),
            _ => self.hide(key).await,
        }
    }
}
