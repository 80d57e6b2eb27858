//! Object Lock: whether a bucket has it, locks on versions, and the date that they count from.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Core,
    failure::{Class, Failure},
    retry::Request,
};
use crate::store::{
    StoreError,
    requests::RequestKind,
    versions::{LockMode, LockSupport, Retention},
};
use aws_sdk_s3::{
    primitives::{DateTime, DateTimeFormat},
    types::{ObjectLockEnabled, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode},
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
