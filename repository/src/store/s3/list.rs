//! Listings: whole, in order, or an error.

use std::sync::Arc;

use aws_sdk_s3::{operation::list_objects_v2::ListObjectsV2Output, primitives::DateTime};

use super::{
    Core,
    failure::{Class, Failure},
    retry::Request,
};
use crate::store::{ListPage, ObjectMeta, StoreError, requests::RequestKind};

impl Core {
    /// See [`crate::store::ObjectStore::list`]. A page starts after a key, not at a server's token: any server can
    /// go on from it, also after a restart.
    pub(super) async fn list(
        &self,
        prefix: &str,
        from: Option<&str>,
    ) -> Result<ListPage, StoreError> {
        let request = Request::new(RequestKind::List, "listing", prefix);
        let mut token: Option<Arc<str>> = None;
        loop {
            let answer = self
                .call(&request, || self.list_once(prefix, from, token.clone()))
                .await
                .map_err(|gave_up| self.error(&request, gave_up))?
                .value;
            let page = self.page(prefix, from, &answer)?;
            let next_token = answer.next_continuation_token();
            if page.objects.is_empty() && answer.is_truncated() == Some(true) {
                // A page of keys that were all deleted meanwhile: only the server's token leads on.
                let same = next_token == token.as_deref();
                token = next_token.filter(|_| !same).map(Arc::from);
                if token.is_none() {
                    return Err(bad_list(prefix, "it goes on, but does not say where"));
                }
                continue;
            }
            return Ok(page);
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

    fn page(
        &self,
        prefix: &str,
        from: Option<&str>,
        answer: &ListObjectsV2Output,
    ) -> Result<ListPage, StoreError> {
        let mut objects: Vec<ObjectMeta> = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let key = object.key().and_then(|key| self.url.relative_key(key));
            let Some(key) = key.filter(|key| key.starts_with(prefix)) else {
                return Err(bad_list(
                    prefix,
                    "it holds a key outside of what was asked for",
                ));
            };
            let before = objects.last().map(|last| last.key.as_str()).or(from);
            if before.is_some_and(|before| key <= before) {
                return Err(bad_list(prefix, "its keys do not ascend"));
            }
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            let Some(size_bytes) = size else {
                return Err(bad_list(prefix, "an object has no size"));
            };
            objects.push(ObjectMeta {
                key: key.to_owned(),
                size_bytes,
                modified_at_s: object.last_modified().map_or(0, DateTime::secs),
            });
        }
        let is_truncated = answer.is_truncated() == Some(true);
        let next = objects
            .last()
            .filter(|_| is_truncated)
            .map(|last| last.key.clone());
        Ok(ListPage { objects, next })
    }
}

fn bad_list(prefix: &str, why: &str) -> StoreError {
    StoreError::Integrity {
        key: prefix.to_owned(),
        problem: format!("the listing cannot be used: {why}"),
    }
}
