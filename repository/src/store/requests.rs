//! What a store was asked to do so far: the requests that a bucket's owner is charged for.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

/// Kinds of requests that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// An object written at once.
    Put,
    /// An object or a range of it read.
    Get,
    /// An object asked for.
    Head,
    /// An object deleted.
    Delete,
    /// A page of a listing, of objects, uploads or parts.
    List,
    /// A multipart upload opened, completed or aborted.
    Multipart,
    /// A part sent.
    Part,
}

const KINDS: usize = 7;

/// Requests by kind and bytes of bodies, counted as they are sent, so retries are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RequestCounts {
    /// Objects written at once.
    pub put: u64,
    /// Objects and ranges read.
    pub get: u64,
    /// Objects asked for.
    pub head: u64,
    /// Objects deleted.
    pub delete: u64,
    /// Pages of listings.
    pub list: u64,
    /// Multipart uploads opened, completed and aborted.
    pub multipart: u64,
    /// Parts sent.
    pub part: u64,
    /// How many of all these repeated a request that had failed.
    pub retries: u64,
    /// Bytes of bodies sent.
    pub bytes_out: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
}

impl RequestCounts {
    /// All requests together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.put + self.get + self.head + self.delete + self.list + self.multipart + self.part
    }
}

impl fmt::Display for RequestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests (put {}, part {}, multipart {}, get {}, head {}, list {}, delete {}; {} retries)",
            self.total(),
            self.put,
            self.part,
            self.multipart,
            self.get,
            self.head,
            self.list,
            self.delete,
            self.retries
        )
    }
}

/// The counters behind [`RequestCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    by_kind: [AtomicU64; KINDS],
    retries: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
}

impl Counters {
    /// One request goes out with a body of `bytes_out`.
    pub(crate) fn sent(&self, kind: RequestKind, bytes_out: u64, is_retry: bool) {
        self.by_kind[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
        if is_retry {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A body of `bytes_in` came back.
    pub(crate) fn received(&self, bytes_in: u64) {
        self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
    }

    /// The counts now.
    pub(crate) fn snapshot(&self) -> RequestCounts {
        let of = |kind: RequestKind| self.by_kind[kind as usize].load(Ordering::Relaxed);
        RequestCounts {
            put: of(RequestKind::Put),
            get: of(RequestKind::Get),
            head: of(RequestKind::Head),
            delete: of(RequestKind::Delete),
            list: of(RequestKind::List),
            multipart: of(RequestKind::Multipart),
            part: of(RequestKind::Part),
            retries: self.retries.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
        }
    }
}
