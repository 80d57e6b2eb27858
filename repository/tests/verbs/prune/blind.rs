//! A store to which `If-None-Match` means nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::store::{MemoryStore, ObjectStore, PutMode, StoreError};

use crate::layer::Layer;

/// A store where somebody takes lists of condemned packs away as soon as they are put, so many times.
#[derive(Debug)]
pub(crate) struct Taking(pub(crate) MemoryStore, pub(crate) AtomicUsize);

#[async_trait]
impl Layer for Taking {
    fn inner(&self) -> &dyn ObjectStore {
        &self.0
    }
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.0.put(key, body, mode).await?;
        let less = |left: usize| left.checked_sub(1);
        if key.starts_with("condemned/")
            && self
                .1
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok()
        {
            self.0.delete(key).await?;
        }
        Ok(())
    }
}

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
