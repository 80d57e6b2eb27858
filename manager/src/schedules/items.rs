//! The backups of runs: begun when it is their turn and the limits allow it, followed until they have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use stockpot_driver::VolumeId;
use stockpot_proto::stockpot::v1 as api;

use super::{due::PUT_BACK_AT_MOST, spec::Spec, under_way::Turn};
use crate::{
    Manager, ManagerError,
    catalog::{
        BackupRow, BackupStatus, CatalogError, ItemRow, ItemState, RunRow, Running, ScheduleRow,
    },
    error::chain,
    ids,
};

/// Pause before a backup that could not begin is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What came of trying to begin a backup.
enum Outcome {
    Begun(Box<BackupRow>),
    /// It may be otherwise soon.
    Later(String),
    Skipped(String),
    Failed(String),
}

/// Whether a backup may be begun now.
enum Turned {
    Begin(api::CreateBackupRequest, Beginning),
    /// As many are under way as may be.
    Full,
    /// The one before it is still being begun.
    Waits,
    /// There is nothing to begin.
    Not(Outcome),
}

/// A backup that is being begun.
#[derive(Debug, Clone)]
pub(super) struct Beginning {
    schedule: String,
    volume_id: VolumeId,
    /// Place of its repository, if the profile says one.
    place: Option<String>,
}

/// What schedules are doing.
struct Load {
    running: Vec<Running>,
    /// By the names of the backups; those of them that are running already are not in here.
    beginning: BTreeMap<String, Beginning>,
    /// Short ids of repositories by their place.
    repositories: BTreeMap<String, String>,
    /// Schedules that a limit keeps from doing more.
    full: BTreeSet<String>,
}

impl Load {
    /// Backups that take their share of the limits: one that somebody has stopped does not.
    fn active(&self) -> impl Iterator<Item = &Running> {
        self.running.iter().filter(|running| !running.paused)
    }

    fn count(&self) -> usize {
        self.active().count() + self.beginning.len()
    }

    fn of_repository(&self, place: Option<&String>) -> usize {
        // Where nothing is known of a repository, nothing was sent to it.
        let Some(place) = place else { return 0 };
        let beginning = self.beginning.values();
        let beginning = beginning.filter(|one| one.place.as_ref() == Some(place));
        let short_id = self.repositories.get(place);
        let to = |running: &&Running| {
            short_id.is_some_and(|id| ids::repository_of(&running.snapshot_id) == Some(id.as_str()))
        };
        self.active().filter(to).count() + beginning.count()
    }
}

impl Manager {
    /// Begins and follows the backups of all runs, and tells when to look again. Nothing is waited for that takes long.
    pub(super) async fn see_to_items(
        self: &Arc<Self>,
        now: Timestamp,
    ) -> Result<Timestamp, ManagerError> {
        let mut wake = Timestamp::MAX;
        // First of all: what was begun by now is on record below.
        let beginning = self.schedules.beginning.all();
        let open = self.catalog.open_items().await?;
        if open.is_empty() {
            return Ok(wake);
        }
        let mut load = self.load(beginning.clone()).await?;
        let schedules = self.catalog.schedules().await?;
        let schedules: BTreeMap<&str, &ScheduleRow> = schedules
            .iter()
            .map(|row| (row.name.as_str(), row))
            .collect();
        for (run, item) in open {
            if beginning.contains_key(&item.backup_name) {
                continue;
            }
            if item.state == ItemState::Begun {
                self.follow_item(item).await?;
                continue;
            }
            // Deleted just now, or at rest.
            let Some(row) = schedules
                .get(run.schedule.as_str())
                .filter(|row| !row.paused)
            else {
                continue;
            };
            let turn = super::moment(item.not_before_us);
            if turn > now && !was_put_back(row, turn, now) {
                wake = wake.min(turn);
                continue;
            }
            let turned = match Spec::of_json(&row.spec) {
                Ok(spec) => (self.turn_of(&spec, &run, &item, &load).await, spec),
                Err(error) => {
                    let failed = Outcome::Failed(chain(&error));
                    self.note_item(failed, item).await?;
                    continue;
                }
            };
            match turned {
                (Turned::Begin(request, one), spec) => {
                    let beginning = &self.schedules.beginning;
                    if let Some(turn) = beginning.take(item.backup_name.clone(), one.clone()) {
                        load.beginning.insert(item.backup_name.clone(), one);
                        self.start_beginning(spec, run, item, request, turn);
                    }
                }
                (Turned::Full, _) => {
                    load.full.insert(run.schedule);
                }
                (Turned::Waits, _) => {}
                (Turned::Not(outcome), _) => wake = wake.min(self.note_item(outcome, item).await?),
            }
        }
        Ok(wake)
    }

