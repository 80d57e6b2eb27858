//! Retention carried out: what no rule keeps is deleted, one backup after the other. A backup that was to go and could not is judged
//! again after the next run.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use stockpot_repository::{Repository, forget};

use super::{
    moment,
    retention::{self, Item, Verdict},
    spec::Spec,
};
use crate::{
    Manager, ManagerError,
    catalog::{BackupRow, BackupStatus, ScheduleRow},
    cloud::{self, Found},
    error::chain,
    ids,
};

/// Records of backups of one schedule that stay though there is no copy.
const RECORDS_KEPT: usize = 100;

/// A backup of a schedule, and what became of it.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) backup: BackupRow,
    pub(crate) stays: bool,
    /// What keeps it, or why it goes.
    pub(crate) why: String,
    /// It was to go, and could not.
    pub(crate) error: Option<ManagerError>,
}

/// What is to be told of a retention that did not do all it had to.
pub(crate) fn what_failed(judged: &[Judged]) -> Option<ManagerError> {
    let mut failed = judged
        .iter()
        .filter_map(|one| Some((one, one.error.as_ref()?)));
    let (first, error) = failed.next()?;
    Some(ManagerError::FailedPrecondition(format!(
        "{} of the backups could not be given up, first {}: {}",
        failed.count() + 1,
        first.backup.name,
        chain(error)
    )))
}

/// The repositories asked so far, by profile and short id, with the time there, or what came of asking.
type Asked = BTreeMap<(String, String), Result<(Repository, Timestamp), String>>;

impl Manager {
    /// Gives up what a schedule's retention does not keep of the backups that it made, or only tells what that would be.
    pub(crate) async fn retain(
        self: &Arc<Self>,
        schedule: &ScheduleRow,
        dry_run: bool,
    ) -> Result<Vec<Judged>, ManagerError> {
        let spec = Spec::of_json(&schedule.spec)?;
        let mut backups = self.catalog.backups_of_schedule(&schedule.name).await?;
        // Those of an earlier schedule of that name are not its own.
        backups.retain(|row| row.created_at_us >= schedule.created_at_us && is_judged(row));
        let items: Vec<Item> = backups.iter().map(item).collect();
        let verdicts = retention::plan(&items, spec.keep, self.clock.now());
        let staying: Vec<BackupRow> = backups
            .iter()
            .zip(&verdicts)
            .filter(|(row, verdict)| {
                row.status == BackupStatus::Available && **verdict != Verdict::Goes
            })
            .map(|(row, _)| row.clone())
            .collect();
        let mut asked = Asked::new();
        let mut judged = Vec::with_capacity(backups.len());
        for (backup, verdict) in backups.into_iter().zip(verdicts) {
            judged.push(match verdict {
                Verdict::Stays(why) => Judged {
                    backup,
                    stays: true,
                    why,
                    error: None,
                },
                Verdict::Goes => {
                    self.give_up_backup(backup, &staying, &mut asked, dry_run)
                        .await
                }
            });
        }
        Ok(judged)
    }

    async fn give_up_backup(
        self: &Arc<Self>,
        backup: BackupRow,
        staying: &[BackupRow],
        asked: &mut Asked,
        dry_run: bool,
    ) -> Judged {
        let going = async {
            if let Some(why) = self.what_keeps(&backup, staying, asked).await? {
                return Ok(Some(why));
            }
            if !dry_run {
                let id = backup.id.clone();
                self.to_the_end(self.clone().delete_backup(id)).await?;
                tracing::info!(
                    backup_id = backup.id,
                    name = backup.name,
                    "retention gave a backup up"
                );
            }
            Ok(None)
        };
        let (stays, why, error) = match going.await {
            Ok(Some(why)) => (true, why, None),
            Ok(None) => (false, "no rule keeps it".to_owned(), None),
            Err(error) => (false, "no rule keeps it".to_owned(), Some(error)),
        };
        Judged {
            backup,
            stays,
            why,
            error,
        }
    }

