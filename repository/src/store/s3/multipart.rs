//! Multipart uploads: nothing is taken for done before the store has said so in a way that can be believed.

use std::time::Duration;

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;

use super::{
    Core, checksum,
    failure::{Class, Failure},
    read::Extent,
    retry::Request,
};
use crate::{
    format::crc32c::crc32c,
    store::{
        Multipart, PartReceipt, StoreError, check_receipts, probe::BodyCheck, requests::RequestKind,
    },
};

/// How long a server may put an upload's parts together before it says anything; some copy them.
const COMPLETION_MAX: Duration = Duration::from_secs(60);

/// How the parts of one upload are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartManner {
    pub(super) check: BodyCheck,
    pub(super) whole_object_crc: bool,
    /// A bit is flipped after signing and summing, to see whether the server notices.
    pub(super) is_damaged: bool,
}

impl Core {
    fn part_manner(&self) -> PartManner {
        let abilities = self.known_abilities();
        PartManner {
            check: abilities
                .as_ref()
                .map_or(BodyCheck::Crc32c, |abilities| abilities.part_check),
            whole_object_crc: abilities.is_some_and(|abilities| abilities.whole_object_crc),
            is_damaged: false,
        }
    }

    /// See [`crate::store::ObjectStore::multipart_create`]. Where an answer was lost, the upload that it told of is found
    /// and aborted: keys are never used twice, so any other upload of this key is ours.
    pub(super) async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError> {
        let manner = self.part_manner();
        let request = multipart_request("opening a multipart upload of", key);
        let done = self
            .call(&request, || self.create_once(key, manner))
            .await
            .map_err(|gave_up| self.error(&request, gave_up))?;
        if done.was_ambiguous {
            self.abort_others(&done.value).await;
        }
        Ok(done.value)
    }

    pub(super) async fn create_once(
        &self,
        key: &str,
        manner: PartManner,
    ) -> Result<Multipart, Failure> {
        let mut create = self
            .client
            .create_multipart_upload()
            .bucket(&self.url.bucket)
            .key(self.url.full_key(key));
        if manner.check == BodyCheck::Crc32c {
            create = create.checksum_algorithm(ChecksumAlgorithm::Crc32C);
            if manner.whole_object_crc {
                create = create.checksum_type(ChecksumType::FullObject);
            }
        }
        let answer = create
            .send()
            .await
            .map_err(|error| Failure::from_sdk(&error))?;
        match answer.upload_id() {
            Some(id) if !id.is_empty() => Ok(Multipart {
                key: key.to_owned(),
                upload_id: id.to_owned(),
            }),
            _ => Err(Failure::local(
                Class::Passing,
                true,
                "the answer names no upload",
            )),
        }
    }