    async fn load(&self, mut beginning: BTreeMap<String, Beginning>) -> Result<Load, ManagerError> {
        let running = self.catalog.running_scheduled().await?;
        for one in &running {
            beginning.remove(&one.name);
        }
        Ok(Load {
            running,
            beginning,
            repositories: self.catalog.repositories().await?.into_iter().collect(),
            full: BTreeSet::new(),
        })
    }

    /// Writes down what came of it, and tells when to look again.
    async fn note_item(
        &self,
        outcome: Outcome,
        mut item: ItemRow,
    ) -> Result<Timestamp, ManagerError> {
        // It may have taken long.
        let now = self.clock.now();
        let mut wake = Timestamp::MAX;
        let (state, message) = match outcome {
            Outcome::Begun(backup) => {
                item.backup_id = Some(backup.id.clone());
                // It may have ended before this was written down.
                wake = now;
                (ItemState::Begun, None)
            }
            Outcome::Later(message) if now.as_microsecond() < item.give_up_at_us => {
                wake = now + AGAIN;
                item.not_before_us = wake.as_microsecond();
                (ItemState::Waiting, Some(message))
            }
            Outcome::Skipped(message) => (ItemState::Skipped, Some(message)),
            Outcome::Later(message) | Outcome::Failed(message) => {
                (ItemState::Failed, Some(message))
            }
        };
        if let (ItemState::Skipped | ItemState::Failed, Some(message)) = (state, &message) {
            tracing::warn!(volume_id = %item.volume_id, backup = item.backup_name, %state, message, "no scheduled backup");
        }
        (item.state, item.message) = (state, message);
        self.catalog.update_item(item).await?;
        Ok(wake)
    }

    /// Whether the limits, and the backup before it, let a backup begin now.
    async fn turn_of(&self, spec: &Spec, run: &RunRow, item: &ItemRow, load: &Load) -> Turned {
        let before = load.running.iter().find(|running| {
            running.schedule == run.schedule
                && running.volume_id == item.volume_id
                && running.name != item.backup_name
        });
        if let Some(before) = before {
            let what = if before.paused {
                "paused"
            } else {
                "still running"
            };
            let why = format!("the backup before it, {}, is {what}", before.id);
            return Turned::Not(Outcome::Skipped(why));
        }
        let is_before =
            |one: &Beginning| one.schedule == run.schedule && one.volume_id == item.volume_id;
        if load.beginning.values().any(is_before) {
            // How that ends is not known yet.
            return Turned::Waits;
        }
        let limits = &self.config.schedules;
        if load.full.contains(&run.schedule) || load.count() >= limits.backups_max {
            return Turned::Full;
        }
        let profile = match self.backup_profile(&spec.profile).await {
            Ok(profile) => profile,
            Err(error) => return Turned::Not(refused(spec, &error)),
        };
        let place = profile.topology().ok().map(|topology| topology.place());
        if load.of_repository(place.as_ref()) >= limits.per_repository_max {
            return Turned::Full;
        }
        let request = api::CreateBackupRequest {
            name: item.backup_name.clone(),
            volume: item.volume_id.to_string(),
            profile: profile.name.clone(),
            force: !spec.skip_in_use,
            full: run.is_full,
            ..api::CreateBackupRequest::default()
        };
        let one = Beginning {
            schedule: run.schedule.clone(),
            volume_id: item.volume_id.clone(),
            place,
        };
        Turned::Begin(request, one)
    }

