//! Small pieces that several answers are made of.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use s3s::dto::{ChecksumType, ETagCondition};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Result, StdError, s3_error};

use crate::s3::capabilities::Conditional;
use crate::s3::checksum::Coverage;
use crate::s3::store::Object;

/// Puts a checksum into the field that its algorithm has in an answer.
macro_rules! set_checksum {
    ($answer:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            let text = Some(checksum.encoded());
            match checksum.algorithm {
                $crate::s3::checksum::Algorithm::Crc32 => $answer.checksum_crc32 = text,
                $crate::s3::checksum::Algorithm::Crc32c => $answer.checksum_crc32c = text,
                $crate::s3::checksum::Algorithm::Crc64Nvme => $answer.checksum_crc64nvme = text,
                $crate::s3::checksum::Algorithm::Sha1 => $answer.checksum_sha1 = text,
                $crate::s3::checksum::Algorithm::Sha256 => $answer.checksum_sha256 = text,
            }
        }
    };
}

/// The text in the field that `algorithm` has in a request.
macro_rules! checksum_field {
    ($request:expr, $algorithm:expr) => {
        match $algorithm {
            $crate::s3::checksum::Algorithm::Crc32 => $request.checksum_crc32.as_deref(),
            $crate::s3::checksum::Algorithm::Crc32c => $request.checksum_crc32c.as_deref(),
            $crate::s3::checksum::Algorithm::Crc64Nvme => $request.checksum_crc64nvme.as_deref(),
            $crate::s3::checksum::Algorithm::Sha1 => $request.checksum_sha1.as_deref(),
            $crate::s3::checksum::Algorithm::Sha256 => $request.checksum_sha256.as_deref(),
        }
    };
}

pub(super) use {checksum_field, set_checksum};

/// The name of what a checksum covers.
pub(super) fn checksum_type(coverage: Coverage) -> ChecksumType {
    match coverage {
        Coverage::FullObject => ChecksumType::from_static(ChecksumType::FULL_OBJECT),
        Coverage::Composite(_) => ChecksumType::from_static(ChecksumType::COMPOSITE),
    }
}

/// A length as the `i64` that S3's model has for it.
pub(super) fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A count as the `i32` that S3's model has for it.
pub(super) fn count(items: usize) -> i32 {
    i32::try_from(items).unwrap_or(i32::MAX)
}

/// The limit of a page: what was asked for, at most 1000.
pub(super) fn page_limit(asked: Option<i32>) -> S3Result<usize> {
    let asked = usize::try_from(asked.unwrap_or(1000));
    let asked =
        asked.map_err(|_| s3_error!(InvalidArgument, "The page size must not be negative"))?;
    Ok(asked.min(1000))
}

/// Checks the conditions of a write against what is there, the lock being held.
pub(super) fn check_write(
    existing: Option<&Object>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    support: Conditional,
) -> S3Result<()> {
    if let Some(condition) = if_none_match {
        if support == Conditional::Rejected || !condition.is_any() {
            return Err(s3_error!(
                NotImplemented,
                "A header you provided implies functionality that is not implemented: If-None-Match"
            ));
        }
        if support == Conditional::Enforced && existing.is_some() {
            return Err(precondition_failed());
        }
    }
    if let Some(condition) = if_match {
        let Some(existing) = existing else {
            return Err(s3_error!(NoSuchKey, "The specified key does not exist."));
        };
        if !matches_etag(condition, existing) {
            return Err(precondition_failed());
        }
    }
    Ok(())
}

/// Whether `condition` names `object`.
pub(super) fn matches_etag(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

/// 412.
pub(super) fn precondition_failed() -> s3s::S3Error {
    s3_error!(
        PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold"
    )
}

/// The buffers of an object as a response's body.
#[derive(Debug)]
pub(super) struct SegmentStream {
    segments: VecDeque<Bytes>,
    remaining: usize,
}

impl SegmentStream {
    pub(super) fn new(segments: Vec<Bytes>) -> Self {
        let remaining = segments.iter().map(Bytes::len).sum();
        Self {
            segments: segments.into(),
            remaining,
        }
    }
}

impl Stream for SegmentStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        /// Buffers go out in pieces, as from a server that reads a disk.
        const PIECE_BYTES: usize = 256 * 1024;
        let Some(mut segment) = self.segments.pop_front() else {
            return Poll::Ready(None);
        };
        let piece = segment.split_to(segment.len().min(PIECE_BYTES));
        if !segment.is_empty() {
            self.segments.push_front(segment);
        }
        self.remaining -= piece.len();
        Poll::Ready(Some(Ok(piece)))
    }
}

impl ByteStream for SegmentStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.remaining)
    }
}
