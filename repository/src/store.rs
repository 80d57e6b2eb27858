//! The seam to an object store: one small trait, and errors that say what the caller can do.
//!
//! Keys are relative to the repository's prefix (`repository.json`, `packs/…`); an implementation adds bucket
//! and prefix. Implementations retry what may pass by itself (bounded, with jitter) before they return an
//! error, settle ambiguous answers by asking again, and send a checksum with each body. What they return is
//! final: callers above do not retry.

pub mod bandwidth;
pub(crate) mod first;
pub mod memory;
pub mod probe;
pub mod requests;
pub mod s3;
pub mod versions;

use std::{fmt, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{
    bandwidth::Bandwidth, memory::MemoryStore, probe::EndpointReport, requests::RequestCounts,
    s3::S3Store,
};

/// Whether an object may replace one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Replace whatever is there.
    Overwrite,
    /// Only if nothing is there (`If-None-Match: *`), atomically; else [`StoreError::AlreadyExists`].
    IfAbsent,
}

/// What a store says of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Key relative to the prefix.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Last modification in seconds since the Unix epoch by the store's clock.
    pub modified_at_s: i64,
}

/// One page of a listing, keys ascending.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// Objects of the page.
    pub objects: Vec<ObjectMeta>,
    /// Where the next page starts; `None` on the last one.
    pub next: Option<String>,
}

/// An upload of many parts under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    /// Key the object will have, relative to the prefix.
    pub key: String,
    /// The store's id of the upload.
    pub upload_id: String,
}

/// A part that the store has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReceipt {
    /// Number from 1 to 10,000, without gaps.
    pub number: u32,
    /// Size in bytes.
    pub size_bytes: u64,
    /// The store's ETag of the part, quoted as it came.
    pub etag: String,
    /// CRC32C of the part's bytes.
    pub crc32c: u32,
}

/// A flat namespace of objects with conditional creation and multipart uploads.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// The place in words for messages (`s3://bucket/prefix`), without secrets.
    fn location(&self) -> String;

    /// Writes a small object in one request.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] with [`PutMode::IfAbsent`]. Where an answer was lost and the object found
    /// afterwards has exactly `body`, that is success.
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError>;

    /// Reads a whole object. Never takes more memory than about `bytes_max`, whatever is in the bucket.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::TooLarge`] for more than `bytes_max` bytes.
    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError>;

    /// Reads a range of an object's bytes: exactly those asked for, or an error. The caller bounds the range.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Integrity`] for a range that ends past the object.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Asks for an object's size.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError>;

    /// Asks for an object's size, and for the CRC32C of its bytes where the store states it.
    ///
    /// # Errors
    /// As [`Self::head`].
    async fn head_with_crc32c(&self, key: &str) -> Result<(ObjectMeta, Option<u32>), StoreError> {
        Ok((self.head(key).await?, None))
    }

    /// Deletes an object, in a bucket that keeps versions with all those that are not locked; locked ones are hidden. One
    /// that is not there is success.
    ///
    /// # Errors
    /// As the store answers.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Lists keys that start with `prefix`, ascending, from `from` (a former page's `next`).
    ///
    /// # Errors
    /// As the store answers; never a shortened list.
    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError>;

    /// Opens a multipart upload.
    ///
    /// # Errors
    /// As the store answers.
    async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError>;

    /// Sends one part; every part but the last is of the same size, at least 5 MiB.
    ///
    /// # Errors
    /// As the store answers.
    async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError>;

    /// Turns the parts into an object and confirms its size. An ambiguous answer is settled by asking for the object.
    ///
    /// # Errors
    /// [`StoreError::Integrity`] when the object is not what was sent.
    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError>;

    /// Gives an upload up and makes sure that it is gone. One that is not there is success.
    ///
    /// # Errors
    /// As the store answers.
    async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError>;

    /// Every open upload whose key starts with `prefix`.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] where the store cannot tell.
    async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError>;

    /// The store's clock, in seconds since the Unix epoch: what it stamps objects with.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] where the store does not tell.
    async fn now_s(&self) -> Result<i64, StoreError>;

    /// Finds out by trial what the endpoint can, under a throw-away key, and goes on as it found.
    ///
    /// # Errors
    /// As the store answers; a missing ability is no error but stands in the report.
    async fn probe(&self) -> Result<EndpointReport, StoreError>;

    /// What can be done with versions of objects, where the store may have them.
    fn versions(&self) -> Option<&dyn versions::Versions> {
        None
    }

    /// Goes on as a report of an earlier [`ObjectStore::probe`] says, instead of trying again.
    fn adopt(&self, report: &EndpointReport);

    /// Requests sent and bytes moved so far, retries included.
    fn requests(&self) -> RequestCounts;
}

