//! What a failure of a repository tells about what to do next.

use stockpot_repository::{RepositoryError, store::StoreError};

use crate::ManagerError;

/// Whether a repository cannot be opened until somebody changes a profile, a key or the bucket.
pub(crate) fn cannot_be_opened(error: &ManagerError) -> bool {
    use RepositoryError as Error;
    match error {
        ManagerError::NoProfileLeads { .. } | ManagerError::SecretFile { .. } => true,
        ManagerError::Repository(error) => matches!(
            error,
            Error::WrongKey { .. }
                | Error::OtherKey { .. }
                | Error::UnknownSlot { .. }
                | Error::KeyNeeded { .. }
                | Error::NotSealed { .. }
                | Error::NoRepository { .. }
                | Error::Foreign { .. }
                | Error::Hidden { .. }
                | Error::MarkerGone { .. }
                | Error::MarkerReplaced { .. }
                | Error::Store(StoreError::NoSuchBucket { .. })
        ),
        _ => false,
    }
}

/// Whether a repository that was opened is not where it was.
pub(crate) fn is_not_there_any_more(error: &ManagerError) -> bool {
    matches!(
        error,
        ManagerError::Repository(
            RepositoryError::MarkerGone { .. } | RepositoryError::MarkerReplaced { .. }
        )
    )
}

/// Whether the credentials or the key may be the cause: then they are read again at the next attempt.
pub(crate) fn may_be_credentials(error: &ManagerError) -> bool {
    matches!(
        error,
        ManagerError::Repository(
            RepositoryError::Store(
                StoreError::Credentials { .. } | StoreError::AccessDenied { .. }
            ) | RepositoryError::WrongKey { .. }
                | RepositoryError::OtherKey { .. }
        )
    )
}

/// Whether a failure is what is met where objects were deleted or overwritten.
pub(crate) fn may_be_covered(error: &ManagerError) -> bool {
    match error {
        ManagerError::Repository(error) => {
            error.is_of_one_object()
                || matches!(
                    error,
                    RepositoryError::NoRepository { .. }
                        | RepositoryError::Foreign { .. }
                        | RepositoryError::Hidden { .. }
                        | RepositoryError::NotSealed { .. }
                        | RepositoryError::UnknownSnapshot { .. }
                        | RepositoryError::WrongKey { .. }
                        | RepositoryError::OtherKey { .. }
                )
        }
        _ => false,
    }
}
