//! The gRPC code of every error: chosen here and nowhere else, as the CSI specification uses them.
//!
//! The text is the whole chain of causes: here an error leaves the program.

use std::io::ErrorKind;

use stockpot_connector::ConnectorError;
use stockpot_driver::{DriverError, remote::NodeError};
use stockpot_repository::{RepositoryError, store::StoreError};
use tonic::{Code, Status};

use crate::{
    ManagerError,
    catalog::{CatalogError, RecordedError},
    error::chain,
    profile::ProfileError,
    streams::StreamError,
};

impl From<ManagerError> for Status {
    fn from(error: ManagerError) -> Self {
        let code = code_of(&error);
        if matches!(code, Code::Internal | Code::DataLoss | Code::Unknown) {
            tracing::error!(error = chain(&error), "an operation failed");
        }
        Status::new(code, chain(&error))
    }
}

/// The error as it is kept in the catalog.
pub(crate) fn record(error: &ManagerError) -> RecordedError {
    RecordedError {
        code: code_of(error).into(),
        text: chain(error),
    }
}

fn code_of(error: &ManagerError) -> Code {
    match error {
        ManagerError::NotFound(_) => Code::NotFound,
        ManagerError::AlreadyExists { .. } => Code::AlreadyExists,
        ManagerError::InvalidArgument(_) => Code::InvalidArgument,
        ManagerError::FailedPrecondition(_) | ManagerError::NoProfileLeads { .. } => {
            Code::FailedPrecondition
        }
        ManagerError::OutOfRange(_) => Code::OutOfRange,
        ManagerError::Busy(_) | ManagerError::Cancelled => Code::Aborted,
        ManagerError::NoAnswer { .. }
        | ManagerError::NotReady(_)
        | ManagerError::PoolUnusable { .. } => Code::Unavailable,
        ManagerError::GaveUp { source, .. } => code_of(source),
        ManagerError::Recorded(recorded) => Code::from_i32(recorded.code),
        ManagerError::SecretFile { .. } => Code::FailedPrecondition,
        ManagerError::Profile(error) => of_profile(error),
        ManagerError::Stream(error) => of_stream(error),
        ManagerError::Driver(error) => of_driver(error),
        ManagerError::Connector(error) => of_connector(error),
        ManagerError::Repository(error) => of_repository(error),
        ManagerError::Socket(_)
        | ManagerError::StorageNode(_)
        | ManagerError::Server(_)
        | ManagerError::Internal(_)
        | ManagerError::Config(_) => Code::Internal,
        ManagerError::Catalog(CatalogError::Transition { .. }) => Code::FailedPrecondition,
        ManagerError::Catalog(_) => Code::Internal,
    }
}

fn of_profile(error: &ProfileError) -> Code {
    match error {
        ProfileError::Read { .. } => Code::Internal,
        ProfileError::Exists { .. } => Code::AlreadyExists,
        ProfileError::Changed { .. } => Code::Aborted,
        ProfileError::TooMany { .. } => Code::ResourceExhausted,
        ProfileError::Linked { .. } => Code::FailedPrecondition,
        // A folder that is mounted read-only, or another user's.
        ProfileError::Write { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Code::FailedPrecondition,
            ErrorKind::StorageFull => Code::ResourceExhausted,
            _ => Code::Internal,
        },
        ProfileError::Refused { .. }
        | ProfileError::Unknown { .. }
        | ProfileError::Ambiguous { .. }
        | ProfileError::Malformed { .. }
        | ProfileError::NoTopology { .. }
        | ProfileError::NotAboutSnapshots { .. } => Code::InvalidArgument,
    }
}

fn of_stream(error: &StreamError) -> Code {
    match error {
        StreamError::NotAllowed { .. } => Code::PermissionDenied,
        StreamError::Address { .. } | StreamError::Foreign { .. } => Code::InvalidArgument,
        StreamError::Unreachable { .. }
        | StreamError::Broken { .. }
        | StreamError::Silent { .. }
        | StreamError::Slow { .. } => Code::Unavailable,
        StreamError::Damaged(_) => Code::DataLoss,
    }
}

