//! One request, tried until it succeeds, fails for good, or the limits are used up.
//!
//! The SDK's own retries are off: ours know what the caller above can settle (a conditional write whose answer was
//! lost), renew credentials that were refused, and are bounded in number and in time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::{
    Core,
    credentials::Renewal,
    failure::{Class, Failure, chain},
    read::Extent,
};
use crate::store::{StoreError, requests::RequestKind};

/// How often a body that arrived damaged is sent or fetched again: a wire may flip a bit, not three times over.
const CORRUPTED_ATTEMPTS_MAX: u32 = 3;
/// How often credentials are renewed within one request.
const RENEWALS_MAX: u32 = 2;
/// Bodies smaller than this are sent before any answer can come.
const CUT_OFF_BYTES_MIN: u64 = 64 << 10;
/// How long a body may go or come, at most, without a word to whoever waits.
const TRANSFER_SILENT_MAX: Duration = Duration::from_secs(30);
/// How much of the longest pause it lasts at least. With the usual limits all of them then outlast the time after which a server that
/// refuses every connection is told of.
const PAUSE_LEAST: f64 = 0.25;
/// How long a server's Retry-After is heeded.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What is to be done, for counting, for time limits and for messages.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: RequestKind,
    /// In words, as in "access denied: reading x".
    pub(super) doing: &'static str,
    /// Key relative to the prefix, or the prefix listed.
    pub(super) key: &'a str,
    pub(super) bytes_out: u64,
    /// Bytes expected back, as far as known.
    pub(super) bytes_in: u64,
    /// The body is damaged on purpose, so sending it again proves nothing.
    pub(super) is_damaged: bool,
    /// How long a server may work on it without a word, besides what bytes may take.
    pub(super) work: Duration,
}

impl<'a> Request<'a> {
    /// A request without bodies worth counting.
    pub(super) fn new(kind: RequestKind, doing: &'static str, key: &'a str) -> Self {
        Self {
            kind,
            doing,
            key,
            bytes_out: 0,
            bytes_in: 0,
            is_damaged: false,
            work: Duration::ZERO,
        }
    }

    fn words(&self) -> String {
        format!("{} {}", self.doing, self.key)
    }
}

/// A request that succeeded.
#[derive(Debug)]
pub(super) struct Done<T> {
    pub(super) value: T,
    /// An earlier attempt may have been carried out too.
    pub(super) was_ambiguous: bool,
}

/// A request that was given up.
#[derive(Debug)]
pub(super) struct GaveUp {
    pub(super) failure: Failure,
    pub(super) attempts: u32,
    /// This or an earlier attempt may have been carried out.
    pub(super) was_ambiguous: bool,
}

