//! What can go wrong with a repository, by what a caller can do about it.

use crate::{device::DeviceError, format::FormatError, store::StoreError};

/// Failures of the verbs.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Nothing is at the place.
    #[error("{location} holds no repository; a first backup makes one")]
    NoRepository {
        /// The place.
        location: String,
    },
    /// The place holds something that is not a repository.
    #[error(
        "{location} holds other objects (such as {found}) and no repository; choose an empty prefix"
    )]
    Foreign {
        /// The place.
        location: String,
        /// One of the objects.
        found: String,
    },
    /// There is a repository already where one was to be made.
    #[error("{location} holds a repository already")]
    AlreadyThere {
        /// The place.
        location: String,
    },
    /// The repository, or an object in it, needs a format or features that this version does not know.
    #[error("{object} was made by a newer version of Stockpot")]
    Newer {
        /// The object.
        object: String,
        /// Where in it, if known.
        offset: Option<u64>,
        /// What is not known here.
        #[source]
        source: FormatError,
    },
    /// The repository is sealed, and the verb needs its content.
    #[error("{location} is sealed: give its key file or passphrase")]
    KeyNeeded {
        /// The place.
        location: String,
    },
    /// A key was given and the repository is not sealed: writing to it would not keep what the user expects.
    #[error(
        "{location} is not sealed, but a key was given; leave the key out, or choose another prefix"
    )]
    NotSealed {
        /// The place.
        location: String,
    },
    /// No key slot opens with what was given.
    #[error("wrong {given} for {location}: it opens none of the repository's {slots} key slots")]
    WrongKey {
        /// The place.
        location: String,
        /// Passphrase or key file.
        given: &'static str,
        /// How many slots there are.
        slots: usize,
    },
    /// No snapshot of this name.
    #[error("no snapshot {snapshot} in {location}")]
    UnknownSnapshot {
        /// What was asked for.
        snapshot: String,
        /// The place.
        location: String,
    },
    /// A prefix fits several snapshots.
    #[error("{prefix} fits {count} snapshots (such as {first} and {second}); give more of the id")]
    AmbiguousSnapshot {
        /// What was asked for.
        prefix: String,
        /// How many fit.
        count: usize,
        /// One.
        first: String,
        /// Another.
        second: String,
    },
    /// The snapshot was deleted, or its upload cancelled.
    #[error("snapshot {snapshot} was deleted")]
    Deleted {
        /// Its id.
        snapshot: String,
    },
    /// The snapshot's upload is not committed.
    #[error("snapshot {snapshot} is not complete: its upload is under way or was broken off")]
    NotCommitted {
        /// Its id.
        snapshot: String,
    },
    /// The id was committed by another upload.
    #[error("snapshot {snapshot} is in the repository already")]
    AlreadyCommitted {
        /// Its id.
        snapshot: String,
    },
    /// An object's content is not what it has to be.
    #[error("{object} is damaged{}", .offset.map(|o| format!(" at byte {o}")).unwrap_or_default())]
    Damaged {
        /// The object's key.
        object: String,
        /// Where in it, if known.
        offset: Option<u64>,
        /// What is wrong.
        #[source]
        source: FormatError,
    },
    /// Objects that are each well-formed do not fit together.
    #[error("{object} does not fit: {problem}")]
    Inconsistent {
        /// The object's key.
        object: String,
        /// What does not fit.
        problem: String,
    },
    /// A value that cannot be stored.
    #[error("cannot be stored: {what}")]
    Unstorable {
        /// Which value.
        what: String,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The device or file.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is more below a prefix than a repository of ours can have: it is not taken into memory.
    #[error("the bucket shows more than {limit} {what} below {prefix}; no repository has so many")]
    TooMany {
        /// Where.
        prefix: String,
        /// Of what.
        what: &'static str,
        /// The most that is read.
        limit: usize,
    },
    /// A setting out of range.
    #[error("{0}")]
    Settings(String),
    /// The source's owner says that what was read is not to be relied on. Nothing was committed.
    #[error("what was read cannot be relied on, so nothing was committed")]
    SourceVoid {
        /// What the owner says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
    /// A part of the program ended without a result: a defect here, or threads that cannot be started.
    #[error("internal failure: {0}")]
    Internal(String),
}

impl RepositoryError {
    /// What is wrong with an object, or with what lies at an offset of it.
    pub(crate) fn object(
        object: impl Into<String>,
        offset: Option<u64>,
        source: FormatError,
    ) -> Self {
        let object = object.into();
        match source {
            FormatError::Newer { .. } => Self::Newer {
                object,
                offset,
                source,
            },
            _ => Self::Damaged {
                object,
                offset,
                source,
            },
        }
    }

    /// Whether it tells something of one object alone: the bucket answers, and others may be sound.
    #[must_use]
    pub fn is_of_one_object(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Newer { .. } | Self::Inconsistent { .. } => true,
            Self::Store(error) => error.is_of_one_object(),
            _ => false,
        }
    }

    /// Whether it is the caller's wish to stop, not a failure.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}
