//! The trial behind [`EndpointReport`]: some twenty small requests below `probe/<random>/`, all removed again.

use std::fmt;

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept, context::BeforeTransmitInterceptorContextMut, dyn_dispatch_hint,
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{body::SdkBody, config_bag::ConfigBag};
use bytes::Bytes;
use futures::future::join_all;

use super::{
    Core,
    failure::Class,
    multipart::{PartManner, multipart_request, part_request},
    object::{Manner, put_request},
    retry::{GaveUp, Request},
};
use crate::store::{
    EndpointReport, Multipart, PartReceipt, PutMode, StoreError,
    probe::{BodyCheck, Conditional, UploadListing},
};

/// The ways to guard a body, the best first.
const CHECKS: [BodyCheck; 3] = [
    BodyCheck::Crc32c,
    BodyCheck::ContentMd5,
    BodyCheck::SignedSha256,
];
/// How many writers race for one key.
const RACERS: usize = 4;

/// Flips a bit of a body that was summed and signed already.
#[derive(Debug)]
pub(super) struct FlipBit;

#[dyn_dispatch_hint]
impl Intercept for FlipBit {
    fn name(&self) -> &'static str {
        "FlipBit"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.request_mut().body_mut();
        let mut bytes = body
            .bytes()
            .ok_or("only a body in memory can be damaged")?
            .to_vec();
        if let Some(first) = bytes.first_mut() {
            *first ^= 1;
        }
        *body = SdkBody::from(bytes);
        Ok(())
    }
}

/// What one trial showed.
enum Trial<T> {
    Works(T),
    /// The endpoint does not know it.
    Unknown,
}

impl Core {
    /// See [`crate::store::ObjectStore::probe`].
    pub(super) async fn probe(&self) -> Result<EndpointReport, StoreError> {
        let directory = format!("probe/{:032x}", rand::random::<u128>());
        let mut uploads = Vec::new();
        let result = self.probe_below(&directory, &mut uploads).await;
        self.clean(&directory, &uploads).await;
        let report = result?;
        self.adopt(&report);
        Ok(report)
    }

    async fn probe_below(
        &self,
        directory: &str,
        uploads: &mut Vec<Multipart>,
    ) -> Result<EndpointReport, StoreError> {
        let mut report = EndpointReport {
            put_check: self.probe_put(directory).await?,
            part_check: BodyCheck::ReadBack,
            whole_object_crc: false,
            conditional_put: Conditional::Rejected,
            conditional_complete: Conditional::Rejected,
            upload_listing: UploadListing::Unsupported,
        };
        report.conditional_put = self
            .probe_conditional_put(directory, report.put_check)
            .await?;
        let manner = self.probe_parts(directory, uploads).await?;
        report.part_check = manner.check;
        report.whole_object_crc = manner.whole_object_crc;
        report.conditional_complete = self.probe_complete(directory, manner, uploads).await?;
        report.upload_listing = self
            .probe_upload_listing(directory, manner, uploads)
            .await?;
        Ok(report)
    }

    /// The best check for which a good body is taken and a damaged one is not.
    async fn probe_put(&self, directory: &str) -> Result<BodyCheck, StoreError> {
        let body = Bytes::from_static(b"stockpot tries what this endpoint can");
        for check in CHECKS {
            let key = format!("{directory}/put-{check:?}");
            let manner = Manner {
                check,
                is_conditional: false,
                is_damaged: false,
                retention: None,
            };
            let good = self.try_put(&key, &body, manner).await?;
            let damaged = Manner {
                is_damaged: true,
                ..manner
            };
            if let Trial::Works(()) = good
                && let Trial::Unknown = self.try_put(&key, &body, damaged).await?
            {
                return Ok(check);
            }
        }
        Ok(BodyCheck::ReadBack)
    }

    async fn try_put(
        &self,
        key: &str,
        body: &Bytes,
        manner: Manner,
    ) -> Result<Trial<()>, StoreError> {
        let request = Request {
            is_damaged: manner.is_damaged,
            ..put_request(key, body)
        };
        match self
            .call(&request, || self.put_once(key, body, manner))
            .await
        {
            Ok(_) => Ok(Trial::Works(())),
            Err(gave_up) if manner.is_damaged && is_noticed(&gave_up) => Ok(Trial::Unknown),
            Err(gave_up) if is_unknown(&gave_up) => Ok(Trial::Unknown),
            Err(gave_up) => Err(self.error(&request, gave_up)),
        }
    }