impl Core {
    /// Sends a request until it is decided.
    pub(super) async fn call<T, F, Fut>(
        &self,
        request: &Request<'_>,
        attempt: F,
    ) -> Result<Done<T>, GaveUp>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let mut started = Instant::now();
        let mut attempts = 0;
        let mut renewals = 0;
        let mut was_ambiguous = false;
        let mut failing_since = None;
        loop {
            attempts += 1;
            // Waiting for one's turn is no failure: it uses up nothing of the time limit.
            let waiting_since = Instant::now();
            self.bandwidth
                .take(request.bytes_out, request.bytes_in)
                .await;
            started += waiting_since.elapsed();
            let sent_at = Instant::now();
            let failure = match self.attempt(request, attempts > 1, attempt()).await {
                Ok(value) => {
                    self.silence.heard();
                    return Ok(Done {
                        value,
                        was_ambiguous,
                    });
                }
                Err(failure) => self.explain(request, failure).await,
            };
            was_ambiguous |= failure.is_ambiguous;
            let pause = match self.judge(request, &failure, attempts, renewals) {
                Verdict::Final => None,
                Verdict::Again => Some(self.pause(&failure, attempts)),
                Verdict::RenewFirst => {
                    renewals += 1;
                    match self.credentials.renew(sent_at).await {
                        Ok(Renewal::Renewed) => Some(Duration::ZERO),
                        Ok(Renewal::Same) => None,
                        Err(error) => {
                            let text = format!("{failure}; renewing failed: {}", chain(&error));
                            let failure = Failure::local(Class::Credentials, false, text);
                            return Err(GaveUp {
                                failure,
                                attempts,
                                was_ambiguous,
                            });
                        }
                    }
                }
            };
            match pause.filter(|pause| started.elapsed() + *pause < self.limits.total_timeout) {
                None => {
                    if failure.status.is_some() {
                        self.silence.heard();
                    }
                    return Err(GaveUp {
                        failure,
                        attempts,
                        was_ambiguous,
                    });
                }
                Some(pause) => {
                    let since = *failing_since.get_or_insert(sent_at);
                    if since.elapsed() + pause >= self.limits.silent_after {
                        self.tell_silence(since, &failure.to_string());
                    }
                    tracing::debug!(
                        request = request.doing, key = request.key, attempts, ?pause,
                        error = %failure, "a request failed and is sent again"
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn attempt<T>(
        &self,
        request: &Request<'_>,
        is_retry: bool,
        attempt: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let _permit = self
            .in_flight
            .acquire()
            .await
            .map_err(|_| Failure::local(Class::Refused, false, "the store was closed"))?;
        self.counters
            .sent(request.kind, request.bytes_out, is_retry);
        let bytes = request.bytes_out + request.bytes_in;
        let transfer = Duration::from_secs(bytes / self.limits.bytes_per_second_min.max(1));
        let limit = self.limits.attempt_timeout + transfer + request.work;
        let began = Instant::now();
        let answering = async {
            tokio::pin!(attempt);
            let transfer = transfer.min(TRANSFER_SILENT_MAX);
            let patience = self.limits.silent_after + transfer + request.work;
            match tokio::time::timeout(patience, &mut attempt).await {
                Ok(answer) => answer,
                Err(_) => {
                    let what = format!("nothing for {} s", patience.as_secs());
                    self.tell_silence(began, &what);
                    attempt.await
                }
            }
        };
        match tokio::time::timeout(limit, answering).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::local(
                Class::Passing,
                true,
                format!("no complete answer within {} s", limit.as_secs_f32()),
            )),
        }
    }

    /// Says that the server does not answer, unless it was said or it answered another request since.
    fn tell_silence(&self, since: Instant, what: &str) {
        if self.silence.is_to_be_told(since) {
            tracing::warn!(
                endpoint = self.endpoint,
                answer = what,
                "the server does not answer usefully; it is tried again, each request for up to {} s",
                self.limits.total_timeout.as_secs()
            );
        }
    }

    /// A server that refuses a request with a large body may close the connection before all of it is sent, and its
    /// answer is lost with the connection. A request without a body is refused in so many words.
    async fn explain(&self, request: &Request<'_>, failure: Failure) -> Failure {
        let is_cut_off = failure.class == Class::Passing && failure.status.is_none();
        if !is_cut_off || request.bytes_out < CUT_OFF_BYTES_MIN {
            return failure;
        }
        let question = Request::new(RequestKind::Get, "asking why of", request.key);
        match self
            .attempt(
                &question,
                false,
                self.get_once(request.key, None, Extent::Range(0..1)),
            )
            .await
        {
            Err(mut reason)
                if matches!(
                    reason.class,
                    Class::Expired | Class::Credentials | Class::NoSuchBucket | Class::WrongRegion
                ) =>
            {
                reason.is_ambiguous = true;
                reason
            }
            _ => failure,
        }
    }

    fn judge(
        &self,
        request: &Request<'_>,
        failure: &Failure,
        attempts: u32,
        renewals: u32,
    ) -> Verdict {
        let attempts_max = match failure.class {
            Class::Corrupted if request.is_damaged => 1,
            Class::Corrupted => CORRUPTED_ATTEMPTS_MAX.min(self.limits.attempts),
            _ => self.limits.attempts,
        };
        if attempts >= attempts_max {
            return Verdict::Final;
        }
        match failure.class {
            Class::Passing | Class::Throttled | Class::Corrupted | Class::CredentialsLate => {
                Verdict::Again
            }
            // Keys that were rotated away are unknown to the server, not expired.
            Class::Expired | Class::Credentials
                if failure.status.is_some() && renewals < RENEWALS_MAX =>
            {
                Verdict::RenewFirst
            }
            _ => Verdict::Final,
        }
    }

    /// Jitter over a doubling pause, longer where the server asks for it.
    fn pause(&self, failure: &Failure, attempts: u32) -> Duration {
        let doubled = self
            .limits
            .pause_first
            .saturating_mul(1 << (attempts - 1).min(16));
        let throttled = if failure.class == Class::Throttled {
            2
        } else {
            1
        };
        let most = doubled.saturating_mul(throttled).min(self.limits.pause_max);
        let least = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        least + most.mul_f64(rand::random_range(PAUSE_LEAST..1.0))
    }

    /// What the caller is told.
    pub(super) fn error(&self, request: &Request<'_>, gave_up: GaveUp) -> StoreError {
        let GaveUp {
            failure, attempts, ..
        } = gave_up;
        let endpoint = self.endpoint.clone();
        let key = request.key.to_owned();
        match failure.class {
            Class::NoSuchKey | Class::NoSuchUpload => StoreError::NotFound { key },
            Class::Precondition => StoreError::AlreadyExists { key },
            Class::NoSuchBucket => StoreError::NoSuchBucket {
                bucket: self.url.bucket.clone(),
                endpoint,
            },
            Class::Denied => StoreError::AccessDenied {
                doing: request.words(),
                source: Box::new(failure),
            },
            Class::Expired | Class::Credentials | Class::CredentialsLate => {
                StoreError::Credentials {
                    endpoint,
                    source: Box::new(failure),
                }
            }
            Class::Certificate => StoreError::Certificate {
                endpoint,
                source: Box::new(failure),
            },
            Class::WrongRegion => StoreError::Config(self.wrong_region(&failure)),
            Class::NotImplemented => StoreError::Unsupported {
                endpoint,
                what: format!("{} ({failure})", request.words()),
            },
            Class::Corrupted | Class::Range => StoreError::Integrity {
                key,
                problem: failure.to_string(),
            },
            Class::Passing | Class::Throttled | Class::Endless => StoreError::Unavailable {
                endpoint,
                doing: request.words(),
                attempts,
                source: Box::new(failure),
            },
            Class::TooLarge {
                size_bytes,
                limit_bytes,
            } => StoreError::TooLarge {
                key,
                size_bytes,
                limit_bytes,
            },
            Class::Refused => StoreError::Refused {
                endpoint,
                doing: request.words(),
                source: Box::new(failure),
            },
        }
    }

    fn wrong_region(&self, failure: &Failure) -> String {
        let (bucket, region) = (&self.url.bucket, &self.region);
        match &failure.bucket_region {
            Some(right) => format!(
                "bucket {bucket} is in region {right}, not in {region}: set AWS_REGION or --region to it"
            ),
            None => format!(
                "bucket {bucket} is not in region {region}: set AWS_REGION or --region ({failure})"
            ),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Final,
    Again,
    RenewFirst,
}

#[cfg(test)]
mod tests {
    use super::PAUSE_LEAST;
    use crate::store::s3::Limits;

    #[test]
    fn who_waits_for_a_server_that_refuses_is_told_before_it_is_given_up() {
        let limits = Limits::default();
        let pauses = (0..limits.attempts - 1)
            .map(|doubled| (limits.pause_first * (1 << doubled)).min(limits.pause_max));
        let least = pauses.sum::<std::time::Duration>().mul_f64(PAUSE_LEAST);
        assert!(least > limits.silent_after, "{least:?}");
    }
}
