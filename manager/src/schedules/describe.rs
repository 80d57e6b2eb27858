//! Schedules in the words of the interface.

use jiff::Timestamp;
use stockpot_proto::stockpot::v1 as api;

use super::{
    keep::Judged,
    manage::not_there,
    moment,
    spec::{Keep, Spec},
};
use crate::{
    Manager, ManagerError,
    catalog::{ItemRow, ItemState, RunRow, ScheduleRow, ScheduleState},
    error::chain,
    profile::Occurrence,
    translate,
};

impl Manager {
    /// A schedule with what its newest run came to, and each volume of it; or the run of the id given.
    pub(crate) async fn show_schedule(
        &self,
        name: &str,
        run_id: Option<i64>,
    ) -> Result<api::Schedule, ManagerError> {
        let state = self.catalog.schedule_state(name, run_id).await?;
        let mut state = state.ok_or_else(|| not_there(name))?;
        if let Some(id) = run_id {
            if state.run.is_none() {
                let what = format!("run {id} of schedule {name:?}");
                return Err(ManagerError::NotFound(what));
            }
            // Who asks for a run is told of that one; why the next one cannot come is another matter.
            state.schedule.error = None;
        }
        self.describe_schedule(state)
    }

    /// All schedules with what their newest runs came to, without the volumes.
    pub(crate) async fn show_schedules(&self) -> Result<Vec<api::Schedule>, ManagerError> {
        let states = self.catalog.schedule_states().await?.into_iter();
        let shown = states.map(|state| {
            let mut schedule = self.describe_schedule(state)?;
            schedule.last_volumes.clear();
            Ok(schedule)
        });
        shown.collect()
    }

    fn describe_schedule(&self, state: ScheduleState) -> Result<api::Schedule, ManagerError> {
        let ScheduleState { schedule: row, run } = state;
        let spec = Spec::of_json(&row.spec)?;
        let next = self.next_run(&row, &spec);
        let mut schedule = translate_spec(&row, spec);
        schedule.next_run_at = next.map(|at| translate::timestamp(at.as_microsecond()));
        if let Some((run, items)) = run {
            describe_run(&mut schedule, run, items);
        }
        if let Some(error) = row.error {
            schedule.last_error = error;
        }
        Ok(schedule)
    }

    fn next_run(&self, row: &ScheduleRow, spec: &Spec) -> Option<Timestamp> {
        if row.paused || row.error.is_some() {
            return None;
        }
        // What is overdue is due now.
        let now = self.clock.now();
        let next = spec
            .times()
            .ok()?
            .next_after(moment(row.seen_us).min(now))?;
        Some(next.max(now))
    }
}

fn describe_run(schedule: &mut api::Schedule, run: RunRow, items: Vec<ItemRow>) {
    let count = |wanted: &[ItemState]| {
        let found = items.iter().filter(|item| wanted.contains(&item.state));
        u32::try_from(found.count()).unwrap_or(u32::MAX)
    };
    schedule.last_run_id = run.id;
    schedule.last_run_at = Some(translate::timestamp(run.began_at_us));
    schedule.last_run_ended_at = run.ended_at_us.map(translate::timestamp);
    schedule.last_ok = count(&[ItemState::Done]);
    schedule.last_failed = count(&[ItemState::Failed]);
    schedule.last_skipped = count(&[ItemState::Skipped]);
    schedule.last_running = count(&[ItemState::Waiting, ItemState::Begun]);
    schedule.last_error = run
        .error
        .or_else(|| first_message(&items))
        .unwrap_or_default();
    schedule.last_volumes = items.into_iter().map(translate_item).collect();
}

fn translate_spec(row: &ScheduleRow, spec: Spec) -> api::Schedule {
    api::Schedule {
        name: row.name.clone(),
        version: row.version(),
        calendar: spec.calendar,
        datetime: spec.datetime,
        occurrence: spec
            .occurrence
            .map(Occurrence::word)
            .unwrap_or_default()
            .to_owned(),
        time_zone: spec.time_zone,
        volumes: spec.volumes,
        selector: spec.selector.into_iter().collect(),
        profile: spec.profile,
        full_every: spec.full_every,
        jitter_seconds: spec.jitter_s,
        retention: (spec.keep != Keep::default()).then_some(api::Retention {
            keep_last: spec.keep.last,
            keep_daily: spec.keep.daily,
            keep_weekly: spec.keep.weekly,
            keep_monthly: spec.keep.monthly,
            keep_yearly: spec.keep.yearly,
            keep_days: spec.keep.days,
        }),
        paused: row.paused,
        skip_in_use: spec.skip_in_use,
        created_at: Some(translate::timestamp(row.created_at_us)),
        ..api::Schedule::default()
    }
}

/// What failed comes before what waits. What was left out on purpose is no error: it stands with its volume.
fn first_message(items: &[ItemRow]) -> Option<String> {
    let of = |state: ItemState| {
        let found = items
            .iter()
            .find(|item| item.state == state && item.message.is_some());
        found.map(|item| {
            let message = item.message.clone().unwrap_or_default();
            format!("volume {}: {message}", item.volume_name)
        })
    };
    of(ItemState::Failed).or_else(|| of(ItemState::Waiting))
}

fn translate_item(item: ItemRow) -> api::ScheduledVolume {
    api::ScheduledVolume {
        volume_id: item.volume_id.to_string(),
        volume_name: item.volume_name,
        state: item.state.to_string(),
        backup_id: item.backup_id.unwrap_or_default(),
        message: item.message.unwrap_or_default(),
    }
}

/// What retention made of a backup.
pub(crate) fn translate_judged(schedule: &str, judged: Judged) -> api::Retained {
    let Judged {
        backup,
        stays,
        why,
        error,
    } = judged;
    api::Retained {
        schedule: schedule.to_owned(),
        volume_id: backup.volume_id.to_string(),
        volume_name: backup.volume_name,
        backup_id: backup.id,
        cut_at: backup.cut_at_us.map(translate::timestamp),
        kept: stays,
        why,
        error: error.as_ref().map(|error| chain(error)).unwrap_or_default(),
    }
}
