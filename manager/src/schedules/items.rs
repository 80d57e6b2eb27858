//! The backups of runs: begun when it is their turn and the limits allow it, followed until they have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use stockpot_proto::stockpot::v1 as api;

use super::spec::Spec;
use crate::{
    Manager, ManagerError,
    catalog::{
        BackupRow, BackupStatus, CatalogError, ItemRow, ItemState, RunRow, Running, ScheduleRow,
    },
    error::chain,
    ids,
    profile::Profile,
};

/// Pause before a backup that could not begin is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What came of trying to begin a backup.
enum Outcome {
    Begun(Box<BackupRow>),
    /// As many are under way as may be.
    Full,
    /// It may be otherwise soon.
    Later(String),
    Skipped(String),
    Failed(String),
}

/// What schedules are doing.
struct Load {
    running: Vec<Running>,
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

    fn of_repository(&self, profile: &Profile) -> usize {
        let place = profile.topology().map(|topology| topology.place());
        // Where nothing is known of a repository, nothing was sent to it.
        let Some(short_id) = place.ok().and_then(|place| self.repositories.get(&place)) else {
            return 0;
        };
        let to = |running: &&Running| {
            ids::repository_of(&running.snapshot_id) == Some(short_id.as_str())
        };
        self.active().filter(to).count()
    }
}

impl Manager {
    /// Begins and follows the backups of all runs, and tells when to look again.
    pub(super) async fn see_to_items(
        self: &Arc<Self>,
        now: Timestamp,
    ) -> Result<Timestamp, ManagerError> {
        let mut wake = Timestamp::MAX;
        let open = self.catalog.open_items().await?;
        if open.is_empty() {
            return Ok(wake);
        }
        let mut load = Load {
            running: self.catalog.running_scheduled().await?,
            repositories: self.catalog.repositories().await?.into_iter().collect(),
            full: BTreeSet::new(),
        };
        let schedules = self.catalog.schedules().await?;
        let schedules: BTreeMap<&str, &ScheduleRow> = schedules
            .iter()
            .map(|row| (row.name.as_str(), row))
            .collect();
        for (run, item) in open {
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
            if turn > now {
                wake = wake.min(turn);
                continue;
            }
            let outcome = match Spec::of_json(&row.spec) {
                Ok(spec) => self.begin_item(&spec, &run, &item, &load).await,
                Err(error) => Outcome::Failed(chain(&error)),
            };
            match &outcome {
                Outcome::Begun(backup) => load.running.extend(running(backup, &load)),
                Outcome::Full => load.full.extend([run.schedule]),
                _ => {}
            }
            wake = wake.min(self.note_item(outcome, item, now).await?);
        }
        Ok(wake)
    }

    /// Writes down what came of it, and tells when to look again.
    async fn note_item(
        &self,
        outcome: Outcome,
        mut item: ItemRow,
        now: Timestamp,
    ) -> Result<Timestamp, ManagerError> {
        let mut wake = Timestamp::MAX;
        let (state, message) = match outcome {
            Outcome::Full => return Ok(wake),
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

    async fn begin_item(
        self: &Arc<Self>,
        spec: &Spec,
        run: &RunRow,
        item: &ItemRow,
        load: &Load,
    ) -> Outcome {
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
            return Outcome::Skipped(format!("the backup before it, {}, is {what}", before.id));
        }
        let limits = &self.config.schedules;
        if load.full.contains(&run.schedule) || load.active().count() >= limits.backups_max {
            return Outcome::Full;
        }
        let profile = match self.backup_profile(&spec.profile).await {
            Ok(profile) => profile,
            Err(error) => return refused(spec, &error),
        };
        if load.of_repository(&profile) >= limits.per_repository_max {
            return Outcome::Full;
        }
        let request = api::CreateBackupRequest {
            name: item.backup_name.clone(),
            volume: item.volume_id.to_string(),
            profile: profile.name.clone(),
            force: !spec.skip_in_use,
            full: run.is_full,
            ..api::CreateBackupRequest::default()
        };
        match self.begin_backup_of(&run.schedule, request).await {
            Ok(backup) => Outcome::Begun(Box::new(backup)),
            Err(error) => refused(spec, &error),
        }
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

/// A backup that has just begun, unless it is known to be running.
fn running(backup: &BackupRow, load: &Load) -> Option<Running> {
    let is_known = load.running.iter().any(|known| known.id == backup.id);
    let is_under_way = backup.status == BackupStatus::Creating;
    (is_under_way && !is_known).then(|| Running {
        id: backup.id.clone(),
        name: backup.name.clone(),
        schedule: backup.schedule.clone().unwrap_or_default(),
        volume_id: backup.volume_id.clone(),
        snapshot_id: backup.snapshot_id.clone(),
        paused: backup.paused,
    })
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
