//! Schedules: backups that are made by themselves, and which of them are kept.
//!
//! A schedule comes from a caller, or from a profile that says when: that one acts on the volumes whose metadata `profile` or
//! `profileId` is the profile's name, and is called `profile:NAME`.
//!
//! | step | on record before it |
//! | --- | --- |
//! | a due time has come | the run, its volumes, and that the time is dealt with: in one transaction |
//! | a backup begins | its name, which follows from schedule, due time and volume: asking again finds it |
//! | a backup has ended | how, with the volume of the run |
//! | the run has ended | what retention gave up, each by the deletion of a backup, which goes on after a crash |
//!
//! What was missed, however often, is caught up by one run. What has its turn while the limits are reached waits; the next run of the
//! same schedule takes its place. A volume whose last scheduled backup has not ended is left out, with a word on record.
//!
//! Backups begin in tasks of their own, as many at a time as the limits allow: commands of a profile that hang, or a storage node that
//! is silent, keep one volume waiting and no other.
//!
//! Everything is found again in the catalog: [`look`](Manager::look_at_schedules) is run at the start, at each change and when
//! something is due, and may be broken off anywhere.

mod calendar;
mod clock;
mod describe;
mod due;
mod items;
mod keep;
mod manage;
mod profiles;
mod retention;
pub(crate) mod spec;
mod under_way;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};

pub use self::clock::{Clock, SystemClock};
use self::{
    items::Beginning,
    under_way::{Turn, UnderWay},
};
use crate::{Manager, ManagerError, catalog::RunRow, error::chain};

/// How often profiles and rows are looked at when nothing is due.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Pause after a look that failed.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// Runs of one schedule that stay on record.
const RUNS_KEPT: u32 = 100;

/// What is being done for schedules in this process.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    /// Runs that are being ended.
    ending: UnderWay<i64, ()>,
    /// Backups that are being begun, by name.
    beginning: UnderWay<String, Beginning>,
    /// Schedules whose profile is not there any more, and since when.
    missing: Mutex<BTreeMap<String, Timestamp>>,
}

/// A moment as the catalog has it.
pub(crate) fn moment(us: i64) -> Timestamp {
    Timestamp::from_microsecond(us).unwrap_or(match us < 0 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    })
}

impl Manager {
    /// Looks after schedules until the manager stops.
    pub(crate) fn start_schedules(self: &Arc<Self>) {
        let manager = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = manager.stopping.cancelled() => {}
                () = manager.see_to_schedules() => {}
            }
        });
    }

    async fn see_to_schedules(self: &Arc<Self>) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            // Before the look: what the clock does meanwhile is not missed.
            let now = self.clock.now();
            let (wake, at_most) = match self.look_at_schedules(now).await {
                Ok(wake) => (wake, LOOK_EVERY),
                Err(error) => {
                    tracing::error!(error = chain(&error), "schedules cannot be looked after");
                    (Timestamp::MAX, AGAIN)
                }
            };
            let wake = wake.min(now.saturating_add(at_most).unwrap_or(Timestamp::MAX));
            tokio::select! {
                () = self.clock.sleep(now, wake) => {}
                // The sender lives as long as the manager.
                _ = changes.changed() => {}
            }
        }
    }

    /// Does what is to be done now, and tells when to look again at the latest.
    async fn look_at_schedules(
        self: &Arc<Self>,
        now: Timestamp,
    ) -> Result<Timestamp, ManagerError> {
        let idle = self.follow_profiles(now).await?;
        let mut wake = Timestamp::MAX;
        for row in self.catalog.schedules().await? {
            if !row.paused && !idle.contains(&row.name) {
                wake = wake.min(self.begin_what_is_due(row, now).await?);
            }
        }
        wake = wake.min(self.see_to_items(now).await?);
        for run in self.catalog.runs_to_end().await? {
            if let Some(turn) = self.schedules.ending.take(run.id, ()) {
                let manager = self.clone();
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = manager.stopping.cancelled() => {}
                        () = manager.end_of_run(run, turn) => {}
                    }
                });
            }
        }
        Ok(wake)
    }

    /// Retention, then the end of a run. What cannot be given up now is judged again after the next run.
    async fn end_of_run(self: &Arc<Self>, mut run: RunRow, turn: Turn<i64, ()>) {
        let ending = async {
            if let Some(schedule) = self.catalog.schedule(&run.schedule).await? {
                let retained = self.retain(&schedule, false).await;
                let said =
                    retained.and_then(|judged| keep::what_failed(&judged).map_or(Ok(()), Err));
                if let Err(error) = said {
                    let text = format!("retention: {}", chain(&error));
                    tracing::warn!(schedule = run.schedule, error = text, "not all is given up");
                    run.error = Some(text);
                }
                self.forget_what_is_gone(&schedule).await?;
            }
            let now = self.clock.now().as_microsecond();
            self.catalog.end_run(run, now, RUNS_KEPT).await?;
            Ok::<_, ManagerError>(())
        };
        let ended = ending.await;
        drop(turn);
        match ended {
            Ok(()) => self.notify(),
            // The next look finds it again: not at once.
            Err(error) => tracing::error!(
                error = chain(&error),
                "a run of a schedule cannot be ended yet"
            ),
        }
    }
}
