//! What goes wrong, as HTTP says it: the status of every error is chosen here, its body by the API that was called.

use std::{error::Error, marker::PhantomData};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tonic::{Code, Status};

/// How long a caller should wait before it asks again, in seconds, where the manager does not answer.
const RETRY_AFTER_SECONDS: u64 = 5;

/// An error of a call, whatever the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The status that is answered.
    pub(crate) status: StatusCode,
    /// What is wrong and what to do, in words.
    pub(crate) message: String,
    /// The manager's code, where the error is his: an API that has a status of its own for it looks here.
    pub(crate) code: Option<Code>,
    /// When to ask again.
    pub(crate) retry_after_seconds: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: None,
            retry_after_seconds: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} does not exist"))
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// The same with a time after which to ask again.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        // With a source it is not the manager's word: it is not there, or went away.
        let is_ours = status.source().is_some();
        let (code, message) = match is_ours {
            true => (Code::Unavailable, "the manager does not answer"),
            false => (status.code(), status.message()),
        };
        if is_ours {
            tracing::warn!(error = %status, "the manager does not answer");
        }
        let problem = Self {
            code: Some(code),
            ..Self::new(status_of(code), message)
        };
        match code {
            Code::Unavailable | Code::Cancelled | Code::Unknown => {
                problem.retry_after(RETRY_AFTER_SECONDS)
            }
            // Something else is under way for it, which is short as a rule.
            Code::Aborted => problem.retry_after(1),
            _ => problem,
        }
    }
}

/// The HTTP status of a manager's code.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        // It is the bucket that refuses the manager's credentials, not the manager the caller's.
        Code::Unauthenticated => StatusCode::BAD_GATEWAY,
        Code::ResourceExhausted => StatusCode::INSUFFICIENT_STORAGE,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        // The last is what a call is told that was cut off.
        Code::Unavailable | Code::Cancelled | Code::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// How an API writes its errors.
pub(crate) trait Form: Send + Sync + 'static {
    /// The answer with the problem's status; the header `Retry-After` is added by the caller of this.
    fn answer(problem: &Problem) -> Response;
}

/// A problem in the form of one API: what its handlers return.
#[derive(Debug)]
pub(crate) struct Fault<F>(pub(crate) Problem, PhantomData<fn() -> F>);

impl<F> From<Problem> for Fault<F> {
    fn from(problem: Problem) -> Self {
        Self(problem, PhantomData)
    }
}

impl<F> From<Status> for Fault<F> {
    fn from(status: Status) -> Self {
        Problem::from(status).into()
    }
}

impl<F: Form> IntoResponse for Fault<F> {
    fn into_response(self) -> Response {
        answer::<F>(&self.0)
    }
}

/// A problem in the form of an API.
pub(crate) fn answer<F: Form>(problem: &Problem) -> Response {
    let mut response = F::answer(problem);
    if let Some(seconds) = problem.retry_after_seconds {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_did_wrong_is_never_our_failure() {
        for code in [
            Code::InvalidArgument,
            Code::OutOfRange,
            Code::NotFound,
            Code::AlreadyExists,
            Code::Aborted,
            Code::FailedPrecondition,
            Code::PermissionDenied,
        ] {
            assert!(status_of(code).is_client_error(), "{code:?}");
        }
        let down = Problem::from(Status::unavailable("no manager"));
        assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(down.retry_after_seconds.is_some());
        assert_eq!(
            Problem::from(Status::unauthenticated("expired")).status,
            StatusCode::BAD_GATEWAY
        );
    }
}
