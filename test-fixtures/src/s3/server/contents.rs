//! Looking at and changing what the server keeps, past HTTP.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::Server;
use crate::s3::checksum::{Checksum, md5};
use crate::s3::store::{Bucket, Content, Object};

/// A stored object, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// The checksum kept with it.
    pub checksum: Option<Checksum>,
    /// When it was written.
    pub modified: SystemTime,
}

/// An upload that was neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadInfo {
    /// The key that it is for.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// How many parts it has.
    pub parts: usize,
    /// When it was created.
    pub initiated: SystemTime,
}

/// Everything that was in a bucket at one time. Taking and keeping one is cheap.
#[derive(Debug, Clone)]
pub struct BucketSnapshot(Bucket);

impl Server {
    fn with_bucket<T>(&self, bucket: &str, change: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        self.service
            .store
            .lock()
            .buckets
            .get_mut(bucket)
            .map(change)
    }

    /// Changes a stored object; false if it is not there.
    fn change_object(
        &self,
        bucket: &str,
        key: &str,
        change: impl FnOnce(&mut Object) -> bool,
    ) -> bool {
        let changed = self.with_bucket(bucket, |bucket| {
            bucket
                .objects
                .get_mut(key)
                .map(|o| change(Arc::make_mut(o)))
        });
        changed.flatten().unwrap_or(false)
    }

    /// Makes a bucket; one that exists stays as it is.
    pub fn create_bucket(&self, name: &str) {
        self.service
            .store
            .lock()
            .buckets
            .entry(name.to_owned())
            .or_default();
    }

    /// The names of all buckets.
    #[must_use]
    pub fn buckets(&self) -> Vec<String> {
        self.service.store.lock().buckets.keys().cloned().collect()
    }

    /// The objects of a bucket in the order of their keys; none if the bucket does not exist.
    #[must_use]
    pub fn objects(&self, bucket: &str) -> Vec<ObjectInfo> {
        let objects = self.with_bucket(bucket, |bucket| {
            let entries = bucket.objects.iter().map(|(key, object)| ObjectInfo {
                key: key.clone(),
                size_bytes: object.content.length(),
                etag: object.etag.clone(),
                checksum: object.checksum.clone(),
                modified: object.modified,
            });
            entries.collect()
        });
        objects.unwrap_or_default()
    }

    /// The keys of a bucket that start with `prefix`, in order.
    #[must_use]
    pub fn keys_with_prefix(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let keys = self.with_bucket(bucket, |bucket| {
            bucket
                .objects
                .keys()
                .filter(|key| key.starts_with(prefix))
                .cloned()
                .collect()
        });
        keys.unwrap_or_default()
    }

    /// Sum of the sizes of a bucket's objects; open uploads do not count.
    #[must_use]
    pub fn stored_bytes(&self, bucket: &str) -> u64 {
        self.objects(bucket)
            .iter()
            .map(|object| object.size_bytes)
            .sum()
    }

    /// The content of an object.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        let object = self
            .with_bucket(bucket, |bucket| bucket.objects.get(key).cloned())
            .flatten();
        object.map(|object| object.content.to_bytes())
    }

    /// Puts an object, without conditions; false if the bucket does not exist.
    pub fn put_object(&self, bucket: &str, key: &str, data: impl Into<Bytes>) -> bool {
        let data = data.into();
        let object = Object {
            etag: hex::encode(md5([&data])),
            content: Content::new(vec![data]),
            checksum: None,
            content_type: None,
            metadata: None,
            modified: SystemTime::now(),
        };
        self.with_bucket(bucket, |bucket| {
            bucket.objects.insert(key.to_owned(), Arc::new(object))
        })
        .is_some()
    }

    /// Removes an object; false if it was not there.
    pub fn remove_object(&self, bucket: &str, key: &str) -> bool {
        self.with_bucket(bucket, |bucket| bucket.objects.remove(key))
            .flatten()
            .is_some()
    }

    /// Inverts the lowest bit of the byte at `offset`, as a failing disk does: entity tag, checksum and time stay.
    /// False if there is no such byte.
    pub fn flip_byte(&self, bucket: &str, key: &str, offset: u64) -> bool {
        self.change_object(bucket, key, |object| {
            let mut data = object.content.to_bytes().to_vec();
            let byte = usize::try_from(offset)
                .ok()
                .and_then(|offset| data.get_mut(offset));
            let Some(byte) = byte else { return false };
            *byte ^= 1;
            object.content = Content::new(vec![Bytes::from(data)]);
            true
        })
    }

    /// Cuts an object to `size_bytes`; entity tag, checksum and time stay. False if it is not longer than that.
    pub fn truncate_object(&self, bucket: &str, key: &str, size_bytes: u64) -> bool {
        self.change_object(bucket, key, |object| {
            if size_bytes >= object.content.length() {
                return false;
            }
            object.content = Content::new(object.content.slice(0..size_bytes));
            true
        })
    }

    /// Sets when an object was written; false if it is not there.
    pub fn set_modified(&self, bucket: &str, key: &str, modified: SystemTime) -> bool {
        self.change_object(bucket, key, |object| {
            object.modified = modified;
            true
        })
    }

    /// The open uploads of a bucket, in the order of creation.
    #[must_use]
    pub fn uploads(&self, bucket: &str) -> Vec<UploadInfo> {
        let uploads = self.with_bucket(bucket, |bucket| {
            let entries = bucket.uploads.iter().map(|(id, upload)| UploadInfo {
                key: upload.key.clone(),
                upload_id: id.clone(),
                parts: upload.parts.len(),
                initiated: upload.initiated,
            });
            entries.collect()
        });
        uploads.unwrap_or_default()
    }

    /// Sets when an upload was created; false if it is not open.
    pub fn set_initiated(&self, bucket: &str, upload_id: &str, initiated: SystemTime) -> bool {
        let changed = self.with_bucket(bucket, |bucket| match bucket.uploads.get_mut(upload_id) {
            Some(upload) => {
                upload.initiated = initiated;
                true
            }
            None => false,
        });
        changed.unwrap_or(false)
    }

    /// What is in a bucket now, open uploads included.
    #[must_use]
    pub fn snapshot(&self, bucket: &str) -> Option<BucketSnapshot> {
        self.with_bucket(bucket, |bucket| BucketSnapshot(bucket.clone()))
    }

    /// Makes a bucket as it was; it need not be the one that the snapshot was taken of.
    pub fn restore(&self, bucket: &str, snapshot: &BucketSnapshot) {
        self.service
            .store
            .lock()
            .buckets
            .insert(bucket.to_owned(), snapshot.0.clone());
    }
}
