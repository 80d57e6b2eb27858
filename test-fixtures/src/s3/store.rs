//! What the server in the process keeps: buckets, objects and uploads in memory.
//!
//! One mutex guards everything, so each operation of S3 is one step, as its conditional writes need. Bytes are shared,
//! never copied: an object completed from parts is the list of their buffers, and a reader holds the same buffers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use s3s::{S3Result, s3_error};

use super::checksum::{Algorithm, Checksum};

/// The content of an object: buffers read one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    segments: Vec<Bytes>,
    length: u64,
}

impl Content {
    pub(crate) fn new(segments: Vec<Bytes>) -> Self {
        let length = segments.iter().map(|segment| segment.len() as u64).sum();
        Self { segments, length }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// The buffers of `range`, which must lie within the content; nothing is copied.
    pub(crate) fn slice(&self, range: std::ops::Range<u64>) -> Vec<Bytes> {
        let mut found = Vec::new();
        let mut start = 0u64;
        for segment in &self.segments {
            let end = start + segment.len() as u64;
            let from = range.start.max(start);
            let to = range.end.min(end);
            if from < to {
                let at =
                    |position: u64| usize::try_from(position - start).expect("within a buffer");
                found.push(segment.slice(at(from)..at(to)));
            }
            start = end;
        }
        found
    }

    /// All bytes in one buffer; copies only if there are several.
    pub(crate) fn to_bytes(&self) -> Bytes {
        if let [only] = self.segments.as_slice() {
            return only.clone();
        }
        let mut whole = BytesMut::new();
        for segment in &self.segments {
            whole.extend_from_slice(segment);
        }
        whole.freeze()
    }
}

/// A stored object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) content: Content,
    pub(crate) etag: String,
    pub(crate) checksum: Option<Checksum>,
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: Option<HashMap<String, String>>,
    pub(crate) modified: SystemTime,
}

/// A part of an open upload.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) content: Content,
    pub(crate) md5: [u8; 16],
    pub(crate) checksum: Option<Checksum>,
    pub(crate) modified: SystemTime,
}

impl Part {
    pub(crate) fn etag(&self) -> String {
        hex::encode(self.md5)
    }
}

/// An open upload in parts.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) full_object: bool,
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: Option<HashMap<String, String>>,
    pub(crate) initiated: SystemTime,
    pub(crate) parts: BTreeMap<u16, Part>,
}

/// A bucket. Cloning it is cheap: the contents are shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Arc<Object>>,
    /// By upload id. Ids grow, so their order is the order of creation.
    pub(crate) uploads: BTreeMap<String, Upload>,
}

impl Bucket {
    /// The upload `id`, if it is one for `key`.
    pub(crate) fn upload(&self, key: &str, id: &str) -> S3Result<&Upload> {
        let upload = self.uploads.get(id).filter(|upload| upload.key == key);
        upload.ok_or_else(|| {
            s3_error!(
                NoSuchUpload,
                "The specified multipart upload does not exist."
            )
        })
    }

    /// The upload `id`, if it is one for `key`, to change it.
    pub(crate) fn upload_mut(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        let upload = self.uploads.get_mut(id).filter(|upload| upload.key == key);
        upload.ok_or_else(|| {
            s3_error!(
                NoSuchUpload,
                "The specified multipart upload does not exist."
            )
        })
    }
}

/// Everything, behind the one mutex.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) buckets: BTreeMap<String, Bucket>,
    uploads_made: u64,
}

impl State {
    pub(crate) fn bucket(&self, name: &str) -> S3Result<&Bucket> {
        self.buckets.get(name).ok_or_else(no_such_bucket)
    }

    pub(crate) fn bucket_mut(&mut self, name: &str) -> S3Result<&mut Bucket> {
        self.buckets.get_mut(name).ok_or_else(no_such_bucket)
    }

    /// A new upload id: no id is ever given twice.
    pub(crate) fn next_upload_id(&mut self) -> String {
        self.uploads_made += 1;
        format!("upload-{:08}", self.uploads_made)
    }
}

fn no_such_bucket() -> s3s::S3Error {
    s3_error!(NoSuchBucket, "The specified bucket does not exist")
}

/// The store. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    state: Arc<Mutex<State>>,
}

impl Store {
    /// Locks the state. A test that panicked while holding it does not stop the others.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cross_buffers_without_copying() {
        let content = Content::new(vec![
            Bytes::from_static(b"abcd"),
            Bytes::from_static(b"ef"),
            Bytes::from_static(b"ghi"),
        ]);
        assert_eq!(content.length(), 9);
        assert_eq!(
            content.slice(3..7),
            vec![
                Bytes::from_static(b"d"),
                Bytes::from_static(b"ef"),
                Bytes::from_static(b"g")
            ]
        );
        assert!(content.slice(4..4).is_empty());
        assert_eq!(content.to_bytes(), Bytes::from_static(b"abcdefghi"));
        assert_eq!(Content::default().to_bytes(), Bytes::new());
    }

    #[test]
    fn an_upload_belongs_to_its_key() {
        let mut state = State::default();
        let id = state.next_upload_id();
        assert_ne!(id, state.next_upload_id());
        let upload = Upload {
            key: "a".into(),
            algorithm: None,
            full_object: false,
            content_type: None,
            metadata: None,
            initiated: SystemTime::UNIX_EPOCH,
            parts: BTreeMap::new(),
        };
        let mut bucket = Bucket::default();
        bucket.uploads.insert(id.clone(), upload);
        assert!(bucket.upload("a", &id).is_ok());
        assert!(bucket.upload("b", &id).is_err());
        assert!(bucket.upload_mut("a", "other").is_err());
    }
}
