//! The snapshots that a user names.

use std::collections::BTreeSet;

use crate::{
    Repository, RepositoryError,
    format::ids::{
        PACKS_PREFIX, PackName, SNAPSHOTS_PREFIX, SnapshotId, VolumeId, parse_snapshot_key,
    },
    prune::seen,
    repository::{each_key, too_many},
    snapshots::{SnapshotSummary, Status},
    store::StoreError,
};

/// Volumes that have packs of one snapshot id: more than one is ambiguous already.
const VOLUMES_MAX: usize = 1000;

/// A snapshot to give up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its volume.
    pub volume_id: VolumeId,
    /// Its id.
    pub snapshot_id: SnapshotId,
    /// Whether it was given up before.
    pub is_gone: bool,
}

/// Finds what each text names: a whole id, or the start of one that fits only one snapshot that is not deleted. A user's
/// word also reaches what is not committed or cannot be read, and (by the whole id) what only packs, an earlier prune or an old
/// version of its record tell of.
///
/// # Errors
/// [`RepositoryError::UnknownSnapshot`], [`RepositoryError::AmbiguousSnapshot`]: then nothing has been done; and whatever the
/// store says.
pub async fn named(
    repository: &Repository,
    found: &[SnapshotSummary],
    texts: &[String],
) -> Result<Vec<Target>, RepositoryError> {
    let mut targets = BTreeSet::new();
    for text in texts {
        match pick(found, text)? {
            Some(target) => drop(targets.insert(target)),
            None => targets.extend(left_over(repository, text).await?),
        }
    }
    Ok(targets.into_iter().collect())
}

fn pick(found: &[SnapshotSummary], text: &str) -> Result<Option<Target>, RepositoryError> {
    let target = |summary: &SnapshotSummary| {
        Some(Target {
            volume_id: summary.volume_id.clone()?,
            snapshot_id: summary.snapshot_id.clone(),
            is_gone: summary.status == Status::Deleted,
        })
    };
    let exact: Vec<Target> = found
        .iter()
        .filter(|summary| summary.snapshot_id.as_str() == text)
        .filter_map(target)
        .collect();
    let fitting = if exact.is_empty() && !text.is_empty() {
        let live = |summary: &&SnapshotSummary| {
            summary.status != Status::Deleted && summary.snapshot_id.as_str().starts_with(text)
        };
        found.iter().filter(live).filter_map(target).collect()
    } else {
        exact
    };
    match fitting.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => Err(ambiguous(text, several)),
    }
}

/// A snapshot without a record under its key, and without an intent that says of which volume it is.
async fn left_over(repository: &Repository, text: &str) -> Result<Vec<Target>, RepositoryError> {
    let mut volumes = BTreeSet::new();
    if let Ok(snapshot) = SnapshotId::new(text) {
        for key in seen::known(repository).await?.keys() {
            if let Ok((volume, known)) = parse_snapshot_key(key)
                && known == snapshot
            {
                volumes.insert(volume);
            }
        }
        // Nobody knows of which volume: all packs are looked at, and none is remembered.
        each_key(&**repository.store(), PACKS_PREFIX, |meta| {
            if let Ok(pack) = PackName::parse(&meta.key)
                && pack.snapshot == snapshot
            {
                volumes.insert(pack.volume);
                too_many(
                    PACKS_PREFIX,
                    "volumes with that snapshot",
                    volumes.len(),
                    VOLUMES_MAX,
                )?;
            }
            Ok(())
        })
        .await?;
        if volumes.is_empty() {
            volumes = hidden(repository, &snapshot).await?;
        }
        let targets: Vec<Target> = volumes
            .into_iter()
            .map(|volume_id| Target {
                volume_id,
                snapshot_id: snapshot.clone(),
                is_gone: false,
            })
            .collect();
        match targets.as_slice() {
            [] => {}
            [_] => return Ok(targets),
            several => return Err(ambiguous(text, several)),
        }
    }
    Err(RepositoryError::UnknownSnapshot {
        snapshot: text.to_owned(),
        location: repository.location(),
    })
}

/// The volumes of a record that somebody deleted in a bucket that keeps versions; none where that cannot be seen.
async fn hidden(
    repository: &Repository,
    snapshot: &SnapshotId,
) -> Result<BTreeSet<VolumeId>, RepositoryError> {
    let Some(versions) = repository.store().versions() else {
        return Ok(BTreeSet::new());
    };
    let listed = match versions.versions(SNAPSHOTS_PREFIX).await {
        Ok(listed) => listed,
        Err(
            StoreError::AccessDenied { .. }
            | StoreError::Refused { .. }
            | StoreError::Unsupported { .. },
        ) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let places = listed
        .iter()
        .filter(|version| !version.is_delete_marker)
        .filter_map(|version| parse_snapshot_key(&version.key).ok());
    Ok(places
        .filter(|(_, found)| found == snapshot)
        .map(|(volume, _)| volume)
        .collect())
}

fn ambiguous(text: &str, targets: &[Target]) -> RepositoryError {
    let name = |at: usize| {
        targets.get(at).map_or_else(String::new, |target| {
            format!("{}/{}", target.volume_id, target.snapshot_id)
        })
    };
    RepositoryError::AmbiguousSnapshot {
        prefix: text.to_owned(),
        count: targets.len(),
        first: name(0),
        second: name(1),
    }
}