    /// Several writers, one key: exactly one may succeed, and none after it.
    async fn probe_conditional_put(
        &self,
        directory: &str,
        check: BodyCheck,
    ) -> Result<Conditional, StoreError> {
        self.adopt(&EndpointReport {
            put_check: check,
            ..EndpointReport::complete()
        });
        let key = format!("{directory}/conditional");
        let race = (0..RACERS).map(|racer| {
            let body = Bytes::from(format!("writer {racer}"));
            self.put(&key, body, PutMode::IfAbsent)
        });
        let mut winners = 0;
        for result in join_all(race).await {
            match result {
                Ok(()) => winners += 1,
                Err(StoreError::AlreadyExists { .. }) => {}
                // An endpoint that does not know the header may refuse all or only the second of them.
                Err(StoreError::Unsupported { .. } | StoreError::Refused { .. }) => {
                    return Ok(Conditional::Rejected);
                }
                Err(error) => return Err(error),
            }
        }
        let late = self
            .put(&key, Bytes::from_static(b"late"), PutMode::IfAbsent)
            .await;
        match late {
            Err(StoreError::AlreadyExists { .. }) if winners == 1 => Ok(Conditional::Enforced),
            Ok(()) | Err(StoreError::AlreadyExists { .. }) => Ok(Conditional::Ignored),
            Err(StoreError::Unsupported { .. } | StoreError::Refused { .. }) => {
                Ok(Conditional::Rejected)
            }
            Err(error) => Err(error),
        }
    }

    /// The best check of parts for which a damaged part is refused and a good one can be completed.
    async fn probe_parts(
        &self,
        directory: &str,
        uploads: &mut Vec<Multipart>,
    ) -> Result<PartManner, StoreError> {
        let body = Bytes::from_static(b"a part");
        let manners = [
            (BodyCheck::Crc32c, true),
            (BodyCheck::Crc32c, false),
            (BodyCheck::ContentMd5, false),
            (BodyCheck::SignedSha256, false),
        ];
        for (check, whole_object_crc) in manners {
            let manner = PartManner {
                check,
                whole_object_crc,
                is_damaged: false,
            };
            let key = format!("{directory}/parts-{check:?}-{whole_object_crc}");
            let Trial::Works(upload) = self.try_create(&key, manner, uploads).await? else {
                continue;
            };
            let damaged = PartManner {
                is_damaged: true,
                ..manner
            };
            if let Trial::Works(_) = self.try_part(&upload, &body, damaged).await? {
                continue;
            }
            let Trial::Works(part) = self.try_part(&upload, &body, manner).await? else {
                continue;
            };
            if let Trial::Works(()) = self.try_complete(&upload, part, manner, false).await?
                && self
                    .head(&key)
                    .await
                    .is_ok_and(|head| head.meta.size_bytes == body.len() as u64)
            {
                return Ok(manner);
            }
        }
        Ok(PartManner {
            check: BodyCheck::ReadBack,
            whole_object_crc: false,
            is_damaged: false,
        })
    }

    async fn probe_complete(
        &self,
        directory: &str,
        manner: PartManner,
        uploads: &mut Vec<Multipart>,
    ) -> Result<Conditional, StoreError> {
        let key = format!("{directory}/complete");
        for is_second in [false, true] {
            let Trial::Works(upload) = self.try_create(&key, manner, uploads).await? else {
                return Ok(Conditional::Rejected);
            };
            let body = Bytes::from(format!("{is_second}"));
            let Trial::Works(part) = self.try_part(&upload, &body, manner).await? else {
                return Ok(Conditional::Rejected);
            };
            let request = multipart_request("completing", &key);
            let parts = [part];
            match self
                .call(&request, || {
                    self.complete_once(&upload, &parts, manner, true)
                })
                .await
            {
                Ok(_) if is_second => return Ok(Conditional::Ignored),
                Ok(_) => {}
                Err(gave_up) if gave_up.failure.class == Class::Precondition && is_second => {
                    return Ok(Conditional::Enforced);
                }
                Err(gave_up) if is_unknown(&gave_up) => return Ok(Conditional::Rejected),
                Err(gave_up) => return Err(self.error(&request, gave_up)),
            }
        }
        Ok(Conditional::Ignored)
    }

