//! Removing what no snapshot needs, without locks, while uploads and other prunes go on.
//!
//! [`plan`] only looks: which packs are reached by a manifest, which an upload under way may refer to, and which are
//! neither. [`execute`] condemns the latter, looks again in the order of section 11 of the format, and deletes what
//! still nothing needs. `docs/prune.md` says why that order is safe and what each step would lose if it were left out.
//!
//! # What holds at any moment, whoever is killed or late
//! - A pack that a manifest reaches, or that an upload which can still commit refers to, is not deleted.
//! - A pack goes only if its snapshot has a manifest or a tombstone: absence never deletes. A record that cannot be read, a
//!   snapshot that an earlier prune saw and that is in no listing, a listing that leaves out what is there: each
//!   stops the prune.
//! - A prune that was killed leaves a condemned list, which a later one removes, and packs that a later one deletes.
//!
//! # Memory
//! About 16 bytes for each pack and a name for each upload attempt and snapshot; of manifests only the pack lists are read.

mod below;
mod error;
mod packs;
mod round;
pub(crate) mod seen;
mod survey;
mod tidy;
mod uploads;

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use error::PruneError;
pub use packs::Tally;
pub use uploads::UploadState;

use crate::{
    Repository,
    format::ids::{PackName, SnapshotId, VolumeId},
    store::{ObjectMeta, StoreError},
};
use round::{Ended, Rounds};
use seen::LastSeen;
use survey::{Found, Survey};

/// So many of the packs that the listing did not name are asked for.
const MISSING_ASKED_MAX: usize = 32;

/// How often a round is begun again whose list another prune took for left over.
const ROUND_TRIES: usize = 3;

/// How to prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneSettings {
    /// An upload that gave no sign of life (its intent, a pack) for so long, by the store's clock, is given up. A wrong guess
    /// costs that upload, never data.
    pub give_up_after: Duration,
    /// A condemned list older than this was left by a killed prune. A wrong guess stops that prune.
    pub stale_after: Duration,
    /// Packs in one condemned list, at most 50,000.
    pub packs_per_round: usize,
    /// Deletions at the same time; 1 to 64.
    pub deletes_in_flight: usize,
}

impl Default for PruneSettings {
    fn default() -> Self {
        Self {
            give_up_after: Duration::from_hours(7 * 24),
            stale_after: Duration::from_hours(1),
            packs_per_round: 20_000,
            deletes_in_flight: 16,
        }
    }
}

impl PruneSettings {
    fn check(&self) -> Result<(), PruneError> {
        if !(1..=50_000).contains(&self.packs_per_round) {
            return Err(PruneError::Settings(
                "packs in a condemned list: it has to be from 1 to 50,000",
            ));
        }
        if !(1..=64).contains(&self.deletes_in_flight) {
            return Err(PruneError::Settings(
                "deletions at the same time: it has to be from 1 to 64",
            ));
        }
        Ok(())
    }
}

/// An upload that is not committed, as its intent tells.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Its volume.
    pub volume_id: VolumeId,
    /// Where it runs or ran.
    pub host: String,
    /// When it began, by that host's clock.
    pub started_at: Timestamp,
    /// What it is worth.
    pub state: UploadState,
}

/// What a prune would do.
#[derive(Debug)]
pub struct Plan {
    /// Snapshots with a manifest.
    pub snapshots: u64,
    /// Packs that those reach.
    pub kept: Tally,
    /// Of the kept bytes, at least so many are needed: for each pack the most that one snapshot reaches in it.
    pub live_bytes: u64,
    /// Packs that nothing needs.
    pub to_delete: Tally,
    /// Packs that only uploads under way may refer to.
    pub spared: Tally,
    /// Objects below `packs/` that are no packs, and stay.
    pub foreign_objects: u64,
    /// Packs that manifests reach and that are not in the bucket: somebody deleted them. The first few; empty if all is
    /// there.
    pub missing: Vec<PackName>,
    /// The uploads that intents tell of.
    pub uploads: Vec<Upload>,
    survey: Survey,
    marks: Vec<ObjectMeta>,
    settings: PruneSettings,
}

/// What a prune did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Packs that were deleted.
    pub deleted: Tally,
    /// Of those, packs of which the bucket keeps old versions: what they take is not free.
    pub hidden: Tally,
    /// Packs that manifests reach.
    pub kept: Tally,
    /// Of those bytes, at least so many are needed.
    pub live_bytes: u64,
    /// Packs that only uploads under way may refer to.
    pub spared: Tally,
    /// Packs that nothing needs and that the store did not let go: locked, or a permission is missing.
    pub held: Tally,
    /// What the store said to the first of those.
    pub held_because: Option<String>,
    /// Dead uploads that were ended.
    pub given_up: Vec<(VolumeId, SnapshotId)>,
    /// Multipart uploads that were aborted; `None`: the store cannot list them.
    pub aborted_multiparts: u64,
    /// Whether the store could list open multipart uploads.
    pub multiparts_listed: bool,
    /// Multipart uploads that were to be aborted, and that the store did not let go.
    pub held_multiparts: u64,
    /// Why multipart uploads could not be listed, or the first of those not be aborted.
    pub multiparts_because: Option<String>,
    /// Lists of killed prunes that were removed.
    pub removed_lists: u64,
    /// Marks that were removed because their packs are gone.
    pub removed_marks: u64,
}

