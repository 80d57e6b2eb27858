//! Whole objects: put, get, head, delete.

use std::sync::Arc;
use std::time::SystemTime;

use s3s::dto::{
    ChecksumMode, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
    DeletedObject, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{S3Request, S3Result, s3_error};

use super::Service;
use super::answer::{
    SegmentStream, check_write, checksum_type, length, matches_etag, precondition_failed,
    set_checksum,
};
use super::receive::receive;
use crate::s3::store::{Content, Object};

impl Service {
    pub(super) async fn put(&self, req: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
        let S3Request {
            input,
            headers,
            trailing_headers,
            ..
        } = req;
        self.store.lock().bucket(&input.bucket)?;
        let capabilities = self.capabilities();
        let received = receive(
            &headers,
            input.body,
            trailing_headers.as_ref(),
            capabilities,
        )
        .await?;
        let etag = hex::encode(received.md5);
        let object = Object {
            content: Content::new(vec![received.data]),
            etag: etag.clone(),
            checksum: received.checksum.clone(),
            content_type: input.content_type,
            metadata: input.metadata,
            modified: SystemTime::now(),
        };
        {
            // The condition and the write are one step: nobody else holds the state in between.
            let mut state = self.store.lock();
            let bucket = state.bucket_mut(&input.bucket)?;
            let existing = bucket.objects.get(&input.key).map(AsRef::as_ref);
            let support = capabilities.put_if_none_match;
            check_write(
                existing,
                input.if_match.as_ref(),
                input.if_none_match.as_ref(),
                support,
            )?;
            bucket.objects.insert(input.key, Arc::new(object));
        }
        let mut output = PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        };
        output.checksum_type = received
            .checksum
            .as_ref()
            .map(|checksum| checksum_type(checksum.coverage));
        set_checksum!(output, received.checksum);
        Ok(output)
    }

    pub(super) fn get(&self, input: &GetObjectInput) -> S3Result<GetObjectOutput> {
        if input.part_number.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "Reading by part number is not implemented"
            ));
        }
        let object = self.readable(
            &input.bucket,
            &input.key,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
        )?;
        let total = object.content.length();
        let range = input.range.map(|range| range.check(total)).transpose()?;
        let whole = range.is_none();
        let range = range.unwrap_or(0..total);
        let mut output = GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(length(range.end - range.start)),
            content_range: (!whole)
                .then(|| format!("bytes {}-{}/{total}", range.start, range.end - 1)),
            content_type: object.content_type.clone(),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: object.metadata.clone(),
            ..Default::default()
        };
        if whole && wants_checksum(input.checksum_mode.as_ref()) {
            output.checksum_type = object
                .checksum
                .as_ref()
                .map(|checksum| checksum_type(checksum.coverage));
            set_checksum!(output, object.checksum.as_ref());
        }
        output.body = Some(StreamingBlob::new(SegmentStream::new(
            object.content.slice(range),
        )));
        Ok(output)
    }

    pub(super) fn head(&self, input: &HeadObjectInput) -> S3Result<HeadObjectOutput> {
        let object = self.readable(
            &input.bucket,
            &input.key,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
        )?;
        let mut output = HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(length(object.content.length())),
            content_type: object.content_type.clone(),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: object.metadata.clone(),
            ..Default::default()
        };
        if wants_checksum(input.checksum_mode.as_ref()) {
            output.checksum_type = object
                .checksum
                .as_ref()
                .map(|checksum| checksum_type(checksum.coverage));
            set_checksum!(output, object.checksum.as_ref());
        }
        Ok(output)
    }

    fn readable(
        &self,
        bucket: &str,
        key: &str,
        if_match: Option<&ETagCondition>,
        if_none_match: Option<&ETagCondition>,
    ) -> S3Result<Arc<Object>> {
        let state = self.store.lock();
        let object = state.bucket(bucket)?.objects.get(key);
        let object =
            object.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))?;
        if if_match.is_some_and(|condition| !matches_etag(condition, object)) {
            return Err(precondition_failed());
        }
        if if_none_match.is_some_and(|condition| matches_etag(condition, object)) {
            return Err(s3_error!(NotModified));
        }
        Ok(Arc::clone(object))
    }

    pub(super) fn delete(&self, input: &DeleteObjectInput) -> S3Result<DeleteObjectOutput> {
        let mut state = self.store.lock();
        let bucket = state.bucket_mut(&input.bucket)?;
        if let Some(condition) = &input.if_match
            && let Some(object) = bucket.objects.get(&input.key)
            && !matches_etag(condition, object)
        {
            return Err(precondition_failed());
        }
        bucket.objects.remove(&input.key);
        Ok(DeleteObjectOutput::default())
    }

    pub(super) fn delete_many(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<DeleteObjectsOutput> {
        let S3Request { input, headers, .. } = req;
        super::receive::refuse_unsupported(&headers, self.capabilities())?;
        let has_checksum = super::receive::checksum_header(&headers)?.is_some()
            || headers.contains_key("x-amz-trailer");
        if !headers.contains_key("content-md5") && !has_checksum {
            return Err(s3_error!(
                InvalidRequest,
                "Missing required header for this request: Content-MD5"
            ));
        }
        if input.delete.objects.is_empty() || input.delete.objects.len() > 1000 {
            return Err(s3_error!(
                MalformedXML,
                "A request deletes 1 to 1000 objects"
            ));
        }
        let quiet = input.delete.quiet.unwrap_or(false);
        let mut state = self.store.lock();
        let bucket = state.bucket_mut(&input.bucket)?;
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            bucket.objects.remove(&object.key);
            if !quiet {
                deleted.push(DeletedObject {
                    key: Some(object.key),
                    ..Default::default()
                });
            }
        }
        Ok(DeleteObjectsOutput {
            deleted: Some(deleted),
            ..Default::default()
        })
    }
}

fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}
