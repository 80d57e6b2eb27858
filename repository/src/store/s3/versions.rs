//! Versions: every one of them that a repository may want, or an error.

use super::{
    Core,
    failure::{Class, Failure},
    list::NO_KEY,
    retry::Request,
    trail::Trail,
};
use crate::store::{StoreError, requests::RequestKind, versions::ObjectVersion};
use aws_sdk_s3::{
    operation::list_object_versions::ListObjectVersionsOutput, primitives::DateTime,
    types::EncodingType,
};

/// More versions below one prefix than this are not gathered (about 250 bytes each): somebody fills the bucket.
const VERSIONS_MAX: usize = 1 << 20;

/// Bytes of their keys and ids.
const VERSIONS_BYTES_MAX: usize = 256 << 20;

/// Longest id of a version, in bytes, as S3 says.
const VERSION_ID_BYTES_MAX: usize = 1024;

/// Pages of one listing of versions.
const PAGES_MAX: usize = 1 << 14;

impl Core {
    pub(super) async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let request = Request::new(RequestKind::List, "listing versions of", prefix);
        let mut found: Vec<ObjectVersion> = Vec::new();
        let mut bytes = 0;
        let mut from: Option<(String, Option<String>)> = None;
        let mut trail = Trail::new(PAGES_MAX);
        loop {
            let answer = self
                .call(&request, || self.versions_once(prefix, from.clone()))
                .await
                .map_err(|gave_up| self.error(&request, gave_up))?
                .value;
            let known = found.len();
            self.take_versions(prefix, &answer, &mut found)?;
            bytes += found[known..]
                .iter()
                .map(|version| version.key.len() + version.version_id.len())
                .sum::<usize>();
            if bytes > VERSIONS_BYTES_MAX {
                let problem = format!("its keys have more than {VERSIONS_BYTES_MAX} bytes");
                return Err(bad_list(prefix, &problem));
            }
            if found.len() > VERSIONS_MAX {
                let problem = format!("there are more than {VERSIONS_MAX} versions");
                return Err(bad_list(prefix, &problem));
            }
            if answer.is_truncated() != Some(true) {
                // Stable: of each key, versions keep the server's order, the newest first.
                found.sort_by(|a, b| {
                    (&a.key, a.is_delete_marker).cmp(&(&b.key, b.is_delete_marker))
                });
                return Ok(found);
            }
            let next = answer.next_key_marker().map(|key| {
                let version = answer.next_version_id_marker().map(str::to_owned);
                (self.marker_key(&answer, key), version)
            });
            from = Some(trail.follow(prefix, next)?);
        }
    }

    /// A marker comes encoded like all keys, and is sent as it is.
    fn marker_key(&self, answer: &ListObjectVersionsOutput, key: &str) -> String {
        let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
        match self.listed_key("", key, is_encoded) {
            Some(relative) => self.url.full_key(&relative),
            None => key.to_owned(),
        }
    }

    async fn versions_once(
        &self,
        prefix: &str,
        from: Option<(String, Option<String>)>,
    ) -> Result<ListObjectVersionsOutput, Failure> {
        let mut list = self
            .client
            .list_object_versions()
            .bucket(&self.url.bucket)
            .encoding_type(EncodingType::Url)
            .prefix(self.url.full_key(prefix));
        if let Some((key, version)) = from {
            list = list.key_marker(key).set_version_id_marker(version);
        }
        let answer = list
            .send()
            .await
            .map_err(|error| Failure::from_sdk(&error))?;
        // An answer that is no listing at all parses as an empty one.
        if answer.is_truncated().is_none() && answer.name().is_none() {
            let text = "the answer is not a listing of versions";
            return Err(Failure::local(Class::Passing, false, text));
        }
        Ok(answer)
    }

    fn take_versions(
        &self,
        prefix: &str,
        answer: &ListObjectVersionsOutput,
        found: &mut Vec<ObjectVersion>,
    ) -> Result<(), StoreError> {
        let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let key = |given: Option<&str>| {
            self.listed_key(prefix, given.unwrap_or_default(), is_encoded)
                .ok_or_else(|| bad_list(prefix, NO_KEY))
        };
        let id = |given: Option<&str>| {
            let id = given.unwrap_or("null");
            let text = "it holds an id longer than the 1024 bytes that S3 allows";
            let fits = id.len() <= VERSION_ID_BYTES_MAX;
            fits.then(|| id.to_owned())
                .ok_or_else(|| bad_list(prefix, text))
        };
        for version in answer.versions() {
            found.push(ObjectVersion {
                key: key(version.key())?,
                version_id: id(version.version_id())?,
                size_bytes: version
                    .size()
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or(0),
                modified_at_s: version.last_modified().map_or(0, DateTime::secs),
                is_delete_marker: false,
                is_latest: version.is_latest() == Some(true),
            });
        }
        for marker in answer.delete_markers() {
            found.push(ObjectVersion {
                key: key(marker.key())?,
                version_id: id(marker.version_id())?,
                size_bytes: 0,
                modified_at_s: marker.last_modified().map_or(0, DateTime::secs),
                is_delete_marker: true,
                is_latest: marker.is_latest() == Some(true),
            });
        }
        Ok(())
    }
}

fn bad_list(prefix: &str, why: &str) -> StoreError {
    StoreError::Integrity {
        key: prefix.to_owned(),
        problem: format!("the listing of versions cannot be used: {why}"),
    }
}
