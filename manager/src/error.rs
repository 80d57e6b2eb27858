//! What can go wrong in the manager, by what a caller can do about it.

use std::path::PathBuf;

use stockpot_connector::ConnectorError;
use stockpot_driver::{DriverError, remote::ServeError};
use stockpot_proto::socket::BindError;
use stockpot_repository::{RepositoryError, store::StoreError};

use crate::{
    catalog::{CatalogError, JobKind, RecordedError},
    config::ConfigError,
    profile::ProfileError,
    streams::StreamError,
};

/// The error of every operation.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// It is not there.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The name is taken by one with other properties.
    #[error("{what} exists already with another {difference}")]
    AlreadyExists {
        /// What is there.
        what: String,
        /// The property that differs.
        difference: &'static str,
    },
    /// The request can never be carried out.
    #[error("{0}")]
    InvalidArgument(String),
    /// It cannot be carried out while things are as they are.
    #[error("{0}")]
    FailedPrecondition(String),
    /// No profile names the repository where a cloud copy lies.
    #[error(
        "no profile leads to repository {repository}, so the cloud copy of snapshot {snapshot} cannot be deleted"
    )]
    NoProfileLeads {
        /// Short id of the repository.
        repository: String,
        /// Id of the snapshot.
        snapshot: String,
    },
    /// A size outside what is possible.
    #[error("{0}")]
    OutOfRange(String),
    /// Something else is under way for it; ask again.
    #[error("{0}")]
    Busy(String),
    /// A part outside does not answer.
    #[error("{what} did not answer within {seconds} s")]
    NoAnswer {
        /// Which.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A transfer whose attempts failed for too long, or too often, for reasons that might have passed.
    #[error(
        "the {kind} was given up after {attempts} attempt{} in {seconds} s", if *attempts == 1 { "" } else { "s" }
    )]
    GaveUp {
        /// What it was.
        kind: JobKind,
        /// How often it was tried.
        attempts: u32,
        /// How long, pauses included, since the daemon began with it.
        seconds: u64,
        /// What the last attempt was waiting for.
        #[source]
        source: Box<ManagerError>,
    },
    /// The manager has not finished its start, or is stopping.
    #[error("{0}")]
    NotReady(String),
    /// A pool that cannot be used as it is now.
    #[error("pool {pool} cannot be used: {why}")]
    PoolUnusable {
        /// Its name.
        pool: String,
        /// What its driver says.
        why: String,
    },
    /// An operation that was given up before; this is its error.
    #[error("{}", .0.text)]
    Recorded(RecordedError),
    /// A transfer that was stopped: by a deletion, or because the manager is stopping.
    #[error("it was cancelled")]
    Cancelled,
    /// A key or credentials file cannot be used. Its content is never told.
    #[error("cannot use {}: {problem}", path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The socket cannot be made.
    #[error("the manager has no socket")]
    Socket(#[from] BindError),
    /// Other nodes cannot be served.
    #[error("other nodes cannot be served")]
    StorageNode(#[from] ServeError),
    /// The server ended by itself.
    #[error("the server failed")]
    Server(#[source] tonic::transport::Error),
    /// A defect: a task ended without a result.
    #[error("internal failure: {0}")]
    Internal(String),
    /// The configuration.
    #[error("the configuration cannot work")]
    Config(#[from] ConfigError),
    /// A profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A stream to or from somebody else.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The storage.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// This host's side of an attachment.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<StoreError> for ManagerError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}

impl ManagerError {
    /// Whether the same transfer may succeed a little later without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            // It is looked at again and again.
            Self::NoAnswer { .. } | Self::PoolUnusable { .. } => true,
            Self::GaveUp { source, .. } => source.is_passing(),
            Self::Catalog(error) => error.is_passing(),
            Self::Repository(RepositoryError::Store(error)) => {
                matches!(error, StoreError::Unavailable { .. })
            }
            // A device that is just being looked at by udev, or held by what a crash left.
            Self::Driver(DriverError::InUse { .. }) => true,
            Self::Driver(DriverError::Node(error)) => error.is_passing(),
            // Or a storage node that is being started again.
            Self::Connector(
                ConnectorError::Missing { .. }
                | ConnectorError::InUse { .. }
                | ConnectorError::Unreachable { .. },
            ) => true,
            _ => false,
        }
    }
}

/// An error and everything that caused it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Some libraries repeat their source in their own text.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
