//! A store to which `If-None-Match` means nothing.

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::store::{MemoryStore, ObjectStore, PutMode, StoreError};

use crate::layer::Layer;

#[derive(Debug)]
pub(crate) struct Blind(pub(crate) MemoryStore);

#[async_trait]
impl Layer for Blind {
    fn inner(&self) -> &dyn ObjectStore {
        &self.0
    }
    async fn put(&self, key: &str, body: Bytes, _mode: PutMode) -> Result<(), StoreError> {
        self.0.put(key, body, PutMode::Overwrite).await
    }
}