fn of_driver(error: &DriverError) -> Code {
    match error {
        DriverError::NotFound { .. } => Code::NotFound,
        DriverError::AlreadyExists { .. } => Code::AlreadyExists,
        DriverError::InvalidArgument(_) | DriverError::Unsupported(_) => Code::InvalidArgument,
        DriverError::OutOfRange(_) => Code::OutOfRange,
        DriverError::ResourceExhausted(_) => Code::ResourceExhausted,
        DriverError::InUse { .. } | DriverError::Void { .. } => Code::FailedPrecondition,
        DriverError::Node(error) => of_node(error),
        _ => Code::Internal,
    }
}

fn of_node(error: &NodeError) -> Code {
    match error {
        NodeError::Unreachable { .. } | NodeError::NoAnswer { .. } | NodeError::NotReady { .. } => {
            Code::Unavailable
        }
        NodeError::Refused { .. } | NodeError::Lacks { .. } | NodeError::Certificate(_) => {
            Code::FailedPrecondition
        }
        NodeError::Failed { .. } | NodeError::Malformed { .. } => Code::Internal,
    }
}

fn of_connector(error: &ConnectorError) -> Code {
    match error {
        ConnectorError::InUse { .. }
        | ConnectorError::Host(_)
        | ConnectorError::SameDisk { .. } => Code::FailedPrecondition,
        ConnectorError::Unreachable { .. } => Code::Unavailable,
        _ => Code::Internal,
    }
}

fn of_repository(error: &RepositoryError) -> Code {
    match error {
        RepositoryError::UnknownSnapshot { .. } | RepositoryError::Deleted { .. } => Code::NotFound,
        RepositoryError::Damaged { .. } | RepositoryError::Inconsistent { .. } => Code::DataLoss,
        RepositoryError::Unstorable { .. } | RepositoryError::Settings(_) => Code::InvalidArgument,
        RepositoryError::AlreadyCommitted { .. } => Code::AlreadyExists,
        RepositoryError::Cancelled => Code::Aborted,
        RepositoryError::Store(error) => of_store(error),
        RepositoryError::Device(_) | RepositoryError::Internal(_) => Code::Internal,
        // The bucket or its key is not as it has to be: somebody has to change that.
        _ => Code::FailedPrecondition,
    }
}

fn of_store(error: &StoreError) -> Code {
    match error {
        StoreError::AccessDenied { .. } => Code::PermissionDenied,
        StoreError::Credentials { .. } => Code::Unauthenticated,
        StoreError::Unavailable { .. } => Code::Unavailable,
        StoreError::NotFound { .. }
        | StoreError::Integrity { .. }
        | StoreError::TooLarge { .. } => Code::DataLoss,
        StoreError::AlreadyExists { .. } => Code::Aborted,
        StoreError::NoSuchBucket { .. }
        | StoreError::Certificate { .. }
        | StoreError::Unsupported { .. }
        | StoreError::Config(_)
        | StoreError::Refused { .. } => Code::FailedPrecondition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_that_callers_rely_on() {
        let denied = StoreError::AccessDenied {
            doing: "writing repository.json".to_owned(),
            source: "AccessDenied".into(),
        };
        let status = Status::from(ManagerError::from(denied));
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("writing repository.json"));
        assert!(status.message().ends_with(": AccessDenied"), "{status}");

        let full = DriverError::ResourceExhausted("1 of 2 bytes".to_owned());
        assert_eq!(
            Status::from(ManagerError::from(full)).code(),
            Code::ResourceExhausted
        );
        let held = ConnectorError::InUse {
            path: "/dev/sdb".into(),
            by: "loop device /dev/loop3 is over it".to_owned(),
        };
        let status = Status::from(ManagerError::from(held));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("/dev/loop3"), "{status}");
        let recorded = RecordedError {
            code: Code::Unauthenticated.into(),
            text: "expired".to_owned(),
        };
        let status = Status::from(ManagerError::Recorded(recorded));
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unauthenticated, "expired")
        );
        let unknown = RepositoryError::UnknownSnapshot {
            snapshot: "s".to_owned(),
            location: "l".to_owned(),
        };
        assert_eq!(record(&unknown.into()).code, i32::from(Code::NotFound));
    }
}
