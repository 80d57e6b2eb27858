//! Versions: every one of them that a repository may want, or an error.

use super::{
    Core,
    failure::{Class, Failure},
    list::NO_KEY,
    retry::Request,
    trail::Trail,
};
use crate::{
    format::object_keys::is_ours,
    store::{FLOODED, StoreError, requests::RequestKind, versions::ObjectVersion},
};
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

/// Whose versions are asked for. Others are passed over before anything is counted: whoever fills the bucket with them is not to
/// keep us from ours.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// Those of one object.
    Key(&'a str),
    /// Those of all objects whose keys start like this and are of the form that a repository gives.
    Below(&'a str),
}

impl<'a> Wanted<'a> {
    /// What is asked for: the server knows prefixes only.
    fn prefix(self) -> &'a str {
        match self {
            Self::Key(key) => key,
            Self::Below(prefix) => prefix,
        }
    }

    fn has(self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => key == wanted,
            Self::Below(_) => is_ours(key),
        }
    }

    /// Whether nothing wanted comes any more behind a page with so many others: keys ascend, and of all that start with a key it is
    /// the first itself.
    fn ends_with(self, others: u64) -> bool {
        matches!(self, Self::Key(_)) && others > 0
    }
}

impl Core {
    /// See [`crate::store::versions::Versions::versions`].
    pub(super) async fn versions(
        &self,
        wanted: Wanted<'_>,
    ) -> Result<Vec<ObjectVersion>, StoreError> {
        let prefix = wanted.prefix();
        let request = Request::new(RequestKind::List, "listing versions of", prefix);
        let mut gathered = Gathered::default();
        let mut from: Option<(String, Option<String>)> = None;
        let mut trail = Trail::new(PAGES_MAX);
        loop {
            let answer = self
                .call(&request, || self.versions_once(prefix, from.clone()))
                .await
                .map_err(|gave_up| self.error(&request, gave_up))?
                .value;
            let others_before = gathered.others;
            self.take_versions(wanted, &answer, &mut gathered)?;
            let is_over = wanted.ends_with(gathered.others - others_before);
            if is_over || answer.is_truncated() != Some(true) {
                return Ok(gathered.sorted(wanted));
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

    /// Takes what is wanted of a page.
    fn take_versions(
        &self,
        wanted: Wanted<'_>,
        answer: &ListObjectVersionsOutput,
        gathered: &mut Gathered,
    ) -> Result<(), StoreError> {
        let prefix = wanted.prefix();
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
            let size = version.size().and_then(|size| u64::try_from(size).ok());
            let version = ObjectVersion {
                key: key(version.key())?,
                version_id: id(version.version_id())?,
                size_bytes: size.unwrap_or(0),
                modified_at_s: version.last_modified().map_or(0, DateTime::secs),
                is_delete_marker: false,
                is_latest: version.is_latest() == Some(true),
            };
            gathered.take(wanted, version)?;
        }
        for marker in answer.delete_markers() {
            let marker = ObjectVersion {
                key: key(marker.key())?,
                version_id: id(marker.version_id())?,
                size_bytes: 0,
                modified_at_s: marker.last_modified().map_or(0, DateTime::secs),
                is_delete_marker: true,
                is_latest: marker.is_latest() == Some(true),
            };
            gathered.take(wanted, marker)?;
        }
        Ok(())
    }
}

/// What a listing has shown so far.
#[derive(Debug, Default)]
struct Gathered {
    versions: Vec<ObjectVersion>,
    /// Bytes of their keys and ids.
    bytes: usize,
    /// How many were passed over.
    others: u64,
}

impl Gathered {
    fn take(&mut self, wanted: Wanted<'_>, version: ObjectVersion) -> Result<(), StoreError> {
        if !wanted.has(&version.key) {
            self.others += 1;
            return Ok(());
        }
        self.bytes += version.key.len() + version.version_id.len();
        self.versions.push(version);
        let problem = match () {
            () if self.bytes > VERSIONS_BYTES_MAX => {
                format!("its keys have more than {VERSIONS_BYTES_MAX} bytes")
            }
            () if self.versions.len() > VERSIONS_MAX => {
                format!("there are more than {VERSIONS_MAX} versions")
            }
            () => return Ok(()),
        };
        let problem = format!("{problem}: {FLOODED}");
        Err(bad_list(wanted.prefix(), &problem))
    }

    /// Keys ascending, of each the delete markers last.
    fn sorted(mut self, wanted: Wanted<'_>) -> Vec<ObjectVersion> {
        if self.others > 0
            && let Wanted::Below(prefix) = wanted
        {
            tracing::warn!(
                prefix,
                versions = self.others,
                "there are versions of objects here that do not belong to the repository: they are passed over"
            );
        }
        // Stable: of each key, versions keep the server's order, the newest first.
        self.versions
            .sort_by(|a, b| (&a.key, a.is_delete_marker).cmp(&(&b.key, b.is_delete_marker)));
        self.versions
    }
}

fn bad_list(prefix: &str, why: &str) -> StoreError {
    StoreError::Integrity {
        key: prefix.to_owned(),
        problem: format!("the listing of versions cannot be used: {why}"),
    }
}
