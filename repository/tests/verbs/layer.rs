//! A store in front of another one: what a layer does not say passes through.

use std::{
    fmt,
    ops::{Deref, Range},
};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::store::{
    EndpointReport, ListPage, Multipart, ObjectMeta, ObjectStore, PartReceipt, PutMode,
    RequestCounts, StoreError, versions::Versions,
};

/// What is done in between.
#[async_trait]
pub(crate) trait Layer: Send + Sync + fmt::Debug {
    fn inner(&self) -> &dyn ObjectStore;

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.inner().put(key, body, mode).await
    }
    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.inner().get(key, bytes_max).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner().get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.inner().head(key).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner().delete(key).await
    }
    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        self.inner().list(prefix, from).await
    }
    async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError> {
        self.inner().multipart_create(key).await
    }
    async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        self.inner().multipart_put(upload, number, body).await
    }
    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        self.inner().multipart_complete(upload, parts).await
    }
    async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError> {
        self.inner().multipart_abort(upload).await
    }
    async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        self.inner().multipart_list(prefix).await
    }
    fn versions(&self) -> Option<&dyn Versions> {
        None
    }
}

/// The layer as a store.
#[derive(Debug)]
pub(crate) struct Over<L>(pub(crate) L);

impl<L> Deref for Over<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.0
    }
}

#[async_trait]
impl<L: Layer> ObjectStore for Over<L> {
    fn location(&self) -> String {
        self.0.inner().location()
    }
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.0.put(key, body, mode).await
    }
    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.0.get(key, bytes_max).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.0.head(key).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.delete(key).await
    }
    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        self.0.list(prefix, from).await
    }
    async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError> {
        self.0.multipart_create(key).await
    }
    async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        self.0.multipart_put(upload, number, body).await
    }
    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        self.0.multipart_complete(upload, parts).await
    }
    async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError> {
        self.0.multipart_abort(upload).await
    }
    async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        self.0.multipart_list(prefix).await
    }
    async fn now_s(&self) -> Result<i64, StoreError> {
        self.0.inner().now_s().await
    }
    async fn probe(&self) -> Result<EndpointReport, StoreError> {
        self.0.inner().probe().await
    }
    fn versions(&self) -> Option<&dyn Versions> {
        self.0.versions()
    }
    fn adopt(&self, report: &EndpointReport) {
        self.0.inner().adopt(report);
    }
    fn requests(&self) -> RequestCounts {
        self.0.inner().requests()
    }
}
