//! A bucket in memory that keeps every version of an object and can lock them.

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

use crate::layer::Layer;

/// One version; a delete marker has no body.
#[derive(Debug, Clone)]
struct Version {
    body: Option<Bytes>,
    locked: Option<Retention>,
}

/// Of each key the oldest first; a version's id is its place.
type Kept = BTreeMap<String, Vec<Option<Version>>>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Keeping {
    pub(crate) memory: MemoryStore,
    kept: Arc<Mutex<Kept>>,
}

impl Keeping {
    fn add(&self, key: &str, body: Option<Bytes>, locked: Option<Retention>) -> String {
        let mut kept = self.kept.lock().unwrap();
        let versions = kept.entry(key.to_owned()).or_default();
        versions.push(Some(Version { body, locked }));
        (versions.len() - 1).to_string()
    }

    /// Puts a version in the place of the newest one of a key, which goes with its lock if it has one: what somebody does who may delete
    /// versions, before they are locked.
    pub(crate) fn swap(&self, key: &str, body: Bytes) {
        let mut kept = self.kept.lock().unwrap();
        let versions = kept.get_mut(key).unwrap();
        *versions.last_mut().unwrap() = None;
        drop(kept);
        self.add(key, Some(body), None);
        self.show(key);
    }

    /// Takes all versions of a key away.
    pub(crate) fn take_away(&self, key: &str) {
        self.kept.lock().unwrap().remove(key);
        self.show(key);
    }

    /// Ends all locks, as in a copy of the bucket.
    pub(crate) fn unlock(&self) {
        let mut kept = self.kept.lock().unwrap();
        for version in kept.values_mut().flatten().flatten() {
            version.locked = None;
        }
    }

    /// The bucket as it looks without naming versions.
    fn show(&self, key: &str) {
        let newest = self.kept.lock().unwrap().get(key).cloned();
        let newest = newest.unwrap_or_default().into_iter().flatten().next_back();
        self.memory
            .tamper(key, newest.and_then(|newest| newest.body));
    }

    fn version(&self, key: &str, id: &str) -> Result<Bytes, StoreError> {
        let kept = self.kept.lock().unwrap();
        let found = kept.get(key).and_then(|versions| {
            let version = versions.get(id.parse::<usize>().ok()?)?;
            version.as_ref()?.body.clone()
        });
        found.ok_or_else(|| StoreError::NotFound {
            key: key.to_owned(),
        })
    }

    /// What whoever has our credentials can do: every version that is not locked goes.
    pub(crate) fn rob(&self) {
        let keys: Vec<String> = self.kept.lock().unwrap().keys().cloned().collect();
        for key in keys {
            self.rob_key(&key);
        }
    }

    /// As [`rob`](Self::rob), for one key; whether nothing is left of it.
    pub(crate) fn rob_key(&self, key: &str) -> bool {
        let mut kept = self.kept.lock().unwrap();
        let versions = kept.entry(key.to_owned()).or_default();
        for version in versions.iter_mut() {
            if version
                .as_ref()
                .is_some_and(|version| version.locked.is_none())
            {
                *version = None;
            }
        }
        let is_gone = versions.iter().all(Option::is_none);
        drop(kept);
        self.show(key);
        is_gone
    }
}

#[async_trait]
impl Layer for Keeping {
    fn inner(&self) -> &dyn ObjectStore {
        &self.memory
    }
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.memory.put(key, body.clone(), mode).await?;
        self.add(key, Some(body), None);
        Ok(())
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.memory.delete(key).await?;
        self.add(key, None, None);
        Ok(())
    }
    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        self.memory.multipart_complete(upload, parts).await?;
        let body = self.memory.peek(&upload.key);
        self.add(&upload.key, body, None);
        Ok(())
    }
    fn versions(&self) -> Option<&dyn Versions> {
        Some(self)
    }
}

#[async_trait]
impl Versions for Keeping {
    async fn lock_support(&self) -> Result<LockSupport, StoreError> {
        Ok(LockSupport::Enabled { has_default: false })
    }

    async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let kept = self.kept.lock().unwrap();
        let mut found = Vec::new();
        for (key, versions) in kept.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let there = versions.iter().enumerate().rev();
            let there = there.filter_map(|(at, version)| Some((at, version.as_ref()?)));
            for (count, (at, version)) in there.enumerate() {
                let size_bytes = version.body.as_ref().map_or(0, Bytes::len) as u64;
                found.push(ObjectVersion {
                    key: key.clone(),
                    version_id: at.to_string(),
                    size_bytes,
                    modified_at_s: i64::try_from(at).unwrap(),
                    is_delete_marker: version.body.is_none(),
                    is_latest: count == 0,
                });
            }
        }
        Ok(found)
    }

    async fn get_version(
        &self,
        key: &str,
        version_id: &str,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError> {
        let body = self.version(key, version_id)?;
        if body.len() <= bytes_max {
            return Ok(body);
        }
        Err(StoreError::TooLarge {
            key: key.to_owned(),
            size_bytes: body.len() as u64,
            limit_bytes: bytes_max as u64,
        })
    }

    async fn get_version_range(
        &self,
        key: &str,
        version_id: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let body = self.version(key, version_id)?;
        let at = |at| usize::try_from(at).unwrap();
        Ok(body.slice(at(range.start)..at(range.end)))
    }

    async fn retain(
        &self,
        key: &str,
        version_id: &str,
        retention: Retention,
    ) -> Result<(), StoreError> {
        let mut kept = self.kept.lock().unwrap();
        let versions = kept.get_mut(key).unwrap();
        let version = &mut versions[version_id.parse::<usize>().unwrap()];
        version.as_mut().unwrap().locked = Some(retention);
        Ok(())
    }

    async fn put_retained(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
        retention: Retention,
    ) -> Result<(), StoreError> {
        self.memory.put(key, body.clone(), mode).await?;
        self.add(key, Some(body), Some(retention));
        Ok(())
    }

    async fn retention(
        &self,
        key: &str,
        version_id: &str,
    ) -> Result<Option<Retention>, StoreError> {
        let kept = self.kept.lock().unwrap();
        let version = &kept[key][version_id.parse::<usize>().unwrap()];
        Ok(version.as_ref().unwrap().locked)
    }

    async fn put_version(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
    ) -> Result<Option<String>, StoreError> {
        self.memory.put(key, body.clone(), mode).await?;
        Ok(Some(self.add(key, Some(body), None)))
    }

    async fn complete_version(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<Option<String>, StoreError> {
        self.memory.multipart_complete(upload, parts).await?;
        let body = self.memory.peek(&upload.key);
        Ok(Some(self.add(&upload.key, body, None)))
    }

    async fn hide(&self, key: &str) -> Result<Purged, StoreError> {
        Layer::delete(self, key).await?;
        Ok(Purged::Hidden)
    }

    async fn purge(&self, key: &str) -> Result<Purged, StoreError> {
        Ok(match self.rob_key(key) {
            true => Purged::Gone,
            false => Purged::KeptUntil(i64::MAX),
        })
    }
}
