//! Listings, in pages of at most 1000 entries.

use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::{
    Bucket as BucketEntry, CommonPrefix, ETag, EncodingType, ListBucketsOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsV2Input, ListObjectsV2Output,
    ListPartsInput, ListPartsOutput, MultipartUpload, Object as ObjectEntry, ObjectStorageClass,
    Part as PartEntry, Timestamp,
};
use s3s::{S3Result, s3_error};

use super::Service;
use super::answer::{checksum_type, count, length, page_limit, set_checksum};
use crate::s3::checksum::Coverage;
use crate::s3::store::{Bucket, Object, Upload};

/// Where a listing goes on: behind a key, or behind every key with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    Key(String),
    Prefix(String),
}

impl Position {
    fn token(&self) -> String {
        let text = match self {
            Self::Key(key) => format!("k{key}"),
            Self::Prefix(prefix) => format!("p{prefix}"),
        };
        URL_SAFE_NO_PAD.encode(text)
    }

    fn from_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        if let Some(key) = text.strip_prefix('k') {
            return Some(Self::Key(key.to_owned()));
        }
        text.strip_prefix('p')
            .map(|prefix| Self::Prefix(prefix.to_owned()))
    }

    fn is_past(&self, key: &str) -> bool {
        match self {
            Self::Key(last) => key > last.as_str(),
            Self::Prefix(last) => key > last.as_str() && !key.starts_with(last.as_str()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Prefix(text) => text,
        }
    }
}

/// One page of keys.
#[derive(Debug, Default)]
struct Page<'a> {
    objects: Vec<(&'a String, &'a Object)>,
    prefixes: Vec<String>,
    next: Option<Position>,
}

fn page<'a>(
    bucket: &'a Bucket,
    prefix: &str,
    delimiter: &str,
    after: Option<&Position>,
    limit: usize,
) -> Page<'a> {
    let mut page = Page::default();
    let start = after.map_or("", Position::text).max(prefix);
    let mut last = None;
    for (key, object) in bucket
        .objects
        .range::<str, _>((Bound::Included(start), Bound::Unbounded))
    {
        if !key.starts_with(prefix) {
            break;
        }
        if after.is_some_and(|after| !after.is_past(key)) {
            continue;
        }
        let rest = &key[prefix.len()..];
        let cut = (!delimiter.is_empty())
            .then(|| rest.find(delimiter))
            .flatten();
        let group = cut.map(|cut| &key[..prefix.len() + cut + delimiter.len()]);
        if group.is_some_and(|group| page.prefixes.last().is_some_and(|known| known == group)) {
            continue;
        }
        if page.objects.len() + page.prefixes.len() == limit {
            page.next = last;
            return page;
        }
        if let Some(group) = group {
            page.prefixes.push(group.to_owned());
            last = Some(Position::Prefix(group.to_owned()));
        } else {
            page.objects.push((key, object));
            last = Some(Position::Key(key.clone()));
        }
    }
    page
}

impl Service {
    pub(super) fn list_buckets_now(&self) -> ListBucketsOutput {
        let state = self.store.lock();
        let names = state.buckets.keys();
        let buckets = names
            .map(|name| BucketEntry {
                name: Some(name.clone()),
                ..Default::default()
            })
            .collect();
        ListBucketsOutput {
            buckets: Some(buckets),
            ..Default::default()
        }
    }

