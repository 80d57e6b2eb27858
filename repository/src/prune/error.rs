//! Why a prune does not start, or stops.

use crate::{RepositoryError, format::ids::SnapshotId, store::StoreError};

/// Failures of a prune. None of them has deleted a pack that anything needs.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The endpoint lets two writers decide one snapshot: what a prune relies on does not hold there.
    #[error(
        "{location} cannot be pruned: {why}; nothing was deleted. Move the repository to a store that refuses a second \
         conditional write"
    )]
    NotEnforced {
        /// The place.
        location: String,
        /// How that is known.
        why: &'static str,
    },
    /// Something that says which packs are needed cannot be read.
    #[error(
        "what is needed is not known for certain, so nothing more is deleted: `stockpot verify` names what is damaged and whose it is; if a \
         snapshot is lost, give it up with `stockpot forget` and back its volume up anew"
    )]
    Unreadable {
        /// Which object, and what is wrong with it.
        #[source]
        source: RepositoryError,
    },
    /// A snapshot that is known to have been there has neither manifest nor tombstone.
    #[error(
        "{snapshot} of volume {volume} was in the repository, and now there is neither its manifest nor a tombstone; nothing \
         was deleted. If its record was removed on purpose, end it with `stockpot forget`; else bring the record back: where the \
         bucket keeps versions, delete the delete marker above it (until then `stockpot restore --first-versions` reads it)"
    )]
    Vanished {
        /// Its volume.
        volume: String,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A snapshot without a record in sight, and the old versions that its record may have cannot be looked at.
    #[error(
        "{snapshot} of volume {volume} has no record in sight, and whether the bucket keeps its manifest as an old version cannot be \
         seen; nothing was deleted. Allow listing and reading versions (s3:ListBucketVersions, s3:GetObjectVersion), or end it \
         with `stockpot forget`"
    )]
    VersionsUnknown {
        /// Its volume.
        volume: String,
        /// The snapshot.
        snapshot: SnapshotId,
        /// The store's answer.
        #[source]
        source: Box<StoreError>,
    },
    /// A snapshot that had been deleted is committed again, since its tombstone was taken away, and it is not whole.
    #[error(
        "{snapshot} of volume {volume} was deleted and is committed again: somebody took its tombstone away. What it needs is \
         not known for certain, so nothing more is deleted. Delete it again with `stockpot forget`"
    )]
    Returned {
        /// Its volume.
        volume: String,
        /// The snapshot.
        snapshot: SnapshotId,
        /// What is wrong with it.
        #[source]
        source: Box<RepositoryError>,
    },
    /// A listing leaves out an object that is there.
    #[error(
        "the store's listing leaves out {object}, which is there; nothing was deleted. Try again when listings are complete"
    )]
    ListingIncomplete {
        /// Its key.
        object: String,
    },
    /// Packs whose snapshot has no record and no upload.
    #[error(
        "the packs of {snapshot} (volume {volume}) are there, and neither a record of it nor an upload{}: somebody deleted its record; nothing was \
         pruned. Put snapshots/{volume}/{snapshot}.json back, or say with `stockpot forget {snapshot}` that it was meant", and_others(*.others)
    )]
    Unaccounted {
        /// Their volume.
        volume: String,
        /// Their snapshot.
        snapshot: SnapshotId,
        /// How many other snapshots it is the same with.
        others: usize,
    },
    /// Another prune took this one's list for left over, each time it was tried.
    #[error("another prune removed this one's list; nothing more was deleted. Try again")]
    ListTaken,
    /// A setting out of range.
    #[error("{0}")]
    Settings(&'static str),
    /// All else.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<StoreError> for PruneError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}

impl PruneError {
    /// One object that cannot be read stops a prune as a doubt; any other failure is what it is.
    pub(super) fn doubt(error: RepositoryError) -> Self {
        if error.is_of_one_object() {
            Self::Unreadable { source: error }
        } else {
            Self::Repository(error)
        }
    }

    /// Whether it is the caller's wish to stop, not a failure.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Repository(error) if error.is_cancelled())
    }
}

fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(" (and so with {others} more)"),
    }
}
