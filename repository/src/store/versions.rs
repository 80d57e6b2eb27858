//! Buckets that keep every version of an object, and lock versions against deletion (S3's Object Lock).
//!
//! What cannot be undone is done by version id: a lock, a deletion. The key without one is whatever was written last, by
//! whomever.

use std::{fmt, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Multipart, PartReceipt, PutMode, StoreError};

/// How strong a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Whoever has a permission of its own for it may end the lock.
    Governance,
    /// Nobody may end it, not even the owner of the account.
    Compliance,
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        })
    }
}

/// A lock on one version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How strong it is.
    pub mode: LockMode,
    /// When it ends, in seconds since the Unix epoch by the store's clock.
    pub until_s: i64,
}

impl Retention {
    /// Whether it keeps at least as long and as well as another.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.mode >= other.mode && self.until_s >= other.until_s
    }
}

/// Whether a bucket can lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockSupport {
    /// It was made without Object Lock.
    Missing,
    /// It can.
    Enabled {
        /// It also locks by itself whatever is written, also what should be deletable.
        has_default: bool,
    },
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Key relative to the prefix.
    pub key: String,
    /// The store's id of the version.
    pub version_id: String,
    /// Size in bytes; 0 for a delete marker.
    pub size_bytes: u64,
    /// When it was written, in seconds since the Unix epoch by the store's clock.
    pub modified_at_s: i64,
    /// It says that the object was deleted, and has no content.
    pub is_delete_marker: bool,
    /// It is what the key without a version id means.
    pub is_latest: bool,
}

/// What a deletion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purged {
    /// Nothing of the object is left.
    Gone,
    /// The object is not to be seen any more, but the bucket keeps old versions of it: they cost what they did.
    Hidden,
    /// Versions are locked, and the object is as visible as before; it can be deleted from this moment on, in seconds since
    /// the Unix epoch.
    KeptUntil(i64),
}

/// What a bucket with versions can do.
#[async_trait]
pub trait Versions: Send + Sync {
    /// Whether the bucket can lock.
    ///
    /// # Errors
    /// As the store answers.
    async fn lock_support(&self) -> Result<LockSupport, StoreError>;

    /// Every version of every key that starts with `prefix` and that a repository gives
    /// ([`is_ours`](crate::format::object_keys::is_ours)): keys ascending, of each the newest first. Other keys may be among them, and
    /// never count against a bound.
    ///
    /// # Errors
    /// As the store answers; never a shortened list.
    async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError>;

    /// Every version of one key, the newest first.
    ///
    /// # Errors
    /// As the store answers; never a shortened list.
    async fn versions_of(&self, key: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let mut found = self.versions(key).await?;
        found.retain(|version| version.key == key);
        Ok(found)
    }

    /// Reads a version whole.
    ///
    /// # Errors
    /// As [`ObjectStore::get`](super::ObjectStore::get).
    async fn get_version(
        &self,
        key: &str,
        version_id: &str,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError>;

    /// Reads a range of a version.
    ///
    /// # Errors
    /// As [`ObjectStore::get_range`](super::ObjectStore::get_range).
    async fn get_version_range(
        &self,
        key: &str,
        version_id: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError>;

    /// Locks a version, or makes its lock longer. One that is locked as well or better already is success.
    ///
    /// # Errors
    /// As the store answers.
    async fn retain(
        &self,
        key: &str,
        version_id: &str,
        retention: Retention,
    ) -> Result<(), StoreError>;

    /// The lock of a version, if it has one.
    ///
    /// # Errors
    /// As the store answers.
    async fn retention(&self, key: &str, version_id: &str)
    -> Result<Option<Retention>, StoreError>;

    /// As [`ObjectStore::put`](super::ObjectStore::put), and tells the id of the version that was made, where the store says it.
    ///
    /// # Errors
    /// As [`ObjectStore::put`](super::ObjectStore::put).
    async fn put_version(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
    ) -> Result<Option<String>, StoreError>;

    /// As [`ObjectStore::multipart_complete`](super::ObjectStore::multipart_complete), and tells the id of the version that was made,
    /// where the store says it.
    ///
    /// # Errors
    /// As [`ObjectStore::multipart_complete`](super::ObjectStore::multipart_complete).
    async fn complete_version(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<Option<String>, StoreError>;

    /// As [`ObjectStore::put`](super::ObjectStore::put), locked from the first moment.
    ///
    /// # Errors
    /// As [`ObjectStore::put`](super::ObjectStore::put).
    async fn put_retained(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
        retention: Retention,
    ) -> Result<(), StoreError>;

    /// As [`ObjectStore::delete`](super::ObjectStore::delete), and tells whether something is left: never
    /// [`Purged::KeptUntil`].
    ///
    /// # Errors
    /// As the store answers.
    async fn hide(&self, key: &str) -> Result<Purged, StoreError>;

    /// Deletes all versions of an object that are not locked. If one is, the object stays visible.
    ///
    /// # Errors
    /// As the store answers, also for a version that could not be deleted though nothing locks it any more.
    async fn purge(&self, key: &str) -> Result<Purged, StoreError>;
}