    pub(super) fn list_objects_now(
        &self,
        input: ListObjectsV2Input,
    ) -> S3Result<ListObjectsV2Output> {
        let limit = page_limit(input.max_keys)?;
        let after = match &input.continuation_token {
            Some(token) => Some(Position::from_token(token).ok_or_else(|| {
                s3_error!(
                    InvalidArgument,
                    "The continuation token provided is incorrect"
                )
            })?),
            None => input.start_after.clone().map(Position::Key),
        };
        let encode = encoder(input.encoding_type.as_ref());
        let state = self.store.lock();
        let bucket = state.bucket(&input.bucket)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let page = page(
            bucket,
            prefix,
            input.delimiter.as_deref().unwrap_or_default(),
            after.as_ref(),
            limit,
        );
        let contents = page.objects.iter().map(|(key, object)| ObjectEntry {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            key: Some(encode(key)),
            last_modified: Some(Timestamp::from(object.modified)),
            size: Some(length(object.content.length())),
            storage_class: Some(ObjectStorageClass::from_static(
                ObjectStorageClass::STANDARD,
            )),
            ..Default::default()
        });
        let prefixes = page.prefixes.iter().map(|prefix| CommonPrefix {
            prefix: Some(encode(prefix)),
        });
        Ok(ListObjectsV2Output {
            contents: Some(contents.collect()),
            common_prefixes: Some(prefixes.collect()),
            key_count: Some(count(page.objects.len() + page.prefixes.len())),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_ref().map(Position::token),
            max_keys: Some(count(limit)),
            prefix: Some(encode(prefix)),
            delimiter: input.delimiter.as_deref().map(encode),
            start_after: input.start_after.as_deref().map(encode),
            continuation_token: input.continuation_token,
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..Default::default()
        })
    }

    pub(super) fn list_parts_now(&self, input: &ListPartsInput) -> S3Result<ListPartsOutput> {
        let limit = page_limit(input.max_parts)?;
        let state = self.store.lock();
        let upload = state
            .bucket(&input.bucket)?
            .upload(&input.key, &input.upload_id)?;
        let after = u16::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(u16::MAX);
        let mut rest = upload
            .parts
            .range((Bound::Excluded(after), Bound::Unbounded));
        let mut parts = Vec::new();
        for (number, part) in rest.by_ref().take(limit) {
            let mut entry = PartEntry {
                e_tag: Some(ETag::Strong(part.etag())),
                last_modified: Some(Timestamp::from(part.modified)),
                part_number: Some(i32::from(*number)),
                size: Some(length(part.content.length())),
                ..Default::default()
            };
            set_checksum!(entry, part.checksum.as_ref());
            parts.push(entry);
        }
        let is_truncated = rest.next().is_some();
        Ok(ListPartsOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            upload_id: Some(input.upload_id.clone()),
            checksum_algorithm: upload
                .algorithm
                .map(|algorithm| algorithm.name().to_owned().into()),
            checksum_type: upload.algorithm.map(|_| checksum_type(coverage(upload))),
            is_truncated: Some(is_truncated),
            max_parts: Some(count(limit)),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            part_number_marker: Some(i32::from(after)),
            parts: Some(parts),
            ..Default::default()
        })
    }

    pub(super) fn list_uploads_now(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let limit = page_limit(input.max_uploads)?;
        if input
            .delimiter
            .as_deref()
            .is_some_and(|delimiter| !delimiter.is_empty())
        {
            return Err(s3_error!(
                NotImplemented,
                "Uploads are listed without a delimiter"
            ));
        }
        let encode = encoder(input.encoding_type.as_ref());
        let state = self.store.lock();
        let bucket = state.bucket(&input.bucket)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let key_marker = input.key_marker.as_deref().unwrap_or_default();
        let id_marker = input.upload_id_marker.as_deref().unwrap_or_default();
        let mut all: Vec<(&String, &Upload)> = bucket.uploads.iter().collect();
        all.retain(|(id, upload)| {
            let key = upload.key.as_str();
            let past = key > key_marker
                || key == key_marker && !id_marker.is_empty() && id.as_str() > id_marker;
            key.starts_with(prefix) && past
        });
        all.sort_by(|(a_id, a), (b_id, b)| (&a.key, a_id).cmp(&(&b.key, b_id)));
        let is_truncated = all.len() > limit;
        all.truncate(limit);
        let last = all.last().filter(|_| is_truncated);
        let entries = all.iter().map(|(id, upload)| MultipartUpload {
            checksum_algorithm: upload
                .algorithm
                .map(|algorithm| algorithm.name().to_owned().into()),
            checksum_type: upload.algorithm.map(|_| checksum_type(coverage(upload))),
            initiated: Some(Timestamp::from(upload.initiated)),
            key: Some(encode(&upload.key)),
            upload_id: Some((*id).clone()),
            ..Default::default()
        });
        Ok(ListMultipartUploadsOutput {
            is_truncated: Some(is_truncated),
            max_uploads: Some(count(limit)),
            next_key_marker: last.map(|(_, upload)| encode(&upload.key)),
            next_upload_id_marker: last.map(|(id, _)| (*id).clone()),
            uploads: Some(entries.collect()),
            prefix: Some(encode(prefix)),
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            encoding_type: input.encoding_type,
            bucket: Some(input.bucket),
            ..Default::default()
        })
    }
}

