//! What callers ask of schedules.

use std::sync::Arc;

use jiff::{Timestamp, Unit};
use stockpot_proto::stockpot::v1 as api;

use super::{
    describe::translate_judged,
    profiles::is_gone,
    spec::{Spec, check_name, profile_of_name},
};
use crate::{Manager, ManagerError, catalog::ScheduleRow};

/// Trials to change a row that runs change as well.
const TRIES: usize = 5;

impl Manager {
    /// Writes a new schedule, or finds the one that says the same.
    pub(crate) async fn create_schedule(
        self: Arc<Self>,
        request: api::Schedule,
    ) -> Result<ScheduleRow, ManagerError> {
        check_name(&request.name)?;
        let spec = Spec::of_request(&request)?;
        if let Some(row) = self.catalog.schedule(&request.name).await? {
            return again(row, &spec);
        }
        let now = self.clock.now();
        spec.check(now)?;
        self.check_profile(&spec).await?;
        let row = ScheduleRow {
            name: request.name,
            spec: spec.to_json(),
            paused: request.paused,
            seen_us: now.as_microsecond(),
            error: None,
            created_at_us: now.as_microsecond(),
        };
        match self.catalog.insert_schedule(row.clone()).await {
            Ok(()) => {}
            // Somebody else was faster.
            Err(error) if error.is_taken() => {
                return again(self.schedule_row(&row.name).await?, &spec);
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(schedule = row.name, "a schedule was made");
        self.notify();
        Ok(row)
    }

    /// Replaces what a schedule says. Of a profile's schedule only whether it is paused is not the profile's.
    pub(crate) async fn update_schedule(
        self: Arc<Self>,
        request: api::Schedule,
    ) -> Result<ScheduleRow, ManagerError> {
        let said = Spec::of_request(&request)?;
        for _ in 0..TRIES {
            let before = self.schedule_row(&request.name).await?;
            if !request.version.is_empty() && request.version != before.version() {
                return Err(changing(&request.name));
            }
            let old = Spec::of_json(&before.spec)?;
            let mut spec = said.clone();
            spec.of_profile = old.of_profile;
            if let Some(profile) = profile_of_name(&before.name)
                && spec != old
            {
                return Err(of_profile(&before.name, profile));
            }
            let now = self.clock.now();
            if spec != old {
                spec.check(now)?;
                self.check_profile(&spec).await?;
            }
            // While it was at rest, or said other times, nothing was missed.
            let begins = spec.differs_in_time(&old) || (before.paused && !request.paused);
            let after = ScheduleRow {
                spec: spec.to_json(),
                paused: request.paused,
                seen_us: match begins {
                    true => now.as_microsecond(),
                    false => before.seen_us,
                },
                error: before.error.clone().filter(|_| old.of_profile),
                ..before.clone()
            };
            if after == before {
                return Ok(after);
            }
            if self.catalog.update_schedule(before, after.clone()).await? {
                tracing::info!(
                    schedule = after.name,
                    paused = after.paused,
                    "a schedule was changed"
                );
                self.notify();
                return Ok(after);
            }
        }
        Err(changing(&request.name))
    }

    /// Forgets a schedule; its backups stay. One that is not there is success.
    pub(crate) async fn delete_schedule(&self, name: &str) -> Result<(), ManagerError> {
        let Some(row) = self.catalog.schedule(name).await? else {
            return Ok(());
        };
        if let Some(profile) = profile_of_name(&row.name)
            && !matches!(self.clouds.profile(profile).await, Err(error) if is_gone(&error))
        {
            return Err(of_profile(&row.name, profile));
        }
        self.catalog.remove_schedule(name).await?;
        tracing::info!(schedule = name, "a schedule was deleted");
        self.notify();
        Ok(())
    }

    /// Begins a run now: its id. Asked for twice in one second it is one.
    pub(crate) async fn run_schedule(&self, name: &str) -> Result<i64, ManagerError> {
        for _ in 0..TRIES {
            let row = self.schedule_row(name).await?;
            if row.paused {
                return Err(ManagerError::FailedPrecondition(format!(
                    "schedule {name:?} is paused: resume it first"
                )));
            }
            if let Some(error) = &row.error {
                return Err(ManagerError::FailedPrecondition(format!(
                    "schedule {name:?} cannot run: {error}"
                )));
            }
            let spec = Spec::of_json(&row.spec)?;
            let now = self.clock.now();
            let due = second_of(now);
            let run = self.new_run(&row, &spec, due, now, false).await?;
            if run.items.is_empty() {
                return Err(ManagerError::FailedPrecondition(format!(
                    "schedule {name:?} acts on no volume that is there now"
                )));
            }
            if let Some(id) = self.catalog.begin_run(run).await? {
                self.notify();
                return Ok(id);
            }
            let due_at_us = due.as_microsecond();
            if let Some(id) = self.catalog.run_due_at(name, due_at_us).await? {
                return Ok(id);
            }
        }
        Err(changing(name))
    }

    /// Carries out the retention of one schedule, or of all.
    pub(crate) async fn apply_retention(
        self: Arc<Self>,
        request: api::ApplyRetentionRequest,
    ) -> Result<Vec<api::Retained>, ManagerError> {
        let rows = match request.schedule.as_str() {
            "" => self.catalog.schedules().await?,
            name => vec![self.schedule_row(name).await?],
        };
        let mut items = Vec::new();
        for row in rows {
            let judged = self.retain(&row, request.dry_run).await?;
            items.extend(
                judged
                    .into_iter()
                    .map(|one| translate_judged(&row.name, one)),
            );
        }
        Ok(items)
    }

    /// The row of a schedule that has to be there.
    pub(crate) async fn schedule_row(&self, name: &str) -> Result<ScheduleRow, ManagerError> {
        let row = self.catalog.schedule(name).await?;
        row.ok_or_else(|| not_there(name))
    }

    /// Refuses a schedule whose backups would have no place.
    async fn check_profile(&self, spec: &Spec) -> Result<(), ManagerError> {
        self.backup_profile(&spec.profile).await?.topology()?;
        Ok(())
    }
}

pub(super) fn not_there(name: &str) -> ManagerError {
    ManagerError::NotFound(format!("schedule {name:?}"))
}

fn again(row: ScheduleRow, spec: &Spec) -> Result<ScheduleRow, ManagerError> {
    if Spec::of_json(&row.spec)? == *spec {
        return Ok(row);
    }
    Err(ManagerError::AlreadyExists {
        what: format!("schedule {:?}", row.name),
        difference: "content; update it",
    })
}

fn of_profile(name: &str, profile: &str) -> ManagerError {
    ManagerError::FailedPrecondition(format!(
        "schedule {name:?} is what profile {profile:?} says: change the profile; here it can be paused"
    ))
}

fn changing(name: &str) -> ManagerError {
    ManagerError::Busy(format!(
        "schedule {name:?} is just changing: look at it and ask again"
    ))
}

fn second_of(now: Timestamp) -> Timestamp {
    let rounding = jiff::TimestampRound::new()
        .smallest(Unit::Second)
        .mode(jiff::RoundMode::Floor);
    now.round(rounding).unwrap_or(now)
}
