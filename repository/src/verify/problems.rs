//! What is wrong, told once each.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    RepositoryError,
    format::{
        ids::{SnapshotId, VolumeId},
        manifest::Manifest,
    },
    snapshots::chain,
    store::StoreError,
};

/// More than these are not kept: whoever has so many knows enough.
const PROBLEMS_MAX: usize = 10_000;

/// Which snapshot: a caller may give the same id to snapshots of several volumes.
pub(super) type Place = (VolumeId, SnapshotId);

/// Whose a manifest is.
pub(super) fn place(manifest: &Manifest) -> Place {
    (manifest.volume_id.clone(), manifest.snapshot_id.clone())
}

/// Something that is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Key of the object.
    pub object: String,
    /// Where in it, in bytes, if that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// Snapshots that need what is broken; none where nothing needs it, or it is not known who does.
    pub snapshots: Vec<SnapshotId>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.object)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.what)?;
        if let Some((first, others)) = self.snapshots.split_first() {
            write!(f, " (affects {first}")?;
            for other in others {
                write!(f, ", {other}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// Problems by object, offset and text, so that what several snapshots share is told once.
#[derive(Debug, Default, Clone)]
pub(super) struct Problems {
    found: BTreeMap<(String, Option<u64>, String), BTreeSet<Place>>,
    /// Whom problems hurt that are not kept.
    hurt_besides: BTreeSet<Place>,
}

impl Problems {
    pub(super) fn add(
        &mut self,
        object: &str,
        offset: Option<u64>,
        what: impl Into<String>,
        snapshots: impl IntoIterator<Item = Place>,
    ) {
        let key = (object.to_owned(), offset, what.into());
        if self.found.len() >= PROBLEMS_MAX && !self.found.contains_key(&key) {
            tracing::error!(
                object = key.0,
                offset = key.1,
                what = key.2,
                "one problem more than are kept"
            );
            self.hurt_besides.extend(snapshots);
            return;
        }
        self.found.entry(key).or_default().extend(snapshots);
    }

    /// Takes an error that says something about the repository; `object` is what was being read.
    ///
    /// # Errors
    /// Gives back one that does not: the bucket, the key, the caller's wish.
    pub(super) fn take(
        &mut self,
        error: RepositoryError,
        object: &str,
        snapshots: &[Place],
    ) -> Result<(), RepositoryError> {
        self.take_at(error, object, None, snapshots)
    }

    /// As [`take`](Self::take), with the offset for errors that do not have one.
    pub(super) fn take_at(
        &mut self,
        error: RepositoryError,
        object: &str,
        at: Option<u64>,
        snapshots: &[Place],
    ) -> Result<(), RepositoryError> {
        let (object, offset, what) = match error {
            RepositoryError::Damaged {
                object,
                offset,
                source,
            }
            | RepositoryError::Newer {
                object,
                offset,
                source,
            } => (object, offset, chain(&source)),
            RepositoryError::Inconsistent { object, problem } => (object, None, problem),
            RepositoryError::Store(StoreError::NotFound { key }) => {
                (key, None, "it is missing".to_owned())
            }
            RepositoryError::Store(StoreError::Integrity { key, problem }) => (key, at, problem),
            // The store will not give this object: in an archive, sealed by a key that these credentials may not use.
            RepositoryError::Store(
                error @ (StoreError::Refused { .. }
                | StoreError::AccessDenied { .. }
                | StoreError::TooLarge { .. }),
            ) => (object.to_owned(), at, chain(&error)),
            other => return Err(other),
        };
        self.add(&object, offset, what, snapshots.iter().cloned());
        Ok(())
    }

    /// Whoever suffers from any of them.
    pub(super) fn snapshots(&self) -> BTreeSet<Place> {
        let all = self.found.values().chain([&self.hurt_besides]);
        all.flatten().cloned().collect()
    }

    /// Leaves out what only these suffer from.
    pub(super) fn leave_out(&mut self, ended: &BTreeSet<Place>) {
        self.found.retain(|_, snapshots| {
            let concerned_anybody = !snapshots.is_empty();
            snapshots.retain(|snapshot| !ended.contains(snapshot));
            !concerned_anybody || !snapshots.is_empty()
        });
        self.hurt_besides
            .retain(|snapshot| !ended.contains(snapshot));
    }

    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let problem =
            |((object, offset, what), snapshots): ((String, _, String), BTreeSet<_>)| Problem {
                object,
                offset,
                what,
                snapshots: ids_of(snapshots),
            };
        self.found.into_iter().map(problem).collect()
    }
}

/// The ids alone, for people: each once.
pub(super) fn ids_of(places: impl IntoIterator<Item = Place>) -> Vec<SnapshotId> {
    let ids: BTreeSet<SnapshotId> = places.into_iter().map(|(_, snapshot)| snapshot).collect();
    ids.into_iter().collect()
}