    /// Begins a backup behind, and writes down what came of it.
    fn start_beginning(
        self: &Arc<Self>,
        spec: Spec,
        run: RunRow,
        item: ItemRow,
        request: api::CreateBackupRequest,
        turn: Turn<String, Beginning>,
    ) {
        let manager = self.clone();
        let work = async move {
            let outcome = match manager.begin_backup_of(&run.schedule, request).await {
                Ok(backup) => Outcome::Begun(Box::new(backup)),
                Err(error) => refused(&spec, &error),
            };
            let noted = manager.note_item(outcome, item).await;
            drop(turn);
            match noted {
                Ok(_) => manager.notify(),
                // Begun again by its name, it is the same backup: not at once.
                Err(error) => tracing::error!(
                    schedule = run.schedule,
                    error = chain(&error),
                    "what came of beginning a backup cannot be recorded yet"
                ),
            }
        };
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Begins a backup, or finds it. One that never came to its cut, because the manager ended in the middle of it or the storage
    /// refused, holds nothing: it makes room for another try.
    async fn begin_backup_of(
        self: &Arc<Self>,
        schedule: &str,
        request: api::CreateBackupRequest,
    ) -> Result<BackupRow, ManagerError> {
        let begin = || {
            let work = self
                .clone()
                .create_backup_for(request.clone(), Some(schedule.to_owned()));
            self.to_the_end(work)
        };
        let found = begin().await?;
        if found.status != BackupStatus::Error || found.schedule.as_deref() != Some(schedule) {
            return Ok(found);
        }
        self.to_the_end(self.clone().delete_backup(found.id))
            .await?;
        begin().await
    }

    async fn follow_item(&self, mut item: ItemRow) -> Result<(), ManagerError> {
        let id = item.backup_id.clone().unwrap_or_default();
        let (state, message) = match self.catalog.backup(&id).await? {
            None => (
                ItemState::Skipped,
                Some("its backup was deleted meanwhile".to_owned()),
            ),
            Some(row) => match row.status {
                BackupStatus::Creating | BackupStatus::Cancelling => return Ok(()),
                BackupStatus::Available if !row.cleaned => return Ok(()),
                BackupStatus::Available | BackupStatus::Deleted => (ItemState::Done, None),
                BackupStatus::Cancelled => (
                    ItemState::Failed,
                    Some("its backup was cancelled".to_owned()),
                ),
                BackupStatus::Error => (ItemState::Failed, row.failure.map(|why| why.text)),
            },
        };
        (item.state, item.message) = (state, message);
        Ok(self.catalog.update_item(item).await?)
    }
}

/// Whether a turn is further away than any ever is: it comes from a clock that was ahead, and would be waited for as long as it was.
fn was_put_back(row: &ScheduleRow, turn: Timestamp, now: Timestamp) -> bool {
    let jitter_s = Spec::of_json(&row.spec).map_or(0, |spec| spec.jitter_s);
    let furthest = SignedDuration::from_secs(jitter_s.into()) + AGAIN + PUT_BACK_AT_MOST;
    turn.duration_since(now) > furthest
}

fn refused(spec: &Spec, error: &ManagerError) -> Outcome {
    let text = chain(error);
    match error {
        ManagerError::NotFound(_) => Outcome::Skipped("the volume is gone".to_owned()),
        ManagerError::FailedPrecondition(_) if spec.skip_in_use => Outcome::Skipped(text),
        // Another backup of it, a growth, an attachment: it has its end.
        ManagerError::Busy(_)
        | ManagerError::NotReady(_)
        | ManagerError::Catalog(CatalogError::Transition { .. }) => Outcome::Later(text),
        error if error.is_passing() => Outcome::Later(text),
        _ => Outcome::Failed(text),
    }
}
