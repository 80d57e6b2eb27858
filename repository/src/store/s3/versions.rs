//! Versions and locks.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Core,
    failure::{Class, Failure},
    list::NO_KEY,
    retry::Request,
    trail::Trail,
};
use crate::store::{
    StoreError,
    requests::RequestKind,
    versions::{LockMode, LockSupport, ObjectVersion, Retention},
};
use aws_sdk_s3::{
    operation::list_object_versions::ListObjectVersionsOutput,
    primitives::{DateTime, DateTimeFormat},
    types::{
        EncodingType, ObjectLockEnabled, ObjectLockMode, ObjectLockRetention,
        ObjectLockRetentionMode,
    },
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept, context::BeforeDeserializationInterceptorContextRef, dyn_dispatch_hint,
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

/// More versions below one prefix than this are not gathered (about 250 bytes each): somebody fills the bucket.
const VERSIONS_MAX: usize = 1 << 20;

/// Bytes of their keys and ids.
const VERSIONS_BYTES_MAX: usize = 256 << 20;

/// Longest id of a version, in bytes, as S3 says.
const VERSION_ID_BYTES_MAX: usize = 1024;

/// Pages of one listing of versions.
const PAGES_MAX: usize = 1 << 14;

/// Takes the server's date from an answer.
#[derive(Debug, Clone, Default)]
struct ServerDate(Arc<Mutex<Option<i64>>>);

#[dyn_dispatch_hint]
impl Intercept for ServerDate {
    fn name(&self) -> &'static str {
        "ServerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context
            .response()
            .headers()
            .get("date")
            .and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.secs());
        Ok(())
    }
}

pub(super) fn sdk_mode(mode: LockMode) -> ObjectLockMode {
    match mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    }
}

impl Core {
    pub(super) async fn lock_support(&self) -> Result<LockSupport, StoreError> {
        let request = Request::new(
            RequestKind::Get,
            "asking for the Object Lock of",
            "the bucket",
        );
        let asked = self
            .call(&request, || async {
                self.client
                    .get_object_lock_configuration()
                    .bucket(&self.url.bucket)
                    .send()
                    .await
                    .map_err(|error| Failure::from_sdk(&error))
            })
            .await;
        match asked {
            Ok(done) => {
                let lock = done.value.object_lock_configuration;
                let is_on = lock
                    .as_ref()
                    .and_then(|lock| lock.object_lock_enabled())
                    .is_some_and(|enabled| *enabled == ObjectLockEnabled::Enabled);
                Ok(match lock {
                    Some(lock) if is_on => LockSupport::Enabled {
                        has_default: lock
                            .rule()
                            .and_then(|rule| rule.default_retention())
                            .is_some_and(|default| {
                                default.days().unwrap_or(0) > 0 || default.years().unwrap_or(0) > 0
                            }),
                    },
                    _ => LockSupport::Missing,
                })
            }
            Err(gave_up)
                if gave_up.failure.code.as_deref()
                    == Some("ObjectLockConfigurationNotFoundError")
                    || gave_up.failure.class == Class::NotImplemented =>
            {
                Ok(LockSupport::Missing)
            }
            Err(gave_up) => Err(self.error(&request, gave_up)),
        }
    }

    pub(super) async fn now_s(&self) -> Result<i64, StoreError> {
        let request = Request::new(RequestKind::Head, "asking for the date of", "the bucket");
        let date = ServerDate::default();
        self.call(&request, || async {
            self.client
                .head_bucket()
                .bucket(&self.url.bucket)
                .customize()
                .interceptor(date.clone())
                .send()
                .await
                .map(drop)
                .map_err(|error| Failure::from_sdk(&error))
        })
        .await
        .map_err(|gave_up| self.error(&request, gave_up))?;
        let date = *date.0.lock().unwrap_or_else(PoisonError::into_inner);
        date.ok_or_else(|| StoreError::Unsupported {
            endpoint: self.endpoint.clone(),
            what: "telling its date".to_owned(),
        })
    }

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

    pub(super) async fn retain(
        &self,
        key: &str,
        version_id: &str,
        retention: Retention,
    ) -> Result<(), StoreError> {
        let request = Request::new(RequestKind::Put, "locking", key);
        let mode = match retention.mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let lock = ObjectLockRetention::builder()
            .mode(mode)
            .retain_until_date(DateTime::from_secs(retention.until_s))
            .build();
        let put = || async {
            self.client
                .put_object_retention()
                .bucket(&self.url.bucket)
                .key(self.url.full_key(key))
                .version_id(version_id)
                .retention(lock.clone())
                .send()
                .await
                .map(drop)
                .map_err(|error| Failure::from_sdk(&error))
        };
        let Err(gave_up) = self.call(&request, put).await else {
            return Ok(());
        };
        // A lock is never made shorter: one that is longer already is refused, and is what was wanted.
        match self.retention(key, version_id).await {
            Ok(Some(there)) if there.covers(&retention) => Ok(()),
            _ => Err(self.error(&request, gave_up)),
        }
    }

    /// The lock of a version, if it has one. A HEAD is asked first: versitygw's answer to the other question (1.8.0) has
    /// another root element than S3's, which the SDK refuses.
    pub(super) async fn retention(
        &self,
        key: &str,
        version_id: &str,
    ) -> Result<Option<Retention>, StoreError> {
        let request = Request::new(RequestKind::Head, "asking for the lock of", key);
        let head = self
            .call(&request, || async {
                self.client
                    .head_object()
                    .bucket(&self.url.bucket)
                    .key(self.url.full_key(key))
                    .version_id(version_id)
                    .send()
                    .await
                    .map_err(|error| Failure::from_sdk(&error))
            })
            .await;
        if let Ok(done) = head
            && let (Some(mode), Some(until)) = (
                done.value.object_lock_mode(),
                done.value.object_lock_retain_until_date(),
            )
        {
            return Ok(Some(retention(*mode == ObjectLockMode::Compliance, until)));
        }
        self.asked_retention(key, version_id).await
    }

    async fn asked_retention(
        &self,
        key: &str,
        version_id: &str,
    ) -> Result<Option<Retention>, StoreError> {
        let request = Request::new(RequestKind::Get, "asking for the lock of", key);
        let asked = self
            .call(&request, || async {
                self.client
                    .get_object_retention()
                    .bucket(&self.url.bucket)
                    .key(self.url.full_key(key))
                    .version_id(version_id)
                    .send()
                    .await
                    .map_err(|error| Failure::from_sdk(&error))
            })
            .await;
        match asked {
            Ok(done) => Ok(done.value.retention().and_then(|lock| {
                let is_compliance = *lock.mode()? == ObjectLockRetentionMode::Compliance;
                Some(retention(is_compliance, lock.retain_until_date()?))
            })),
            Err(gave_up)
                if gave_up.failure.code.as_deref() == Some("NoSuchObjectLockConfiguration")
                    || gave_up.failure.class == Class::NoSuchKey =>
            {
                Ok(None)
            }
            Err(gave_up) => Err(self.error(&request, gave_up)),
        }
    }
}

fn retention(is_compliance: bool, until: &DateTime) -> Retention {
    Retention {
        mode: if is_compliance {
            LockMode::Compliance
        } else {
            LockMode::Governance
        },
        until_s: until.secs(),
    }
}

fn bad_list(prefix: &str, why: &str) -> StoreError {
    StoreError::Integrity {
        key: prefix.to_owned(),
        problem: format!("the listing of versions cannot be used: {why}"),
    }
}
