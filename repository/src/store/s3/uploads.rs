//! Open uploads: given up for good, and listed.

use std::time::Duration;

use super::{
    Core,
    failure::{Class, Failure},
    multipart::{integrity, multipart_request},
    retry::Request,
    trail::Trail,
};
use crate::store::{Multipart, StoreError, probe::UploadListing, requests::RequestKind};

/// How often an upload is aborted until its parts are gone: a part that was under way may land after the first.
const ABORTS_MAX: u32 = 5;
/// Open uploads that are gathered at most: somebody fills the bucket.
const UPLOADS_MAX: usize = 1 << 18;
/// Bytes of their keys and ids.
const UPLOADS_BYTES_MAX: usize = 64 << 20;
/// Pages of one listing of them.
const PAGES_MAX: usize = 1 << 14;
/// Pause between two aborts.
const ABORT_PAUSE: Duration = Duration::from_millis(300);

impl Core {
    /// See [`crate::store::ObjectStore::multipart_abort`]. An abort may leave parts that were under way; it is
    /// repeated until the store no longer knows the upload.
    pub(super) async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError> {
        let request = multipart_request("aborting the upload of", &upload.key);
        for round in 1..=ABORTS_MAX {
            match self.call(&request, || self.abort_once(upload)).await {
                Ok(_) => {}
                Err(gave_up) if is_gone(gave_up.failure.class) => {}
                Err(gave_up) => return Err(self.error(&request, gave_up)),
            }
            let parts = Request::new(RequestKind::List, "listing the parts of", &upload.key);
            match self.call(&parts, || self.list_parts_once(upload)).await {
                Err(gave_up) if is_gone(gave_up.failure.class) => return Ok(()),
                // Nobody can look, or is allowed to: the abort's own answer has to do.
                Err(gave_up)
                    if matches!(gave_up.failure.class, Class::NotImplemented | Class::Denied) =>
                {
                    return Ok(());
                }
                Err(gave_up) => return Err(self.error(&parts, gave_up)),
                Ok(_) => tokio::time::sleep(ABORT_PAUSE * round).await,
            }
        }
        let failure = Failure::local(
            Class::Refused,
            false,
            "it is still listed after several aborts",
        );
        Err(StoreError::Refused {
            endpoint: self.endpoint.clone(),
            doing: format!("aborting the upload of {}", upload.key),
            source: Box::new(failure),
        })
    }

    async fn abort_once(&self, upload: &Multipart) -> Result<(), Failure> {
        self.client
            .abort_multipart_upload()
            .bucket(&self.url.bucket)
            .key(self.url.full_key(&upload.key))
            .upload_id(&upload.upload_id)
            .send()
            .await
            .map(drop)
            .map_err(|error| Failure::from_sdk(&error))
    }

    async fn list_parts_once(&self, upload: &Multipart) -> Result<(), Failure> {
        self.client
            .list_parts()
            .bucket(&self.url.bucket)
            .key(self.url.full_key(&upload.key))
            .upload_id(&upload.upload_id)
            .max_parts(1)
            .send()
            .await
            .map(drop)
            .map_err(|error| Failure::from_sdk(&error))
    }

    /// See [`crate::store::ObjectStore::multipart_list`].
    pub(super) async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        let listing = self
            .known_abilities()
            .map_or(UploadListing::ByPrefix, |abilities| {
                abilities.upload_listing
            });
        match listing {
            UploadListing::ByPrefix => self.uploads(prefix, true).await,
            UploadListing::WholeBucket => self.uploads(prefix, false).await,
            UploadListing::ByKey | UploadListing::Unsupported => Err(StoreError::Unsupported {
                endpoint: self.endpoint.clone(),
                what: "listing open multipart uploads".to_owned(),
            }),
        }
    }

    /// All pages of open uploads below `prefix`, the server filtering by it or not.
    pub(super) async fn uploads(
        &self,
        prefix: &str,
        by_prefix: bool,
    ) -> Result<Vec<Multipart>, StoreError> {
        let request = Request::new(RequestKind::List, "listing open uploads of", prefix);
        let mut found = Open::default();
        let mut marker: Option<(String, Option<String>)> = None;
        let mut trail = Trail::new(PAGES_MAX);
        loop {
            let list = || async {
                let mut list = self
                    .client
                    .list_multipart_uploads()
                    .bucket(&self.url.bucket);
                if by_prefix {
                    list = list.prefix(self.url.full_key(prefix));
                }
                if let Some((key, id)) = &marker {
                    list = list.key_marker(key).set_upload_id_marker(id.clone());
                }
                list.send().await.map_err(|error| Failure::from_sdk(&error))
            };
            let page = self
                .call(&request, list)
                .await
                .map_err(|gave_up| self.error(&request, gave_up))?
                .value;
            for upload in page.uploads() {
                let key = upload.key().and_then(|key| self.url.relative_key(key));
                let Some(key) = key.filter(|key| key.starts_with(prefix)) else {
                    continue;
                };
                if let Some(id) = upload.upload_id() {
                    found.take(prefix, key, id)?;
                }
            }
            if page.is_truncated() != Some(true) {
                return Ok(found.uploads);
            }
            let next = page.next_key_marker().map(|key| {
                (
                    key.to_owned(),
                    page.next_upload_id_marker().map(str::to_owned),
                )
            });
            marker = Some(trail.follow(prefix, next)?);
        }
    }
}

/// The open uploads that a listing has shown so far.
#[derive(Debug, Default)]
struct Open {
    uploads: Vec<Multipart>,
    bytes: usize,
}

impl Open {
    /// Takes one more, if there are not too many by then, of names that a server chooses.
    fn take(&mut self, prefix: &str, key: &str, upload_id: &str) -> Result<(), StoreError> {
        self.bytes += key.len() + upload_id.len();
        let problem = match () {
            () if self.uploads.len() >= UPLOADS_MAX => {
                format!("more than {UPLOADS_MAX} multipart uploads are open")
            }
            () if self.bytes > UPLOADS_BYTES_MAX => {
                format!(
                    "the names of the open multipart uploads have more than {UPLOADS_BYTES_MAX} bytes"
                )
            }
            () => {
                self.uploads.push(Multipart {
                    key: key.to_owned(),
                    upload_id: upload_id.to_owned(),
                });
                return Ok(());
            }
        };
        let problem = format!(
            "{problem}: somebody fills the bucket. A lifecycle rule that aborts multipart uploads after some days clears it"
        );
        Err(integrity(prefix, problem))
    }
}

fn is_gone(class: Class) -> bool {
    matches!(class, Class::NoSuchUpload | Class::NoSuchKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_not_gathered_without_end() {
        let mut open = Open::default();
        let long = "k".repeat(1 << 20);
        let taken = (0..100).take_while(|_| open.take("packs/", &long, "id").is_ok());
        assert_eq!(taken.count(), 63);
        assert_eq!(open.uploads.len(), 63);

        let mut open = Open::default();
        for _ in 0..UPLOADS_MAX {
            open.take("packs/", "k", "id").unwrap();
        }
        let error = open.take("packs/", "k", "id").unwrap_err();
        assert!(error.to_string().contains("lifecycle rule"), "{error}");
    }
}
