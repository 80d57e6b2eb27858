//! A bucket in memory that keeps what was deleted or overwritten, as old versions.

use std::{ops::Range, sync::Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::{
    lock::{LockSupport, Purged, Retention},
    store::{
        MemoryStore, Multipart, ObjectStore, PartReceipt, PutMode, StoreError,
        versions::{ObjectVersion, Versions},
    },
};

use crate::layer::Layer;

#[derive(Debug)]
pub(crate) struct Versioned {
    memory: MemoryStore,
    old: Mutex<Vec<(String, Bytes)>>,
    /// Whether the credentials may see versions.
    may_list: bool,
}

impl Versioned {
    pub(crate) fn over(memory: &MemoryStore, may_list: bool) -> Self {
        Self {
            memory: memory.clone(),
            old: Mutex::default(),
            may_list,
        }
    }

    fn keep(&self, key: &str) {
        if let Some(body) = self.memory.peek(key) {
            self.old.lock().unwrap().push((key.to_owned(), body));
        }
    }

    fn denied() -> StoreError {
        StoreError::AccessDenied {
            doing: "listing versions".to_owned(),
            source: "the test".into(),
        }
    }

    fn unsupported() -> StoreError {
        StoreError::Unsupported {
            endpoint: "the test".to_owned(),
            what: "that".to_owned(),
        }
    }
}

#[async_trait]
impl Layer for Versioned {
    fn inner(&self) -> &dyn ObjectStore {
        &self.memory
    }
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        if mode == PutMode::Overwrite {
            self.keep(key);
        }
        self.memory.put(key, body, mode).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.keep(key);
        self.memory.delete(key).await
    }
    fn versions(&self) -> Option<&dyn Versions> {
        Some(self)
    }
}

#[async_trait]
impl Versions for Versioned {
    async fn lock_support(&self) -> Result<LockSupport, StoreError> {
        Ok(LockSupport::Missing)
    }

    /// The old ones; their ids are their places.
    async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        if !self.may_list {
            return Err(Self::denied());
        }
        let old = self.old.lock().unwrap();
        let mut found: Vec<ObjectVersion> = (old.iter().enumerate().rev())
            .filter(|(_, (key, _))| key.starts_with(prefix))
            .map(|(at, (key, body))| ObjectVersion {
                key: key.clone(),
                version_id: at.to_string(),
                size_bytes: body.len() as u64,
                modified_at_s: 0,
                is_delete_marker: false,
                is_latest: false,
            })
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn get_version(
        &self,
        key: &str,
        version_id: &str,
        _bytes_max: usize,
    ) -> Result<Bytes, StoreError> {
        let (found, body) = self.old.lock().unwrap()[version_id.parse::<usize>().unwrap()].clone();
        assert_eq!(found, key);
        Ok(body)
    }

    async fn get_version_range(
        &self,
        _key: &str,
        _version_id: &str,
        _range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        Err(Self::unsupported())
    }

    async fn retain(
        &self,
        _key: &str,
        _version_id: &str,
        _retention: Retention,
    ) -> Result<(), StoreError> {
        Err(Self::unsupported())
    }

    async fn retention(
        &self,
        _key: &str,
        _version_id: &str,
    ) -> Result<Option<Retention>, StoreError> {
        Ok(None)
    }

    async fn put_version(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
    ) -> Result<Option<String>, StoreError> {
        Layer::put(self, key, body, mode).await.map(|()| None)
    }

    async fn complete_version(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<Option<String>, StoreError> {
        let done = Layer::multipart_complete(self, upload, parts);
        done.await.map(|()| None)
    }

    async fn put_retained(
        &self,
        _key: &str,
        _body: Bytes,
        _mode: PutMode,
        _retention: Retention,
    ) -> Result<(), StoreError> {
        Err(Self::unsupported())
    }

    async fn hide(&self, key: &str) -> Result<Purged, StoreError> {
        Layer::delete(self, key).await?;
        Ok(Purged::Hidden)
    }

    async fn purge(&self, key: &str) -> Result<Purged, StoreError> {
        self.hide(key).await
    }
}
