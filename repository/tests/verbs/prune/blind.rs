//! A store to which `If-None-Match` means nothing.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::store::{
    EndpointReport, ListPage, MemoryStore, Multipart, ObjectMeta, ObjectStore, PartReceipt,
    PutMode, RequestCounts, StoreError,
};

#[derive(Debug)]
pub(crate) struct Blind(pub(crate) MemoryStore);

#[async_trait]
impl ObjectStore for Blind {
    fn location(&self) -> String {
        self.0.location()
    }
    async fn put(&self, key: &str, body: Bytes, _mode: PutMode) -> Result<(), StoreError> {
        self.0.put(key, body, PutMode::Overwrite).await
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
    async fn probe(&self) -> Result<EndpointReport, StoreError> {
        self.0.probe().await
    }
    fn adopt(&self, report: &EndpointReport) {
        self.0.adopt(report);
    }
    fn requests(&self) -> RequestCounts {
        self.0.requests()
    }
}
