//! Whole objects and ranges of them: reading, and asking for size and sum.

use std::ops::Range;

use aws_sdk_s3::{
    operation::get_object::GetObjectOutput,
    primitives::{ByteStream, DateTime},
    types::ChecksumMode,
};
use bytes::Bytes;

use super::{
    Core,
    failure::{Class, Failure, chain},
    retry::Request,
};
use crate::store::{ObjectMeta, StoreError, probe::BodyCheck, requests::RequestKind};

/// Capacity of the buffers that large ranges are read into, in bytes; longer ranges have buffers of their own.
pub(super) const POOLED_BODY_SIZE: usize = 8 << 20;

/// Bodies from this size on are worth a buffer that was used before, in bytes: its pages are there already.
const POOLED_BODY_SIZE_MIN: usize = 1 << 20;

/// What of an object is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole {
        /// More than this is refused.
        bytes_max: usize,
    },
    /// These bytes, and no others.
    Range(Range<u64>),
}

/// How long a body may be.
#[derive(Debug, Clone, Copy)]
struct BodyLength {
    /// As announced or asked for; `None` where the answer does not say.
    exact: Option<u64>,
    /// For what is not announced, and for those who announce less than they send.
    max: u64,
    /// Its bytes were waited for before the request was sent.
    was_awaited: bool,
}

/// An object's size, and the CRC32C that the store keeps of it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) meta: ObjectMeta,
    pub(super) crc32c: Option<String>,
}

impl Core {
    /// See [`crate::store::ObjectStore::get`] and [`crate::store::ObjectStore::get_range`].
    pub(super) async fn get(&self, key: &str, extent: Extent) -> Result<Bytes, StoreError> {
        self.get_at(key, None, extent).await
    }

    /// As [`get`](Self::get), of a certain version.
    pub(super) async fn get_at(
        &self,
        key: &str,
        version_id: Option<&str>,
        extent: Extent,
    ) -> Result<Bytes, StoreError> {
        let bytes_in = match &extent {
            Extent::Range(range) if range.is_empty() => return Ok(Bytes::new()),
            Extent::Range(range) => range.end - range.start,
            Extent::Whole { .. } => 0,
        };
        let request = Request {
            bytes_in,
            ..Request::new(RequestKind::Get, "reading", key)
        };
        self.call(&request, || self.get_once(key, version_id, extent.clone()))
            .await
            .map(|done| done.value)
            .map_err(|gave_up| self.error(&request, gave_up))
    }

    pub(super) async fn get_once(
        &self,
        key: &str,
        version_id: Option<&str>,
        extent: Extent,
    ) -> Result<Bytes, Failure> {
        let mut get = self
            .client
            .get_object()
            .bucket(&self.url.bucket)
            .key(self.url.full_key(key))
            .set_version_id(version_id.map(str::to_owned));
        match &extent {
            // Some servers state the whole object's sum with a range of it, so sums are asked for with whole objects only.
            Extent::Range(range) => {
                get = get.range(format!("bytes={}-{}", range.start, range.end - 1));
            }
            Extent::Whole { .. } if self.keeps_crc32c() => {
                get = get.checksum_mode(ChecksumMode::Enabled);
            }
            Extent::Whole { .. } => {}
        }
        let answer = get
            .send()
            .await
            .map_err(|error| Failure::from_sdk(&error))?;
        let length = expected_length(&answer, &extent)?;
        self.read_body(answer.body, length).await
    }

    async fn read_body(
        &self,
        mut stream: ByteStream,
        length: BodyLength,
    ) -> Result<Bytes, Failure> {
        let capacity = length
            .exact
            .and_then(|exact| usize::try_from(exact).ok())
            .unwrap_or(0);
        let is_pooled = (POOLED_BODY_SIZE_MIN..=POOLED_BODY_SIZE).contains(&capacity);
        let mut body = if is_pooled {
            self.bodies.take()
        } else {
            Vec::with_capacity(capacity)
        };
        loop {
            match stream.try_next().await {
                Ok(Some(bytes)) => {
                    let size = body.len() as u64 + bytes.len() as u64;
                    check_come(size, length)?;
                    body.extend_from_slice(&bytes);
                }
                Ok(None) => break,
                Err(error) => {
                    let text = chain(&error);
                    // The SDK's error of a sum that does not match has no public type.
                    let is_sum = text.contains("checksum mismatch");
                    let class = if is_sum {
                        Class::Corrupted
                    } else {
                        Class::Passing
                    };
                    return Err(Failure::local(class, false, text));
                }
            }
        }
        self.counters.received(body.len() as u64);
        if !length.was_awaited {
            self.bandwidth.received(body.len() as u64);
        }
        match length.exact {
            Some(exact) if body.len() as u64 != exact => Err(Failure::local(
                Class::Passing,
                false,
                format!("the body ended after {} of {exact} bytes", body.len()),
            )),
            _ if is_pooled => Ok(self.bodies.lend(body)),
            _ => Ok(body.into()),
        }
    }