fn coverage(upload: &Upload) -> Coverage {
    if upload.full_object {
        Coverage::FullObject
    } else {
        Coverage::Composite(upload.parts.len())
    }
}

/// How keys are written: as they are, or percent-encoded where the caller asked for it.
fn encoder(encoding: Option<&EncodingType>) -> fn(&str) -> String {
    fn percent(text: &str) -> String {
        let mut encoded = String::new();
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                    encoded.push(char::from(byte));
                }
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        encoded
    }
    if encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
        percent
    } else {
        str::to_owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::store::Content;
    use std::sync::Arc;
    use std::time::SystemTime;

    fn bucket(keys: &[&str]) -> Bucket {
        let mut bucket = Bucket::default();
        for key in keys {
            let object = Object {
                content: Content::default(),
                etag: String::new(),
                checksum: None,
                content_type: None,
                metadata: None,
                modified: SystemTime::UNIX_EPOCH,
            };
            bucket.objects.insert((*key).to_owned(), Arc::new(object));
        }
        bucket
    }

    /// Lists everything in pages of `limit`, going through the tokens.
    fn walk(bucket: &Bucket, prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut after: Option<Position> = None;
        loop {
            let page = page(bucket, prefix, delimiter, after.as_ref(), limit);
            assert!(page.objects.len() + page.prefixes.len() <= limit);
            found.extend(page.objects.iter().map(|(key, _)| (*key).clone()));
            found.extend(page.prefixes.iter().cloned());
            let Some(next) = page.next else { break };
            after = Position::from_token(&next.token());
            assert_eq!(after.as_ref(), Some(&next));
        }
        found.sort();
        found
    }

    #[test]
    fn every_page_size_finds_the_same() {
        let bucket = bucket(&["a", "b/1", "b/2", "b/c/3", "b0", "d/1", "e"]);
        for limit in 1..9 {
            assert_eq!(
                walk(&bucket, "", "", limit),
                ["a", "b/1", "b/2", "b/c/3", "b0", "d/1", "e"]
            );
            assert_eq!(walk(&bucket, "", "/", limit), ["a", "b/", "b0", "d/", "e"]);
            assert_eq!(walk(&bucket, "b/", "/", limit), ["b/1", "b/2", "b/c/"]);
            assert_eq!(walk(&bucket, "x", "/", limit), Vec::<String>::new());
        }
    }

    #[test]
    fn start_after_is_exclusive_and_tokens_are_checked() {
        let bucket = bucket(&["a", "b", "c"]);
        let page = page(&bucket, "", "", Some(&Position::Key("a".into())), 10);
        assert_eq!(page.objects.len(), 2);
        assert_eq!(Position::from_token("!"), None);
        assert_eq!(Position::from_token(&URL_SAFE_NO_PAD.encode("x1")), None);
    }

    #[test]
    fn keys_are_encoded_on_request() {
        let url = EncodingType::from_static(EncodingType::URL);
        assert_eq!(encoder(Some(&url))("a b/ü"), "a%20b/%C3%BC");
        assert_eq!(encoder(None)("a b"), "a b");
    }
}
