//! The gRPC code of every error, and the text that goes with it.
//!
//! The text is the whole chain of causes: here an error leaves the program. Details stay empty, as the
//! specification wants it (section "Error Scheme").

use std::error::Error;

use tonic::{Code, Status};

use crate::{mount::MountError, node::NodeError, request::RequestError};

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let code = match &error {
            RequestError::Missing { .. }
            | RequestError::Invalid { .. }
            | RequestError::UnsupportedCapability { .. }
            | RequestError::UnknownParameters { .. } => Code::InvalidArgument,
            RequestError::NoSuch { .. } => Code::NotFound,
            RequestError::CapacityRange { .. } => Code::OutOfRange,
            RequestError::Unreachable { .. } => Code::ResourceExhausted,
            RequestError::NotStaged { .. } => Code::FailedPrecondition,
        };
        Status::new(code, chain(&error))
    }
}

impl From<MountError> for Status {
    fn from(error: MountError) -> Self {
        let code = match &error {
            MountError::Flag { .. } => Code::InvalidArgument,
            MountError::OtherMount { .. } | MountError::Incompatible { .. } => Code::AlreadyExists,
            MountError::Busy { .. }
            | MountError::NoFileSystem { .. }
            | MountError::OtherContent { .. }
            | MountError::NotEmpty { .. }
            | MountError::WrongKind { .. } => Code::FailedPrecondition,
            MountError::Damaged { .. } => Code::DataLoss,
            MountError::Command(_) | MountError::Io { .. } | MountError::MountTable(_) => {
                Code::Internal
            }
        };
        Status::new(code, chain(&error))
    }
}

impl From<NodeError> for Status {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Status(status) => status,
            NodeError::Mount(error) => error.into(),
            NodeError::Request(error) => error.into(),
            NodeError::UnderWay { .. } | NodeError::Stopping => Status::aborted(error.to_string()),
            NodeError::Crashed => Status::internal(error.to_string()),
            NodeError::PublishedElsewhere { .. } => Status::failed_precondition(error.to_string()),
            NodeError::NotThere { .. } => Status::not_found(error.to_string()),
            NodeError::StillSmall { .. } => Status::internal(error.to_string()),
        }
    }
}

/// An error of the manager: its own codes are those of this interface, those of a broken connection are not.
pub(crate) fn from_manager(status: Status) -> Status {
    let transport = status.source().map(chain);
    match (status.code(), transport) {
        (_, Some(cause)) => Status::unavailable(format!("the manager does not answer: {cause}")),
        (Code::Unknown | Code::Cancelled | Code::DeadlineExceeded, None) => {
            Status::unavailable(format!("the manager did not finish: {}", status.message()))
        }
        (code, None) => Status::new(code, status.message()),
    }
}

/// The error that a volume or snapshot carries.
pub(crate) fn carried(error_code: u32, error: &str) -> Status {
    let code = i32::try_from(error_code).map_or(Code::Internal, Code::from_i32);
    match code {
        Code::Ok | Code::Unknown => Status::internal(error),
        code => Status::new(code, error),
    }
}

/// A paging token that the manager refused: the specification has a code of its own for that.
pub(crate) fn bad_token(status: Status, starting_token: &str) -> Status {
    if status.code() == Code::InvalidArgument && !starting_token.is_empty() {
        Status::aborted(status.message())
    } else {
        status
    }
}

/// A call that belongs to a capability which is not claimed.
pub(crate) fn not_claimed(rpc: &str) -> Status {
    Status::unimplemented(format!("{rpc} belongs to a capability that is not claimed"))
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carried_error_is_never_ok() {
        assert_eq!(carried(0, "x").code(), Code::Internal);
        assert_eq!(carried(9, "x").code(), Code::FailedPrecondition);
        assert_eq!(carried(u32::MAX, "x").code(), Code::Internal);
    }

    #[test]
    fn a_refused_token_is_aborted() {
        let refused = || Status::invalid_argument("bad token");
        assert_eq!(bad_token(refused(), "x").code(), Code::Aborted);
        assert_eq!(bad_token(refused(), "").code(), Code::InvalidArgument);
        assert_eq!(bad_token(Status::internal("x"), "x").code(), Code::Internal);
    }

    #[test]
    fn details_are_dropped() {
        let status = Status::with_details(Code::NotFound, "gone", vec![1, 2, 3].into());
        let passed = from_manager(status);
        assert_eq!((passed.code(), passed.message()), (Code::NotFound, "gone"));
        assert!(passed.details().is_empty());
    }
}
