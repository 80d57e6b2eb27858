//! Whole objects: writing them, and making sure that they are what was written.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;

use super::{
    Core, checksum,
    failure::Failure,
    locks::sdk_mode,
    read::Extent,
    retry::{GaveUp, Request},
};
use crate::{
    format::crc32c::crc32c,
    store::{
        PutMode, StoreError,
        probe::{BodyCheck, Conditional},
        requests::RequestKind,
        versions::Retention,
    },
};

/// How one body is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) check: BodyCheck,
    /// `If-None-Match: *`.
    pub(super) is_conditional: bool,
    /// A bit is flipped after signing and summing, to see whether the server notices.
    pub(super) is_damaged: bool,
    /// A lock on what is written.
    pub(super) retention: Option<Retention>,
}

impl Core {
    /// See [`crate::store::ObjectStore::put`].
    pub(super) async fn put(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        self.put_with(key, body, mode, None).await.map(drop)
    }

    /// As [`put`](Self::put), perhaps with a lock; tells the version that was made, where the answer says it.
    pub(super) async fn put_with(
        &self,
        key: &str,
        body: Bytes,
        mode: PutMode,
        retention: Option<Retention>,
    ) -> Result<Option<String>, StoreError> {
        let abilities = self.known_abilities();
        let check = abilities
            .as_ref()
            .map_or(BodyCheck::Crc32c, |abilities| abilities.put_check);
        let is_enforced =
            abilities.is_none_or(|abilities| abilities.conditional_put == Conditional::Enforced);
        let if_absent = mode == PutMode::IfAbsent;
        if if_absent && !is_enforced {
            // The best that such an endpoint allows: two writers at the same moment are not told apart.
            match self.head(key).await {
                Ok(_) => {
                    return Err(StoreError::AlreadyExists {
                        key: key.to_owned(),
                    });
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let manner = Manner {
            check,
            is_conditional: if_absent && is_enforced,
            is_damaged: false,
            retention,
        };
        let request = put_request(key, &body);
        match self
            .call(&request, || self.put_once(key, &body, manner))
            .await
        {
            Ok(done) => {
                if check == BodyCheck::ReadBack {
                    self.compare(key, &body).await?;
                }
                Ok(done.value)
            }
            Err(gave_up) if if_absent && gave_up.was_ambiguous => {
                self.settle_put(&request, &body, gave_up).await?;
                Ok(None)
            }
            Err(gave_up) => Err(self.error(&request, gave_up)),
        }
    }

    /// Whether the object in place is the one whose answer was lost.
    async fn settle_put(
        &self,
        request: &Request<'_>,
        body: &Bytes,
        gave_up: GaveUp,
    ) -> Result<(), StoreError> {
        let extent = Extent::Whole {
            bytes_max: body.len(),
        };
        match self.get(request.key, extent).await {
            Ok(found) if found == *body => Ok(()),
            Ok(_) | Err(StoreError::TooLarge { .. }) => Err(StoreError::AlreadyExists {
                key: request.key.to_owned(),
            }),
            Err(_) => Err(self.error(request, gave_up)),
        }
    }

    async fn compare(&self, key: &str, body: &Bytes) -> Result<(), StoreError> {
        let extent = Extent::Whole {
            bytes_max: body.len(),
        };
        match self.get(key, extent).await {
            Ok(found) if found == *body => Ok(()),
            Ok(_) | Err(StoreError::TooLarge { .. }) => Err(StoreError::Integrity {
                key: key.to_owned(),
                problem: "what was written reads back differently".to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    /// One PUT. Tells the version that it made, in a bucket that keeps versions.
    pub(super) async fn put_once(
        &self,
        key: &str,
        body: &Bytes,
        manner: Manner,
    ) -> Result<Option<String>, Failure> {
        let mut put = self
            .client
            .put_object()
            .bucket(&self.url.bucket)
            .key(self.url.full_key(key))
            .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(body.clone()));
        match manner.check {
            BodyCheck::Crc32c => put = put.checksum_crc32_c(checksum::header(crc32c(body))),
            BodyCheck::ContentMd5 => put = put.content_md5(checksum::md5_header(body)),
            BodyCheck::SignedSha256 | BodyCheck::ReadBack => {}
        }
        if manner.is_conditional {
            put = put.if_none_match("*");
        }
        if let Some(lock) = manner.retention {
            put = put
                .object_lock_mode(sdk_mode(lock.mode))
                .object_lock_retain_until_date(DateTime::from_secs(lock.until_s));
        }
        let mut put = put.customize();
        if manner.check != BodyCheck::SignedSha256 {
            put = put.disable_payload_signing();
        }
        if manner.is_damaged {
            put = put.interceptor(super::probe::FlipBit);
        }
        put.send()
            .await
            .map(|done| done.version_id)
            .map_err(|error| Failure::from_sdk(&error))
    }
}

pub(super) fn put_request<'k>(key: &'k str, body: &Bytes) -> Request<'k> {
    Request {
        bytes_out: body.len() as u64,
        ..Request::new(RequestKind::Put, "writing", key)
    }
}