/// Of the packs that the listing did not name, those that are not there: the others are younger than it.
async fn missing(survey: &Survey) -> Result<Vec<PackName>, PruneError> {
    let unlisted = survey.table().unlisted(MISSING_ASKED_MAX);
    let mut missing = Vec::new();
    for name in unlisted {
        survey.check_cancelled()?;
        match survey.repository.store().head(&name.to_string()).await {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => missing.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(missing)
}

/// Looks what is needed and what is not. Nothing is written.
///
/// # Errors
/// [`PruneError`]: each variant but the last says why this repository is not to be pruned now.
pub async fn plan(
    repository: &Repository,
    settings: &PruneSettings,
    cancel: &CancellationToken,
) -> Result<Plan, PruneError> {
    settings.check()?;
    repository.sealer_to_write()?;
    check_endpoint(repository)?;
    let mut survey = Survey::new(repository, cancel).await?;
    let marks = tidy::marks(repository).await?;
    // In this order: a pack is put after its intent, and an intent is removed after the record.
    survey.read_packs().await?;
    let intents = survey.read_intents().await?;
    survey.read_snapshots().await?;
    let now_s = now_s(repository).await?;
    uploads::require_accounted(&survey, &intents).await?;
    below::require_none_hidden(&mut survey).await?;
    let judged = uploads::judge(&survey, intents, settings, now_s);
    uploads::spare(&survey, &judged.under_way).await?;
    let upload = |found: &Found, state| Upload {
        snapshot_id: found.intent.snapshot_id.clone(),
        volume_id: found.intent.volume_id.clone(),
        host: found.intent.host.clone(),
        started_at: found.intent.started_at,
        state,
    };
    let mut uploads: Vec<Upload> = Vec::new();
    uploads.extend((judged.under_way.iter()).map(|f| upload(f, UploadState::UnderWay)));
    uploads.extend((judged.dead.iter()).map(|(f, _)| upload(f, UploadState::Dead)));
    uploads.extend((judged.left_over.iter()).map(|f| upload(f, UploadState::LeftOver)));
    let missing = missing(&survey).await?;
    let tallies = survey.table().tallies();
    let committed = survey.snapshots.values();
    Ok(Plan {
        snapshots: committed
            .filter(|last| **last == LastSeen::Committed)
            .count() as u64,
        kept: tallies.reached,
        live_bytes: tallies.live_bytes,
        to_delete: tallies.unneeded,
        spared: tallies.spared,
        foreign_objects: survey.foreign,
        missing,
        uploads,
        survey,
        marks,
        settings: settings.clone(),
    })
}

/// The store's clock, which stamps packs and intents: this machine's may be wrong by days. [`execute`] judges again by the time of an
/// object of its own, so one that does not tell its date can be planned for by the clock that there is.
async fn now_s(repository: &Repository) -> Result<i64, PruneError> {
    match repository.store().now_s().await {
        Ok(now_s) => Ok(now_s),
        Err(StoreError::Unsupported { what, .. }) => {
            tracing::warn!(
                what,
                "the store cannot do this: the plan goes by this machine's clock"
            );
            Ok(Timestamp::now().as_second())
        }
        Err(error) => Err(error.into()),
    }
}

fn check_endpoint(repository: &Repository) -> Result<(), PruneError> {
    let why = match repository.endpoint() {
        Some(report) if report.allows_prune() => return Ok(()),
        Some(_) => "its endpoint does not refuse a second conditional write",
        None => "its marker does not say whether its endpoint refuses a second conditional write",
    };
    Err(PruneError::NotEnforced {
        location: repository.location(),
        why,
    })
}

/// Carries a plan out: looks again while its list of condemned packs is in the bucket, and deletes what still nothing
/// needs. A plan may be as old as it likes.
///
/// # Errors
/// [`PruneError`]. What was deleted by then was not needed; running again goes on.
pub async fn execute(plan: Plan) -> Result<Report, PruneError> {
    let open = uploads::open_multiparts(&plan.survey).await;
    let mut rounds = Rounds {
        survey: plan.survey,
        settings: plan.settings,
        report: Report::default(),
        living: Vec::new(),
        now_s: 0,
        is_tried: false,
        is_looked_below: false,
    };
    let mut taken = 0;
    let mut is_first = true;
    loop {
        match rounds.round().await? {
            Ended::ListTaken => {
                taken += 1;
                if taken >= ROUND_TRIES {
                    return Err(PruneError::ListTaken);
                }
                continue;
            }
            Ended::Done => {}
        }
        if is_first {
            // Only now: the intents of the first round were listed after these.
            match &open {
                Ok(open) => {
                    rounds.report.multiparts_listed = true;
                    rounds.abort_multiparts(open).await?;
                }
                Err(why) => rounds.report.multiparts_because = Some(why.clone()),
            }
            is_first = false;
        }
        if rounds.survey.table().unneeded(1).is_empty() {
            break;
        }
    }
    rounds.remove_stale_lists().await?;
    rounds.remove_void_marks(plan.marks).await?;
    let tallies = rounds.survey.table().tallies();
    Ok(Report {
        deleted: tallies.gone,
        hidden: tallies.hidden,
        kept: tallies.reached,
        live_bytes: tallies.live_bytes,
        spared: tallies.spared,
        held: tallies.held,
        ..rounds.report
    })
}
