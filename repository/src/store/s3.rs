//! Any S3 server, through the AWS SDK for Rust.
//!
//! # What is done here and not by the SDK
//! - **Retries** (`retry`): bounded in number and time, with jitter; credentials that were refused are renewed first.
//! - **Checksums** (`checksum`): each body carries its CRC32C in a header, never in a trailer, which many servers do
//!   not understand. Where the endpoint cannot, [`EndpointReport`] says what takes its place.
//! - **Lost answers**: a conditional write is settled by reading the object back, a completion by asking for its size
//!   and checksum, an abort by listing the upload's parts. A repeated completion is answered by 200, `NoSuchUpload` or
//!   `AccessDenied`, depending on the server, so its answer alone says nothing.
//! - **Refusals that are lost**: a server may refuse a large body by closing the connection; a small request asks why.
//! - **Exact lengths**: a GET gives the bytes asked for or an error.
//! - **Bounded lengths**: a whole object is refused by the length that its answer announces, and again while it comes.
//!   Any other answer ends after 8 MiB, an error after 64 KiB (`answers`).
//!
//! # What is relied on
//! Reads and lists see completed writes (AWS since 2020, MinIO, versitygw, Ceph). The clock may be wrong: the SDK corrects its
//! signatures by the server's date.
//!
//! # Known differences between servers
//! MinIO lists no uploads by a partial prefix, only those of one key, or of the whole bucket those that it has seen since it
//! started; the probe finds that, and the whole bucket's are sorted out here. An upload that outlived a crash of both
//! sides is left to the bucket's lifecycle rule there.

mod answers;
mod capability;
mod checksum;
mod config;
mod connect;
mod credentials;
mod delete;
mod failure;
mod list;
mod locks;
mod multipart;
mod object;
mod probe;
mod read;
mod retry;
mod silence;
mod trail;
mod uploads;
mod url;
mod versions;

use std::{
    fmt,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;
use tokio::sync::Semaphore;

pub use self::{
    config::{CredentialSource, Limits, PathStyle, S3Config},
    url::S3Url,
};
use self::{credentials::RenewingCredentials, read::Extent, silence::Silence};
use super::{
    Bandwidth, EndpointReport, ListPage, Multipart, ObjectMeta, ObjectStore, PartReceipt, PutMode,
    RequestCounts, StoreError, requests::Counters,
};
use crate::buffers::BufferPool;

/// Buffers that are kept for the next large ranges, as many as are usually under way.
const POOLED_BODIES_MAX: usize = 4;

/// A bucket and prefix on an S3 server. Clones share connections and counters.
#[derive(Debug, Clone)]
pub struct S3Store {
    core: Arc<Core>,
}

/// What all requests share.
struct Core {
    client: Client,
    credentials: Arc<RenewingCredentials>,
    url: S3Url,
    endpoint: String,
    region: String,
    limits: Limits,
    counters: Counters,
    in_flight: Semaphore,
    bandwidth: Bandwidth,
    silence: Silence,
    /// Bodies of large ranges.
    bodies: Arc<BufferPool>,
    /// `None` until probed or adopted: then what every server should know is used, and nothing more.
    abilities: RwLock<Option<EndpointReport>>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl S3Store {
    /// Prepares a client. Nothing is sent yet, so a wrong address shows with the first request.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the settings cannot work.
    pub async fn connect(config: S3Config) -> Result<Self, StoreError> {
        let connection = connect::connect(&config).await?;
        let core = Core {
            client: connection.client,
            credentials: connection.credentials,
            url: config.url,
            endpoint: connection.endpoint,
            region: connection.region,
            counters: Counters::default(),
            in_flight: Semaphore::new(config.limits.requests_in_flight.max(1)),
            limits: config.limits,
            bandwidth: config.bandwidth,
            silence: Silence::default(),
            bodies: BufferPool::new(read::POOLED_BODY_SIZE, POOLED_BODIES_MAX),
            abilities: RwLock::new(None),
        };
        Ok(Self {
            core: Arc::new(core),
        })
    }

    /// The endpoint in words.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.core.endpoint
    }

    /// What the endpoint is known to do, once probed or adopted.
    #[must_use]
    pub fn abilities(&self) -> Option<EndpointReport> {
        self.core.known_abilities()
    }
}

impl Core {
    fn known_abilities(&self) -> Option<EndpointReport> {
        self.abilities
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn adopt(&self, report: &EndpointReport) {
        *self
            .abilities
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn location(&self) -> String {
        self.core.url.to_string()
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.core.put(key, body, mode).await
    }

    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.core.get(key, Extent::Whole { bytes_max }).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.core.get(key, Extent::Range(range)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.core.head(key).await.map(|head| head.meta)
    }

    async fn head_with_crc32c(&self, key: &str) -> Result<(ObjectMeta, Option<u32>), StoreError> {
        let head = self.core.head(key).await?;
        Ok((head.meta, head.crc32c.as_deref().and_then(checksum::parse)))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.core.delete(key).await.map(drop)
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        self.core.list(prefix, from).await
    }

    async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError> {
        self.core.multipart_create(key).await
    }

    async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        self.core.multipart_put(upload, number, body).await
    }

    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        self.core.multipart_complete(upload, parts).await.map(drop)
    }

    async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError> {
        self.core.multipart_abort(upload).await
    }

    async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        self.core.multipart_list(prefix).await
    }

    async fn now_s(&self) -> Result<i64, StoreError> {
        self.core.now_s().await
    }

    async fn probe(&self) -> Result<EndpointReport, StoreError> {
        self.core.probe().await
    }

    fn versions(&self) -> Option<&dyn super::versions::Versions> {
        Some(self)
    }

    fn adopt(&self, report: &EndpointReport) {
        self.core.adopt(report);
    }

    fn requests(&self) -> RequestCounts {
        self.core.counters.snapshot()
    }
}
