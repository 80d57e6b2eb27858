//! Which snapshot is meant: an id, the start of one, or `latest:VOLUME`.

use std::collections::BTreeSet;

use anyhow::{anyhow, bail};
use stockpot_repository::{
    Repository, RepositoryError, forget,
    format::{ids::VolumeId, manifest::Manifest},
    snapshots::{self, SnapshotSummary, Status},
};

use crate::history::{self, Records};

/// The manifest of the snapshot that `text` names.
///
/// # Errors
/// When none or several fit, or it cannot be read.
pub(crate) async fn pick(repository: &Repository, text: &str) -> anyhow::Result<Manifest> {
    match text.strip_prefix("latest:") {
        Some(volume) => {
            let listed = snapshots::list(repository).await?;
            latest(repository, volume, listed).await
        }
        None => Ok(snapshots::find(repository, text).await?),
    }
}

/// As [`pick`], among deleted snapshots as well, of which a manifest is left.
///
/// # Errors
/// As [`pick`].
pub(crate) async fn pick_deleted(repository: &Repository, text: &str) -> anyhow::Result<Manifest> {
    match text.strip_prefix("latest:") {
        Some(volume) => {
            let listed = snapshots::list_deleted(repository).await?;
            latest(repository, volume, listed).await
        }
        None => Ok(snapshots::find_deleted(repository, text).await?),
    }
}

/// Where older versions are read, what was deleted may be there still.
pub(crate) fn hint_at_deleted(error: anyhow::Error, first_versions: bool) -> anyhow::Error {
    match error.downcast_ref() {
        Some(RepositoryError::Deleted { .. }) if first_versions => {
            anyhow!(
                "{error}; with --deleted it is read from below its tombstone, as long as the bucket keeps it"
            )
        }
        _ => error,
    }
}

/// The newest of a volume, of those that have a manifest.
async fn latest(
    repository: &Repository,
    volume: &str,
    listed: Vec<SnapshotSummary>,
) -> anyhow::Result<Manifest> {
    let mut unreadable = 0;
    let mut ids: BTreeSet<VolumeId> = VolumeId::new(volume).into_iter().collect();
    let now = forget::now(repository).await?;
    // Whatever a wrong clock has cut in the future is the latest only if there is nothing else.
    let rank = |manifest: &Manifest| {
        let is_ahead = forget::is_ahead(manifest.cut_at, now);
        (!is_ahead, manifest.cut_at)
    };
    let mut newest: Option<Manifest> = None;
    for found in listed {
        let of_volume = found.volume() == Some(volume)
            || found
                .volume_id
                .as_ref()
                .is_some_and(|id| id.as_str() == volume);
        if !of_volume {
            continue;
        }
        ids.extend(found.volume_id);
        match (found.status, found.manifest) {
            (Status::Committed | Status::Deleted, Some(manifest))
                if newest
                    .as_ref()
                    .is_none_or(|newest| rank(newest) <= rank(&manifest)) =>
            {
                newest = Some(manifest);
            }
            (Status::Unreadable(_), _) => unreadable += 1,
            _ => {}
        }
    }
    let records = Records::look(&**repository.store()).await;
    let deleted = records.hidden_of(|id| ids.contains(id));
    if unreadable + deleted > 0 {
        // The newest may be among them: choosing an older one must not happen quietly.
        bail!(
            "{}, so which one is the latest is not known; `stockpot snapshots` shows them: name the one you want, or read what \
             was written first with --first-versions where the bucket keeps versions",
            why_unknown(volume, unreadable, deleted)
        );
    }
    match newest {
        Some(manifest) => {
            if let Some(remark) = records.unseen() {
                history::say(&format!(
                    "{} is taken for the latest: {remark}",
                    manifest.snapshot_id
                ));
            }
            Ok(manifest)
        }
        None => bail!(
            "no snapshot of volume {volume} in {}",
            repository.location()
        ),
    }
}

fn why_unknown(volume: &str, unreadable: usize, deleted: usize) -> String {
    match (unreadable, deleted) {
        (_, 0) => format!("{unreadable} of the snapshots of volume {volume} cannot be read"),
        (0, _) => format!(
            "the records of {deleted} of the snapshots of volume {volume} were deleted by somebody, and the bucket still has \
             older versions of them"
        ),
        (_, _) => format!(
            "{unreadable} of the snapshots of volume {volume} cannot be read, and the records of {deleted} were deleted by \
             somebody"
        ),
    }
}
