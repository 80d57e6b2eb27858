//! Deleting: of what keeps versions, all of them.

use super::{
    Core,
    failure::{Class, Failure},
    retry::{GaveUp, Request},
    versions::Wanted,
};
use crate::store::{
    StoreError,
    requests::RequestKind,
    versions::{ObjectVersion, Purged},
};

impl Core {
    /// See [`crate::store::ObjectStore::delete`], and [`Versions::hide`](crate::store::versions::Versions::hide).
    pub(super) async fn delete(&self, key: &str) -> Result<Purged, StoreError> {
        if !self.hide(key).await? {
            return Ok(Purged::Gone);
        }
        match self.delete_versions(key).await {
            Ok(()) => Ok(Purged::Gone),
            Err(error) => {
                tracing::warn!(
                    key,
                    error = &error as &dyn std::error::Error,
                    "the object is deleted, but the bucket keeps old versions of it"
                );
                Ok(Purged::Hidden)
            }
        }
    }

    /// A plain DELETE; whether the bucket keeps versions, and so only hid the object.
    async fn hide(&self, key: &str) -> Result<bool, StoreError> {
        let request = Request::new(RequestKind::Delete, "deleting", key);
        let delete = || async {
            let delete = self
                .client
                .delete_object()
                .bucket(&self.url.bucket)
                .key(self.url.full_key(key));
            delete
                .send()
                .await
                .map(|answer| answer.delete_marker() == Some(true))
                .map_err(|error| Failure::from_sdk(&error))
        };
        match self.call(&request, delete).await {
            Ok(done) => Ok(done.value),
            Err(gave_up) if gave_up.failure.class == Class::NoSuchKey => Ok(false),
            Err(gave_up) => Err(self.error(&request, gave_up)),
        }
    }

    /// Deletes all versions of an object that is hidden already. If one cannot be, the object stays hidden.
    async fn delete_versions(&self, key: &str) -> Result<(), StoreError> {
        let (markers, bodies) = self.own_versions(key).await?;
        for version in bodies.iter().chain(&markers) {
            self.delete_version(key, &version.version_id)
                .await
                .map_err(|(request, gave_up)| self.error(&request, gave_up))?;
        }
        Ok(())
    }

    /// See [`Versions::purge`]. Without a delete marker on the way: the object is never hidden in between.
    pub(super) async fn purge(&self, key: &str) -> Result<Purged, StoreError> {
        let (markers, bodies) = match self.own_versions(key).await {
            Ok(versions) => versions,
            // No such list, no versions.
            Err(StoreError::Unsupported { .. }) => {
                return self.delete(key).await;
            }
            Err(error) => return Err(error),
        };
        if bodies
            .iter()
            .chain(&markers)
            .all(|v| v.version_id == "null")
        {
            return self.delete(key).await;
        }
        let mut kept_until_s = None;
        for version in &bodies {
            let Err((request, gave_up)) = self.delete_version(key, &version.version_id).await
            else {
                continue;
            };
            match self.retention(key, &version.version_id).await {
                // A lock that has ended is not what kept it.
                Ok(Some(lock)) if lock.until_s > self.now_s().await? => {
                    kept_until_s = kept_until_s.max(Some(lock.until_s));
                }
                _ => return Err(self.error(&request, gave_up)),
            }
        }
        for marker in &markers {
            self.delete_version(key, &marker.version_id)
                .await
                .map_err(|(request, gave_up)| self.error(&request, gave_up))?;
        }
        Ok(kept_until_s.map_or(Purged::Gone, Purged::KeptUntil))
    }

    /// Delete markers, and versions with content.
    async fn own_versions(
        &self,
        key: &str,
    ) -> Result<(Vec<ObjectVersion>, Vec<ObjectVersion>), StoreError> {
        let all = self.versions(Wanted::Key(key)).await?;
        Ok(all
            .into_iter()
            .partition(|version| version.is_delete_marker))
    }

    async fn delete_version<'k>(
        &self,
        key: &'k str,
        version_id: &str,
    ) -> Result<(), (Request<'k>, GaveUp)> {
        let request = Request::new(RequestKind::Delete, "deleting a version of", key);
        let delete = || async {
            self.client
                .delete_object()
                .bucket(&self.url.bucket)
                .key(self.url.full_key(key))
                .version_id(version_id)
                .send()
                .await
                .map(drop)
                .map_err(|error| Failure::from_sdk(&error))
        };
        match self.call(&request, delete).await {
            Ok(_) => Ok(()),
            Err(gave_up) if gave_up.failure.class == Class::NoSuchKey => Ok(()),
            Err(gave_up) => Err((request, gave_up)),
        }
    }
}
