//! What a bucket with versions can do, as the trait says it.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::{S3Store, read::Extent, versions::Wanted};
use crate::store::{
    Multipart, PartReceipt, PutMode, StoreError,
    versions::{LockSupport, ObjectVersion, Purged, Retention, Versions},
};

#[async_trait]
impl Versions for S3Store {
    async fn lock_support(&self) -> Result<LockSupport, StoreError> {
        self.core.lock_support().await
    }

    async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        self.core.versions(Wanted::Below(prefix)).await
    }

    async fn versions_of(&self, key: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        self.core.versions(Wanted::Key(key)).await
    }

    async fn get_version(
        &self,
        key: &str,
        version_id: &str,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError> {
        let extent = Extent::Whole { bytes_max };
        self.core.get_at(key, Some(version_id), extent).await
    }

    async fn get_version_range(
        &self,
        key: &str,
        version_id: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let extent = Extent::Range(range);
        self.core.get_at(key, Some(version_id), extent).await
    }

    async fn retain(
        &self,
        key: &str,
        version_id: &str,
        retention: Retention,
    ) -> Result<(), StoreError> {
        self.core.retain(key, version_id, retention).await
    }

    async fn put_retained(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
        retention: Retention,
    ) -> Result<(), StoreError> {
        let put = self.core.put_with(key, body, mode, Some(retention));
        put.await.map(drop)
    }

    async fn retention(
        &self,
        key: &str,
        version_id: &str,
    ) -> Result<Option<Retention>, StoreError> {
        self.core.retention(key, version_id).await
    }

    async fn put_version(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
    ) -> Result<Option<String>, StoreError> {
        self.core.put_with(key, body, mode, None).await
    }

    async fn complete_version(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<Option<String>, StoreError> {
        self.core.multipart_complete(upload, parts).await
    }

    async fn hide(&self, key: &str) -> Result<Purged, StoreError> {
        self.core.delete(key).await
    }

    async fn purge(&self, key: &str) -> Result<Purged, StoreError> {
        self.core.purge(key).await
    }
}
