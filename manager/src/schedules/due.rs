//! From a due time to a run with its volumes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{moment, spec::Spec};
use crate::{
    Manager, ManagerError,
    catalog::{ItemRow, ItemState, NewRun, ScheduleRow, VolumeRow},
};

/// A clock that is put back by no more than this is waited for. One that was wrong by more starts schedules anew: they
/// would stand still for as long as it was ahead.
pub(super) const PUT_BACK_AT_MOST: SignedDuration = SignedDuration::from_hours(1);
/// How long a backup that cannot begin is tried, unless the next run comes first.
const TRIED_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Longest start of a backup's name, in bytes: with the time and an id it stays below what a name may have.
const STEM_LEN_MAX: usize = 40;

impl Manager {
    /// Begins the run of a schedule if one is due: one, whatever was missed. Tells when the next one is.
    pub(super) async fn begin_what_is_due(
        self: &Arc<Self>,
        mut row: ScheduleRow,
        now: Timestamp,
    ) -> Result<Timestamp, ManagerError> {
        let times = match Spec::of_json(&row.spec).and_then(|spec| Ok((spec.times()?, spec))) {
            Ok(times) => times,
            Err(error) => {
                // A time zone that this host does not know any more, say.
                self.note_problem(row, error.to_string()).await?;
                return Ok(Timestamp::MAX);
            }
        };
        let (times, spec) = times;
        if moment(row.seen_us).duration_since(now) > PUT_BACK_AT_MOST {
            tracing::warn!(schedule = row.name, seen = %moment(row.seen_us), %now, "the clock was put back");
            let mut after = row.clone();
            after.seen_us = now.as_microsecond();
            if !self.catalog.update_schedule(row, after.clone()).await? {
                return Ok(now);
            }
            row = after;
        }
        if let Some(due) = times.latest(moment(row.seen_us), now) {
            let run = self.new_run(&row, &spec, due, now, true).await?;
            let (name, volumes) = (row.name, run.items.len());
            if self.catalog.begin_run(run).await?.is_some() {
                tracing::info!(schedule = name, %due, volumes, "a run of a schedule begins");
            }
        }
        Ok(times.next_after(now).unwrap_or(Timestamp::MAX))
    }

    async fn note_problem(&self, row: ScheduleRow, text: String) -> Result<(), ManagerError> {
        if row.error.as_ref() == Some(&text) {
            return Ok(());
        }
        tracing::error!(schedule = row.name, error = text, "a schedule cannot run");
        let after = ScheduleRow {
            error: Some(text),
            ..row.clone()
        };
        self.catalog.update_schedule(row, after).await?;
        Ok(())
    }

    /// A run of all volumes that the schedule acts on now.
    pub(super) async fn new_run(
        &self,
        row: &ScheduleRow,
        spec: &Spec,
        due: Timestamp,
        now: Timestamp,
        is_due: bool,
    ) -> Result<NewRun, ManagerError> {
        let volumes = self.catalog.volumes().await?;
        // What a stream receives for another volume is nobody's to back up.
        let spares = self.catalog.spare_volumes().await?;
        let is_taken = |volume: &&VolumeRow| spec.takes(volume) && !spares.contains(&volume.id);
        let volumes = volumes.iter().filter(is_taken);
        // Who asks for a run wants it now.
        let jitter_s = if is_due { spec.jitter_s } else { 0 };
        let items = volumes.map(|volume| item(&row.name, volume, due, now, jitter_s));
        Ok(NewRun {
            items: items.collect(),
            schedule: row.clone(),
            due_at_us: due.as_microsecond(),
            is_due,
            full_every: spec.full_every,
            began_at_us: now.as_microsecond(),
        })
    }
}

fn item(
    schedule: &str,
    volume: &VolumeRow,
    due: Timestamp,
    now: Timestamp,
    jitter_s: u32,
) -> ItemRow {
    let backup_name = backup_name(schedule, due, volume.id.as_str());
    let not_before = now + delay(&backup_name, jitter_s);
    ItemRow {
        run_id: 0,
        volume_id: volume.id.clone(),
        volume_name: volume.name.clone(),
        backup_name,
        not_before_us: not_before.as_microsecond(),
        give_up_at_us: (not_before + TRIED_FOR).as_microsecond(),
        state: ItemState::Waiting,
        backup_id: None,
        message: None,
    }
}

/// Follows from what it is a backup of: whoever asks again after a crash finds it.
fn backup_name(schedule: &str, due: Timestamp, volume: &str) -> String {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let mut stem: String = schedule.chars().filter(|c| sound(*c)).collect();
    if stem != schedule || stem.len() > STEM_LEN_MAX {
        let hash = blake3::hash(schedule.as_bytes()).to_hex();
        stem.truncate(STEM_LEN_MAX - 9);
        stem = format!("{stem}-{}", &hash[..8]);
    }
    let due = due.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
    format!("{stem}-{due}-{volume}")
}

/// Spreads backups over the time given: at random, and the same when asked again.
fn delay(backup_name: &str, jitter_s: u32) -> SignedDuration {
    let hash = blake3::hash(backup_name.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    let number = u64::from(u32::from_be_bytes([a, b, c, d]));
    let share = (number * (u64::from(jitter_s) * 1000 + 1)) >> 32;
    SignedDuration::from_millis(i64::try_from(share).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::request;

    #[test]
    fn names_of_backups_are_names_and_their_own() {
        let due: Timestamp = "2026-11-21T18:35:00Z".parse().unwrap();
        let volume = "v".repeat(63);
        let mut names = BTreeSet::new();
        for schedule in [
            "nightly",
            "profile:gold",
            &"x".repeat(63),
            &format!("{}y", "x".repeat(62)),
            "profile:ä",
            "profile:ö\n",
            &format!("profile:{}", "ü".repeat(60)),
        ] {
            let name = backup_name(schedule, due, &volume);
            request::check_name(&name).unwrap();
            assert!(names.insert(name));
        }
        assert_eq!(
            backup_name("nightly", due, "vol-1"),
            "nightly-20261121T183500Z-vol-1"
        );
    }

    #[test]
    fn delays_are_spread_over_the_time_and_not_beyond() {
        assert_eq!(delay("any", 0), SignedDuration::ZERO);
        let delays: Vec<_> = (0..200).map(|n| delay(&format!("b-{n}"), 600)).collect();
        let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        assert!(*least < SignedDuration::from_secs(60), "{least}");
        assert!(*most > SignedDuration::from_secs(540), "{most}");
        assert!(*most <= SignedDuration::from_secs(600), "{most}");
        assert_eq!(delay("b-7", 600), delays[7]);
    }
}
