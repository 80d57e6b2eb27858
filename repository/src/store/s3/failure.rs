//! What went wrong with one request, sorted by what to do about it.

use std::{error::Error, fmt, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::answers::AnswerTooLong;

/// Longest message taken from a server.
const MESSAGE_CHARS_MAX: usize = 300;

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It may pass by itself: connection, time-out, 5xx.
    Passing,
    /// The server asks for patience.
    Throttled,
    /// The body did not arrive as it was sent, or did not come back as it is stored.
    Corrupted,
    /// Credentials that were good and are no more.
    Expired,
    /// No credentials or wrong ones.
    Credentials,
    /// The source of credentials did not answer in time.
    CredentialsLate,
    /// No permission.
    Denied,
    /// No such key.
    NoSuchKey,
    /// No such bucket.
    NoSuchBucket,
    /// No such upload.
    NoSuchUpload,
    /// A condition did not hold.
    Precondition,
    /// The bucket is in another region.
    WrongRegion,
    /// The server's certificate is not trusted.
    Certificate,
    /// The server does not know this, or not in this form.
    NotImplemented,
    /// A range that the object does not have.
    Range,
    /// More than is read of an object.
    TooLarge {
        /// Bytes announced, or come so far.
        size_bytes: u64,
        /// Bytes that were allowed.
        limit_bytes: u64,
    },
    /// An answer without end: what it was going to say is not known, and asking again would bring as much.
    Endless,
    /// Anything else: final.
    Refused,
}

/// A failed request.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) class: Class,
    /// The request may have been carried out all the same.
    pub(super) is_ambiguous: bool,
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// Where the server says that the bucket is.
    pub(super) bucket_region: Option<String>,
    text: String,
}

impl Failure {
    /// A failure that no server reported.
    pub(super) fn local(class: Class, is_ambiguous: bool, text: impl Into<String>) -> Self {
        Self {
            class,
            is_ambiguous,
            status: None,
            code: None,
            retry_after: None,
            bucket_region: None,
            text: text.into(),
        }
    }

    /// Sorts what the SDK reports.
    pub(super) fn from_sdk<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(service) => {
                from_answer(service.raw(), service.err().code(), service.err().message())
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                // A proxy's page about a fault that passes is one, however long.
                let may_pass = status == 429 || status >= 500;
                let class = if !may_pass && find::<AnswerTooLong>(error).is_some() {
                    Class::Endless
                } else if (400..500).contains(&status) {
                    by_status(status)
                } else {
                    Class::Passing
                };
                let mut failure =
                    Self::local(class, true, format!("unreadable answer, {}", chain(error)));
                failure.status = Some(status);
                failure
            }
            SdkError::TimeoutError(_) => Self::local(Class::Passing, true, chain(error)),
            other => from_transport(other),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

fn from_answer(raw: &HttpResponse, code: Option<&str>, message: Option<&str>) -> Failure {
    let status = raw.status().as_u16();
    let header = |name: &str| raw.headers().get(name).map(str::to_owned);
    let class = code
        .and_then(|code| by_code(code, status))
        .unwrap_or_else(|| by_status(status));
    let mut text = format!("{status} {}", code.unwrap_or("without a code"));
    if let Some(message) = message {
        let printable = message
            .chars()
            .filter(|c| !c.is_control())
            .take(MESSAGE_CHARS_MAX);
        text.push_str(": ");
        text.extend(printable);
    }
    if let Some(id) = header("x-amz-request-id") {
        text.push_str(" (request ");
        text.extend(id.chars().take(64));
        text.push(')');
    }
    Failure {
        class,
        // A server that fails may fail after the deed.
        is_ambiguous: status >= 500,
        status: Some(status),
        code: code.map(str::to_owned),
        retry_after: header("retry-after")
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs),
        bucket_region: header("x-amz-bucket-region"),
        text,
    }
}

/// S3's error codes, <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>, and other servers' for the same.
fn by_code(code: &str, status: u16) -> Option<Class> {
    Some(match code {
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "ServiceUnavailable"
        | "TooManyRequestsException" => Class::Throttled,
        "InternalError"
        | "InternalFailure"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "RequestTimeout"
        | "RequestTimeTooSkewed"
        | "XMinioServerNotInitialized" => Class::Passing,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "IncompleteBody" => Class::Corrupted,
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired" => {
            Class::Expired
        }
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "NotSignedUp"
        | "MissingSecurityHeader"
        | "MissingAuthenticationToken" => Class::Credentials,
        // An object in an archive class: the others can be read.
        "InvalidObjectState" => Class::Refused,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "Forbidden" => Class::Denied,
        "NoSuchKey" | "NoSuchVersion" => Class::NoSuchKey,
        "NoSuchBucket" => Class::NoSuchBucket,
        "NoSuchUpload" => Class::NoSuchUpload,
        "PreconditionFailed" => Class::Precondition,
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => Class::WrongRegion,
        "NotImplemented" | "MethodNotAllowed" => Class::NotImplemented,
        "InvalidRange" => Class::Range,
        // The code of an answer that the SDK could not find one in.
        "NotFound" if status == 404 => Class::NoSuchKey,
        _ => return None,
    })
}

fn by_status(status: u16) -> Class {
    match status {
        301 | 307 | 308 => Class::WrongRegion,
        401 => Class::Credentials,
        403 => Class::Denied,
        404 => Class::NoSuchKey,
        405 | 501 => Class::NotImplemented,
        408 | 409 | 425 => Class::Passing,
        412 => Class::Precondition,
        416 => Class::Range,
        429 | 503 => Class::Throttled,
        500..=599 => Class::Passing,
        _ => Class::Refused,
    }
}

fn from_transport<E>(error: &SdkError<E, HttpResponse>) -> Failure
where
    E: Error + Send + Sync + 'static,
{
    let text = chain(error);
    match find::<CredentialsError>(error) {
        Some(CredentialsError::ProviderTimedOut(_)) => {
            return Failure::local(Class::CredentialsLate, false, text);
        }
        // It shows its parts as a programmer sees them.
        Some(CredentialsError::CredentialsNotLoaded(_)) => {
            let text = "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or have a profile in ~/.aws";
            return Failure::local(Class::Credentials, false, text);
        }
        Some(_) => return Failure::local(Class::Credentials, false, text),
        None => {}
    }
    if let Some(tls) = find::<rustls::Error>(error)
        && matches!(
            tls,
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
        )
    {
        return Failure::local(Class::Certificate, false, text);
    }
    match error {
        SdkError::ConstructionFailure(_) => Failure::local(Class::Refused, false, text),
        SdkError::DispatchFailure(dispatch) if dispatch.is_user() => {
            Failure::local(Class::Refused, false, text)
        }
        // Io, time-out and whatever hyper has no name for: nobody knows how far the request got.
        _ => Failure::local(Class::Passing, true, text),
    }
}

/// Walks the sources of an error, and into the errors that `std::io::Error` wraps without calling them a source.
fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The texts of an error and its sources, each once.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let line = source.to_string();
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_before_statuses() {
        assert_eq!(by_code("ExpiredToken", 400), Some(Class::Expired));
        assert_eq!(by_code("RequestTimeTooSkewed", 403), Some(Class::Passing));
        assert_eq!(by_code("SomethingNew", 400), None);
        assert_eq!(by_status(400), Class::Refused);
        assert_eq!(by_status(503), Class::Throttled);
    }

    #[test]
    fn sources_are_found_inside_io_errors() {
        let inner = rustls::Error::NoCertificatesPresented;
        let outer = std::io::Error::other(std::io::Error::other(inner));
        assert!(find::<rustls::Error>(&outer).is_some());
    }
}
