//! Listings: whole, in order, or an error.
//!
//! Keys are asked for percent-encoded: one with control characters, whoever put it there, does not survive XML. Some
//! servers do not encode all, and replace what XML cannot hold: such keys are out of order then, and none of ours.

use std::sync::Arc;

use aws_sdk_s3::{
    operation::list_objects_v2::ListObjectsV2Output, primitives::DateTime, types::EncodingType,
};

use super::{
    Core,
    failure::{Class, Failure},
    retry::Request,
    trail::Trail,
};
use crate::store::{ListPage, ObjectMeta, StoreError, requests::RequestKind};

/// Longest key that S3 has, in bytes.
pub(super) const KEY_BYTES_MAX: usize = 1024;

/// What is said of a key that cannot be.
pub(super) const NO_KEY: &str =
    "it holds a key outside of what was asked for, or longer than the 1024 bytes that S3 allows";

/// What is said of a page that shows no key to go on from.
const NO_WAY_ON: &str = "a whole page of it is keys that the server cannot write down, with control characters in them; none is a \
    repository's: delete those objects";

/// Pages without a key that are passed over until there is one with some.
const EMPTY_PAGES_MAX: usize = 4096;

impl Core {
    /// See [`crate::store::ObjectStore::list`]. A page starts after a key, not at a server's token: any server can
    /// go on from it, also after a restart.
    pub(super) async fn list(
        &self,
        prefix: &str,
        from: Option<&str>,
    ) -> Result<ListPage, StoreError> {
        let request = Request::new(RequestKind::List, "listing", prefix);
        let mut trail = Trail::new(EMPTY_PAGES_MAX);
        let mut token: Option<Arc<str>> = None;
        loop {
            let answer = self
                .call(&request, || self.list_once(prefix, from, token.clone()))
                .await
                .map_err(|gave_up| self.error(&request, gave_up))?
                .value;
            let page = self.page(prefix, from, &answer)?;
            if !page.objects.is_empty() || answer.is_truncated() != Some(true) {
                return Ok(page);
            }
            // A page of keys that were all deleted meanwhile: only the server's token leads on.
            let next = answer.next_continuation_token().map(Arc::from);
            token = Some(trail.follow(prefix, next)?);
        }
    }

    async fn list_once(
        &self,
        prefix: &str,
        from: Option<&str>,
        token: Option<Arc<str>>,
    ) -> Result<ListObjectsV2Output, Failure> {
        let mut list = self
            .client
            .list_objects_v2()
            .bucket(&self.url.bucket)
            .encoding_type(EncodingType::Url)
            .prefix(self.url.full_key(prefix));
        match (token, from) {
            (Some(token), _) => list = list.continuation_token(token.as_ref()),
            (None, Some(from)) => list = list.start_after(self.url.full_key(from)),
            (None, None) => {}
        }
        let answer = list
            .send()
            .await
            .map_err(|error| Failure::from_sdk(&error))?;
        // An answer that is no listing at all parses as an empty one.
        if answer.is_truncated().is_none()
            && answer.key_count().is_none()
            && answer.name().is_none()
        {
            return Err(Failure::local(
                Class::Passing,
                false,
                "the answer is not a listing",
            ));
        }
        Ok(answer)
    }

    /// A key as it was given, relative to the prefix of the repository; `None` if it is not below `prefix`, or too long.
    pub(super) fn listed_key(&self, prefix: &str, given: &str, is_encoded: bool) -> Option<String> {
        let relative = |full: String| {
            if full.len() > KEY_BYTES_MAX {
                return None;
            }
            let key = self.url.relative_key(&full)?;
            key.starts_with(prefix).then(|| key.to_owned())
        };
        if !is_encoded {
            return relative(given.to_owned());
        }
        // S3 writes a space as "+" and a plus sign as "%2B"; other servers leave the plus sign alone, and a prefix may have one.
        decode(given, true)
            .and_then(relative)
            .or_else(|| decode(given, false).and_then(relative))
    }

    fn page(
        &self,
        prefix: &str,
        from: Option<&str>,
        answer: &ListObjectsV2Output,
    ) -> Result<ListPage, StoreError> {
        let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let mut objects: Vec<ObjectMeta> = Vec::with_capacity(answer.contents().len());
        let mut before = from.map(str::to_owned);
        for object in answer.contents() {
            let given = object.key().unwrap_or_default();
            let key = self.listed_key(prefix, given, is_encoded);
            let Some(key) = key else {
                return Err(bad_list(prefix, NO_KEY));
            };
            if is_exact(&key) {
                if before
                    .as_deref()
                    .is_some_and(|before| key.as_str() <= before)
                {
                    return Err(bad_list(prefix, "its keys do not ascend"));
                }
                before = Some(key.clone());
            }
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            let Some(size_bytes) = size else {
                return Err(bad_list(prefix, "an object has no size"));
            };
            objects.push(ObjectMeta {
                key,
                size_bytes,
                modified_at_s: object.last_modified().map_or(0, DateTime::secs),
            });
        }
        let next = match answer.is_truncated() {
            Some(true) if !objects.is_empty() => {
                match before.filter(|last| Some(last.as_str()) != from) {
                    Some(last) => Some(last),
                    None => return Err(bad_list(prefix, NO_WAY_ON)),
                }
            }
            _ => None,
        };
        Ok(ListPage { objects, next })
    }
}

/// Whether it is the key itself, in its place: U+FFFD stands for what a server could not write down.
fn is_exact(key: &str) -> bool {
    !key.contains(char::REPLACEMENT_CHARACTER)
}

/// Undoes percent-encoding; what is none stays as it is. `None` for what is no UTF-8 then: no key is that.
fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%')
            .then(|| after.split_at_checked(2))
            .flatten()
            .and_then(|(digits, after)| Some((hex::decode(digits).ok()?.first().copied()?, after)));
        let (byte, after) = match code {
            Some(decoded) => decoded,
            None if *first == b'+' && plus_is_space => (b' ', after),
            None => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn bad_list(prefix: &str, why: &str) -> StoreError {
    StoreError::Integrity {
        key: prefix.to_owned(),
        problem: format!("the listing cannot be used: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded() {
        for (given, expected) in [
            ("snapshots/a", Some("snapshots/a")),
            ("a%0Ab%09%7f", Some("a\nb\t\u{7f}")),
            ("caf%C3%A9%2Ba+b", Some("caf\u{e9}+a b")),
            ("100%", Some("100%")),
            ("%zz%+1", Some("%zz% 1")),
            ("%ff", None),
        ] {
            assert_eq!(decode(given, true).as_deref(), expected, "{given}");
        }
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
    }
}