    /// What no rule of the schedule knows: a lock, and whether a newer copy of the volume is still there.
    async fn what_keeps(
        &self,
        backup: &BackupRow,
        staying: &[BackupRow],
        asked: &mut Asked,
    ) -> Result<Option<String>, ManagerError> {
        let (repository, now) = self.repository_and_time(backup, asked).await?;
        let found =
            cloud::look_up(&repository, Some(&backup.volume_id), &backup.snapshot_id).await?;
        match found {
            Found::Committed(manifest) => {
                if let Some(lock) = manifest.lock.filter(|lock| lock.until > now) {
                    return Ok(Some(format!("locked until {}", lock.until)));
                }
            }
            Found::Uploading => return Ok(Some("not committed".to_owned())),
            // Somebody was faster; what is left is cleared away.
            Found::Deleted | Found::Absent => {}
        }
        let order = |row: &BackupRow| (row.cut_at_us, row.ended_at_us, row.id.clone());
        let newer = staying
            .iter()
            .filter(|row| row.volume_id == backup.volume_id && order(row) > order(backup));
        for row in newer {
            let row = self.catalog.backup(&row.id).await?;
            let Some(row) = row.filter(|row| row.status == BackupStatus::Available) else {
                continue;
            };
            // Whoever has the bucket may have deleted that one.
            let (repository, _) = self.repository_and_time(&row, asked).await?;
            let found = cloud::look_up(&repository, Some(&row.volume_id), &row.snapshot_id).await?;
            if matches!(found, Found::Committed(_)) {
                return Ok(None);
            }
        }
        Ok(Some(
            "newest: those after it were deleted meanwhile".to_owned(),
        ))
    }

    /// The repository of a backup, from which it would be deleted too, and the time there. Where that and the time here are a day and
    /// more apart, one of them is wrong and no age can be told.
    async fn repository_and_time(
        &self,
        backup: &BackupRow,
        asked: &mut Asked,
    ) -> Result<(Repository, Timestamp), ManagerError> {
        let (profile, snapshot) = (&backup.profile, &backup.snapshot_id);
        let short_id = ids::repository_of(snapshot).unwrap_or_default();
        let key = (profile.clone(), short_id.to_owned());
        if let Some(known) = asked.get(&key) {
            return known.clone().map_err(ManagerError::FailedPrecondition);
        }
        let asking = async {
            let (_, repository) = self.repository_of_copy(profile, snapshot).await?;
            let now = forget::now(&repository).await?;
            forget::check_clocks(&repository, &[], now, self.clock.now())?;
            Ok::<_, ManagerError>((repository, now))
        };
        let answer = asking.await;
        let kept = answer
            .as_ref()
            .map(Clone::clone)
            .map_err(|error| chain(error));
        asked.insert(key, kept);
        answer
    }

    /// Forgets records of which nothing is left anywhere, since they would pile up: the oldest of backups that came to nothing, and
    /// where there is a retention all whose copy was deleted: a crash may have kept it from ending that.
    pub(super) async fn forget_what_is_gone(
        &self,
        schedule: &ScheduleRow,
    ) -> Result<(), ManagerError> {
        let keep = Spec::of_json(&schedule.spec)?.keep;
        let mut gone = self.catalog.backups_of_schedule(&schedule.name).await?;
        gone.retain(|row| row.cleaned);
        let (deleted, mut failed): (Vec<BackupRow>, Vec<BackupRow>) = gone
            .into_iter()
            .partition(|row| row.status == BackupStatus::Deleted);
        failed.retain(|row| matches!(row.status, BackupStatus::Error | BackupStatus::Cancelled));
        let deleted_max = match keep.policy().is_empty() {
            true => RECORDS_KEPT,
            false => 0,
        };
        for (rows, max) in [(deleted, deleted_max), (failed, RECORDS_KEPT)] {
            let too_many = rows.len().saturating_sub(max);
            for row in rows.into_iter().take(too_many) {
                self.catalog.remove_backup(&row.id).await?;
            }
        }
        Ok(())
    }
}

/// Whether there is, or may soon be, a copy.
fn is_judged(row: &BackupRow) -> bool {
    matches!(
        row.status,
        BackupStatus::Available | BackupStatus::Creating | BackupStatus::Cancelling
    )
}

fn item(row: &BackupRow) -> Item {
    let ended_at_us = row
        .ended_at_us
        .filter(|_| row.status == BackupStatus::Available);
    Item {
        volume_id: row.volume_id.clone(),
        snapshot_id: row.snapshot_id.clone(),
        cut_at: row.cut_at_us.map(moment),
        committed_at: ended_at_us.map(moment),
    }
}