    /// Whether the endpoint is known to keep CRC32C sums, and so may be asked for them.
    pub(super) fn keeps_crc32c(&self) -> bool {
        self.known_abilities()
            .is_some_and(|abilities| abilities.put_check == BodyCheck::Crc32c)
    }

    /// Size and sum of an object. A missing bucket shows as a missing object: a HEAD's answer has no body to tell.
    pub(super) async fn head(&self, key: &str) -> Result<Head, StoreError> {
        let request = Request::new(RequestKind::Head, "asking for", key);
        let gave_up = match self.call(&request, || self.head_once(key)).await {
            Ok(done) => return Ok(done.value),
            Err(gave_up) => gave_up,
        };
        if !matches!(gave_up.failure.status, Some(400 | 403)) {
            return Err(self.error(&request, gave_up));
        }
        // Without a body nobody knows why. A GET of its first byte is refused with a reason, and one that is not
        // refused has cured what could be: a clock that was wrong, credentials that had expired.
        match self.get(key, Extent::Range(0..1)).await {
            Ok(_) | Err(StoreError::Integrity { .. }) => self
                .call(&request, || self.head_once(key))
                .await
                .map(|done| done.value)
                .map_err(|gave_up| self.error(&request, gave_up)),
            Err(reason) => Err(reason),
        }
    }

    async fn head_once(&self, key: &str) -> Result<Head, Failure> {
        let mut head = self
            .client
            .head_object()
            .bucket(&self.url.bucket)
            .key(self.url.full_key(key));
        if self.keeps_crc32c() {
            head = head.checksum_mode(ChecksumMode::Enabled);
        }
        let answer = head
            .send()
            .await
            .map_err(|error| Failure::from_sdk(&error))?;
        let size = answer
            .content_length()
            .and_then(|length| u64::try_from(length).ok());
        let Some(size_bytes) = size else {
            return Err(Failure::local(
                Class::Refused,
                false,
                "the answer has no Content-Length",
            ));
        };
        Ok(Head {
            meta: ObjectMeta {
                key: key.to_owned(),
                size_bytes,
                modified_at_s: answer.last_modified().map_or(0, DateTime::secs),
            },
            crc32c: answer.checksum_crc32_c().map(str::to_owned),
        })
    }
}

/// How long the body must be, and may be.
fn expected_length(answer: &GetObjectOutput, extent: &Extent) -> Result<BodyLength, Failure> {
    let range = match extent {
        Extent::Range(range) => range,
        Extent::Whole { bytes_max } => {
            let length = BodyLength {
                exact: answer
                    .content_length()
                    .and_then(|length| u64::try_from(length).ok()),
                max: *bytes_max as u64,
                was_awaited: false,
            };
            return match length.exact {
                Some(exact) if exact > length.max => Err(too_large(exact, length.max)),
                _ => Ok(length),
            };
        }
    };
    let asked = format!("bytes {}-{}/", range.start, range.end - 1);
    let given = answer.content_range().unwrap_or("none");
    if !given.starts_with(&asked) {
        let text = format!(
            "bytes {}..{} were asked for, the answer has {given}",
            range.start, range.end
        );
        return Err(Failure::local(Class::Range, false, text));
    }
    let length = range.end - range.start;
    Ok(BodyLength {
        exact: Some(length),
        max: length,
        was_awaited: true,
    })
}

/// Whether so much of a body may have come.
fn check_come(size_bytes: u64, length: BodyLength) -> Result<(), Failure> {
    match length.exact {
        Some(exact) if size_bytes > exact => Err(Failure::local(
            Class::Corrupted,
            false,
            "the body is longer than announced",
        )),
        None if size_bytes > length.max => Err(too_large(size_bytes, length.max)),
        _ => Ok(()),
    }
}

fn too_large(size_bytes: u64, limit_bytes: u64) -> Failure {
    let class = Class::TooLarge {
        size_bytes,
        limit_bytes,
    };
    let text = format!("{size_bytes} bytes are more than the limit of {limit_bytes}");
    Failure::local(class, false, text)
}