    async fn abort_others(&self, ours: &Multipart) {
        let open = match self.uploads(&ours.key, true).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(key = ours.key, %error, "an upload whose answer was lost could not be looked for");
                return;
            }
        };
        for other in open
            .iter()
            .filter(|open| open.key == ours.key && *open != ours)
        {
            if let Err(error) = self.multipart_abort(other).await {
                tracing::warn!(key = ours.key, %error, "an upload whose answer was lost stays open");
            }
        }
    }

    /// See [`crate::store::ObjectStore::multipart_put`].
    pub(super) async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        let manner = self.part_manner();
        let request = part_request(&upload.key, &body);
        self.call(&request, || self.part_once(upload, number, &body, manner))
            .await
            .map(|done| done.value)
            .map_err(|gave_up| self.error(&request, gave_up))
    }

    pub(super) async fn part_once(
        &self,
        upload: &Multipart,
        number: u32,
        body: &Bytes,
        manner: PartManner,
    ) -> Result<PartReceipt, Failure> {
        let crc32c = crc32c(body);
        let sum = checksum::header(crc32c);
        let mut part = self
            .client
            .upload_part()
            .bucket(&self.url.bucket)
            .key(self.url.full_key(&upload.key))
            .upload_id(&upload.upload_id)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(body.clone()));
        match manner.check {
            BodyCheck::Crc32c => part = part.checksum_crc32_c(&sum),
            BodyCheck::ContentMd5 => part = part.content_md5(checksum::md5_header(body)),
            BodyCheck::SignedSha256 | BodyCheck::ReadBack => {}
        }
        let mut part = part.customize();
        if manner.check != BodyCheck::SignedSha256 {
            part = part.disable_payload_signing();
        }
        if manner.is_damaged {
            part = part.interceptor(super::probe::FlipBit);
        }
        let answer = part
            .send()
            .await
            .map_err(|error| Failure::from_sdk(&error))?;
        if answer
            .checksum_crc32_c()
            .is_some_and(|stated| stated != sum)
        {
            return Err(Failure::local(
                Class::Corrupted,
                true,
                "the store states another CRC32C",
            ));
        }
        let etag = answer.e_tag().unwrap_or_default().to_owned();
        if etag.is_empty() {
            return Err(Failure::local(
                Class::Passing,
                true,
                "the answer has no ETag",
            ));
        }
        Ok(PartReceipt {
            number,
            size_bytes: body.len() as u64,
            etag,
            crc32c,
        })
    }

    /// See [`crate::store::ObjectStore::multipart_complete`]. Tells the version that was made, where the answer says it.
    pub(super) async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<Option<String>, StoreError> {
        check_receipts(&upload.key, parts)?;
        let manner = self.part_manner();
        let request = Request {
            work: COMPLETION_MAX,
            ..multipart_request("completing", &upload.key)
        };
        let result = self
            .call(&request, || {
                self.complete_once(upload, parts, manner, false)
            })
            .await;
        let version = match result {
            Ok(done) => {
                self.confirm(&upload.key, parts).await?;
                done.value
            }
            Err(gave_up) => {
                let is_open_question = gave_up.was_ambiguous
                    || matches!(
                        gave_up.failure.class,
                        Class::NoSuchUpload | Class::NoSuchKey | Class::Denied
                    );
                let is_there = is_open_question && self.confirm(&upload.key, parts).await.is_ok();
                if !is_there {
                    return Err(match gave_up.failure.code.as_deref() {
                        Some(
                            "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall" | "NoSuchUpload",
                        ) => integrity(
                            &upload.key,
                            format!("it could not be completed, {}", gave_up.failure),
                        ),
                        _ => self.error(&request, gave_up),
                    });
                }
                None
            }
        };
        if manner.check == BodyCheck::ReadBack {
            self.read_parts_back(&upload.key, parts).await?;
        }
        Ok(version)
    }

    pub(super) async fn complete_once(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
        manner: PartManner,
        is_conditional: bool,
    ) -> Result<Option<String>, Failure> {
        let is_summed = manner.check == BodyCheck::Crc32c;
        let named = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
                .e_tag(&part.etag)
                .set_checksum_crc32_c(is_summed.then(|| checksum::header(part.crc32c)))
                .build()
        });
        let list = CompletedMultipartUpload::builder()
            .set_parts(Some(named.collect()))
            .build();
        let mut complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.url.bucket)
            .key(self.url.full_key(&upload.key))
            .upload_id(&upload.upload_id)
            .multipart_upload(list);
        if is_summed && manner.whole_object_crc {
            complete = complete
                .checksum_crc32_c(checksum::full_object(parts))
                .checksum_type(ChecksumType::FullObject);
        }
        if is_conditional {
            complete = complete.if_none_match("*");
        }
        let answer = complete
            .send()
            .await
            .map_err(|error| Failure::from_sdk(&error))?;
        match answer.checksum_crc32_c() {
            Some(stated) if checksum::contradicts(stated, parts) => Err(Failure::local(
                Class::Refused,
                true,
                format!("the completed object has another CRC32C ({stated})"),
            )),
            _ => Ok(answer.version_id),
        }
    }

    /// Asks for the object: its size, and its CRC32C where one is stated, have to be those of the parts.
    async fn confirm(&self, key: &str, parts: &[PartReceipt]) -> Result<(), StoreError> {
        let expected: u64 = parts.iter().map(|part| part.size_bytes).sum();
        let head = self.head(key).await.map_err(|error| match error {
            StoreError::NotFound { .. } => {
                integrity(key, "it was completed, but is not there".to_owned())
            }
            error => error,
        })?;
        if head.meta.size_bytes != expected {
            return Err(integrity(
                key,
                format!(
                    "it has {} bytes, its parts had {expected}",
                    head.meta.size_bytes
                ),
            ));
        }
        match head.crc32c {
            Some(stated) if checksum::contradicts(&stated, parts) => Err(integrity(
                key,
                format!("it has another CRC32C than its parts ({stated})"),
            )),
            _ => Ok(()),
        }
    }

    async fn read_parts_back(&self, key: &str, parts: &[PartReceipt]) -> Result<(), StoreError> {
        let mut offset = 0;
        for part in parts {
            let end = offset + part.size_bytes;
            let bytes = self.get(key, Extent::Range(offset..end)).await?;
            if crc32c(&bytes) != part.crc32c {
                return Err(integrity(
                    key,
                    format!("bytes {offset}..{end} read back differently"),
                ));
            }
            offset = end;
        }
        Ok(())
    }
}

pub(super) fn integrity(key: &str, problem: String) -> StoreError {
    StoreError::Integrity {
        key: key.to_owned(),
        problem,
    }
}

pub(super) fn multipart_request<'k>(doing: &'static str, key: &'k str) -> Request<'k> {
    Request::new(RequestKind::Multipart, doing, key)
}

pub(super) fn part_request<'k>(key: &'k str, body: &Bytes) -> Request<'k> {
    Request {
        bytes_out: body.len() as u64,
        ..Request::new(RequestKind::Part, "sending a part of", key)
    }
}