    async fn probe_upload_listing(
        &self,
        directory: &str,
        manner: PartManner,
        uploads: &mut Vec<Multipart>,
    ) -> Result<UploadListing, StoreError> {
        let key = format!("{directory}/listed");
        let Trial::Works(upload) = self.try_create(&key, manner, uploads).await? else {
            return Ok(UploadListing::Unsupported);
        };
        let ways = [
            (directory, true, UploadListing::ByPrefix),
            (directory, false, UploadListing::WholeBucket),
            (key.as_str(), true, UploadListing::ByKey),
        ];
        for (prefix, by_prefix, listing) in ways {
            match self.uploads(prefix, by_prefix).await {
                Ok(open) if open.contains(&upload) => return Ok(listing),
                Ok(_)
                | Err(
                    StoreError::Unsupported { .. }
                    | StoreError::Refused { .. }
                    | StoreError::AccessDenied { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(UploadListing::Unsupported)
    }

    async fn try_create(
        &self,
        key: &str,
        manner: PartManner,
        uploads: &mut Vec<Multipart>,
    ) -> Result<Trial<Multipart>, StoreError> {
        let request = multipart_request("opening a multipart upload of", key);
        match self.call(&request, || self.create_once(key, manner)).await {
            Ok(done) => {
                uploads.push(done.value.clone());
                Ok(Trial::Works(done.value))
            }
            Err(gave_up) if is_unknown(&gave_up) => Ok(Trial::Unknown),
            Err(gave_up) => Err(self.error(&request, gave_up)),
        }
    }

    async fn try_part(
        &self,
        upload: &Multipart,
        body: &Bytes,
        manner: PartManner,
    ) -> Result<Trial<PartReceipt>, StoreError> {
        let request = Request {
            is_damaged: manner.is_damaged,
            ..part_request(&upload.key, body)
        };
        match self
            .call(&request, || self.part_once(upload, 1, body, manner))
            .await
        {
            Ok(done) => Ok(Trial::Works(done.value)),
            Err(gave_up) if manner.is_damaged && is_noticed(&gave_up) => Ok(Trial::Unknown),
            Err(gave_up) if is_unknown(&gave_up) => Ok(Trial::Unknown),
            Err(gave_up) => Err(self.error(&request, gave_up)),
        }
    }

    async fn try_complete(
        &self,
        upload: &Multipart,
        part: PartReceipt,
        manner: PartManner,
        is_conditional: bool,
    ) -> Result<Trial<()>, StoreError> {
        let request = multipart_request("completing", &upload.key);
        let parts = [part];
        let complete = || self.complete_once(upload, &parts, manner, is_conditional);
        match self.call(&request, complete).await {
            Ok(_) => Ok(Trial::Works(())),
            Err(gave_up) if is_unknown(&gave_up) => Ok(Trial::Unknown),
            Err(gave_up) => Err(self.error(&request, gave_up)),
        }
    }

    /// Removes what the trial left. A failure here is only told: the trial's own result matters more.
    async fn clean(&self, directory: &str, uploads: &[Multipart]) {
        for upload in uploads {
            if let Err(error) = self.multipart_abort(upload).await {
                tell(directory, &error);
            }
        }
        match self.list(directory, None).await {
            Ok(page) => {
                for object in page.objects {
                    if let Err(error) = self.delete(&object.key).await {
                        tell(directory, &error);
                    }
                }
            }
            Err(error) => tell(directory, &error),
        }
    }
}

fn tell(directory: &str, error: &dyn fmt::Display) {
    tracing::warn!(directory, %error, "what the trial of the endpoint left could not be removed");
}

/// Whether the endpoint refused the form of a request, and not the requester.
fn is_unknown(gave_up: &GaveUp) -> bool {
    matches!(
        gave_up.failure.class,
        Class::Corrupted | Class::NotImplemented | Class::Refused | Class::Precondition
    )
}

/// Whether a damaged body was noticed: under a signature it may be called a wrong signature.
fn is_noticed(gave_up: &GaveUp) -> bool {
    is_unknown(gave_up) || gave_up.failure.code.as_deref() == Some("SignatureDoesNotMatch")
}
