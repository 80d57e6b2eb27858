//! Snapshots that are deleted while they are verified: a prune may take away what is being read, and that is no damage.

use std::collections::BTreeSet;

use super::{
    Job, Problems,
    problems::{Place, place},
    structure::NeededPacks,
    unsound::Unsound,
};
use crate::{
    RepositoryError,
    format::{
        manifest::{Manifest, SnapshotRecord},
        protocol::BadFrame,
    },
    snapshots::record_at,
};

/// What is left to say once it is known who needs what.
pub(super) struct Settled {
    /// What is wrong with snapshots that are there still.
    pub(super) problems: Problems,
    /// Frames that they need and that are bad.
    pub(super) bad: Vec<BadFrame>,
    /// How many bad frames none of them needs.
    pub(super) unneeded: u64,
    /// Those that were deleted meanwhile.
    pub(super) ended: BTreeSet<Place>,
}

/// Tells who suffers from what was found. Before somebody is said to, their record is read again: one that was deleted
/// meanwhile is left out of `manifests`, with all that only it needed.
///
/// # Errors
/// [`RepositoryError::Cancelled`], and a bucket that does not answer.
pub(super) async fn settle(
    job: &Job<'_>,
    mut found: Problems,
    unsound: &Unsound,
    needed: &NeededPacks,
    manifests: &mut Vec<Manifest>,
) -> Result<Settled, RepositoryError> {
    let mut all_ended = BTreeSet::new();
    // Attributing reads maps again, so each round may find more; each but the last leaves a snapshot out.
    loop {
        let mut problems = found.clone();
        let (bad, unneeded) = unsound
            .attribute(job, needed, manifests, &mut problems)
            .await?;
        let ended = leave_out_ended(job, manifests, &mut problems).await?;
        if ended.is_empty() {
            return Ok(Settled {
                problems,
                bad,
                unneeded,
                ended: all_ended,
            });
        }
        found.leave_out(&ended);
        all_ended.extend(ended);
    }
}

/// Takes the manifests away whose snapshots have a problem and were deleted since they were read, and returns whose they were.
async fn leave_out_ended(
    job: &Job<'_>,
    manifests: &mut Vec<Manifest>,
    problems: &mut Problems,
) -> Result<BTreeSet<Place>, RepositoryError> {
    let suffering = problems.snapshots();
    let (mut left, mut ended) = (Vec::with_capacity(manifests.len()), BTreeSet::new());
    for manifest in manifests.drain(..) {
        let place = place(&manifest);
        if suffering.contains(&place) && has_ended(job, &manifest, problems).await? {
            tracing::warn!(
                volume = %place.0,
                snapshot = %place.1,
                "this snapshot was deleted while it was verified: what it alone needs is not told of"
            );
            ended.insert(place);
        } else {
            left.push(manifest);
        }
    }
    *manifests = left;
    Ok(ended)
}

/// Whether there is a tombstone now. A record that is gone altogether is one more problem: tombstones stay.
async fn has_ended(
    job: &Job<'_>,
    manifest: &Manifest,
    problems: &mut Problems,
) -> Result<bool, RepositoryError> {
    job.check_cancelled()?;
    job.fetcher.progress.requested(1);
    let key = manifest.object_key();
    let snapshot = &[place(manifest)];
    match record_at(job.repository, &key).await {
        // Nor was one deleted meanwhile that had been before.
        Ok(Some(SnapshotRecord::Tombstone(..))) => return Ok(!job.settings.deleted),
        Ok(Some(SnapshotRecord::Manifest(..))) => {}
        Ok(None) => {
            let what = "it was there when this verify began and is gone, without a tombstone";
            problems.add(&key, None, what, snapshot.iter().cloned());
        }
        Err(error) => problems.take(error, &key, snapshot)?,
    }
    Ok(false)
}