/// What can go wrong, by what the caller can do. Every text names the object or the endpoint and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The object is not there.
    #[error("{key} is not in the bucket")]
    NotFound {
        /// Key relative to the prefix.
        key: String,
    },
    /// A conditional write found an object in place.
    #[error("{key} exists already")]
    AlreadyExists {
        /// Key relative to the prefix.
        key: String,
    },
    /// The bucket itself is not there.
    #[error(
        "bucket {bucket} does not exist at {endpoint}; create it, or check its name and region"
    )]
    NoSuchBucket {
        /// The bucket.
        bucket: String,
        /// The endpoint asked.
        endpoint: String,
    },
    /// The credentials are known but may not do this.
    #[error("access denied: {doing}; the credentials lack a permission for it")]
    AccessDenied {
        /// What was refused, in words.
        doing: String,
        /// The store's answer.
        #[source]
        source: BoxError,
    },
    /// No credentials, wrong ones, or ones that expired and could not be renewed.
    #[error("the credentials for {endpoint} are missing, wrong or expired")]
    Credentials {
        /// The endpoint asked.
        endpoint: String,
        /// The details, without secrets.
        #[source]
        source: BoxError,
    },
    /// The endpoint's certificate is not trusted.
    #[error(
        "the certificate of {endpoint} is not trusted; give its CA with AWS_CA_BUNDLE or --ca-file"
    )]
    Certificate {
        /// The endpoint asked.
        endpoint: String,
        /// The details.
        #[source]
        source: BoxError,
    },
    /// Nothing answered, or only with passing faults, until the retries were used up; or an answer did not end.
    #[error("{endpoint} did not answer usefully ({doing}, {attempts} attempts)")]
    Unavailable {
        /// The endpoint asked.
        endpoint: String,
        /// What was being done, in words.
        doing: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        #[source]
        source: BoxError,
    },
    /// What came or went is not what was meant: sizes or checksums differ.
    #[error("{key}: {problem}")]
    Integrity {
        /// Key relative to the prefix.
        key: String,
        /// What differs.
        problem: String,
    },
    /// The object is larger than anything that belongs under its key, and was not read.
    #[error("{key} has {size_bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// Key relative to the prefix.
        key: String,
        /// Its size in bytes, or how much of it had come when it was given up.
        size_bytes: u64,
        /// The most that was to be read.
        limit_bytes: u64,
    },
    /// The endpoint cannot do that.
    #[error("{endpoint} does not support {what}")]
    Unsupported {
        /// The endpoint asked.
        endpoint: String,
        /// What is missing.
        what: String,
    },
    /// Settings that cannot work: a malformed URL, an unreadable CA file.
    #[error("{0}")]
    Config(String),
    /// Any other refusal.
    #[error("{endpoint} refused: {doing}")]
    Refused {
        /// The endpoint asked.
        endpoint: String,
        /// What was being done, in words.
        doing: String,
        /// The store's answer.
        #[source]
        source: BoxError,
    },
}

impl StoreError {
    /// Whether it tells something of one object alone: the bucket answers, and others may be sound.
    #[must_use]
    pub fn is_of_one_object(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::Integrity { .. }
                | Self::TooLarge { .. }
                | Self::Refused { .. }
        )
    }
}

/// What must hold of the parts before they are completed: numbered from 1 without gaps, of one size but the last.
pub(crate) fn check_receipts(key: &str, parts: &[PartReceipt]) -> Result<(), StoreError> {
    let wrong = |problem: String| {
        Err(StoreError::Integrity {
            key: key.to_owned(),
            problem,
        })
    };
    let Some(first) = parts.first() else {
        return wrong("an upload without parts cannot be completed".to_owned());
    };
    for (at, part) in parts.iter().enumerate() {
        if u32::try_from(at + 1) != Ok(part.number) {
            return wrong(format!("part {} is missing from the upload", at + 1));
        }
        let is_last = at + 1 == parts.len();
        if part.size_bytes > first.size_bytes || (part.size_bytes < first.size_bytes && !is_last) {
            return wrong(format!("part {} has another size than part 1", part.number));
        }
        if part.etag.is_empty() {
            return wrong(format!("part {} was not confirmed", part.number));
        }
    }
    Ok(())
}

/// What to do about a bucket that shows more than a repository can have.
pub(crate) const FLOODED: &str = "somebody fills the bucket. Take the credentials away from whoever does, and delete what they put there, \
     or copy the rest below another prefix, where it can be restored from all the same";

/// A boxed source of an error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
