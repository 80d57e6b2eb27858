//! Two months of fifty volumes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use stockpot_proto::stockpot::v1::{self as api, BackupStatus};

use super::{Managed, Scene, all, at, backing_up, nightly, shown, until, volumes};
use crate::lab;

const VOLUMES: usize = 50;
const DAYS: i64 = 60;
/// Four backups at a time, of which three to one repository: there is one.
const LIMITS: &str = "{backupsMax: 4, perRepositoryMax: 3}";
const AT_A_TIME: usize = 3;

/// What becomes of the manager on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    GoesOn,
    /// It is stopped and started before the night.
    Restarted,
    /// It is killed in the middle of the run.
    Killed,
    /// It is not there at night.
    Away,
}

fn fate(day: i64) -> Fate {
    match day % 15 {
        4 => Fate::Restarted,
        7 => Fate::Killed,
        // Three nights, one of them the one in which the clocks change.
        11..=13 => Fate::Away,
        _ => Fate::GoesOn,
    }
}

/// Waits for the end of the run of a day, and watches the limit meanwhile; returns the most backups at a time.
fn see_it_end(scene: &Scene, managed: &mut Managed, began: Timestamp, day: i64) -> usize {
    managed.block_on(async |client, _, schedules| {
        let mut most = 0;
        let schedule = until("the run of the day", async || {
            most = most.max(backing_up(client).await);
            if fate(day) == Fate::Killed {
                // What is tried again is tried when the clock has moved on.
                scene.pass(SignedDuration::from_secs(1));
            }
            let schedule = shown(schedules, "nightly").await;
            let last = schedule.last_run_at.map(|at| at.seconds);
            (last == Some(began.as_second()) && schedule.last_running == 0).then_some(schedule)
        })
        .await;
        assert_eq!(
            schedule.last_ok as usize, VOLUMES,
            "day {day}: {schedule:?}"
        );
        assert_eq!(schedule.last_error, "", "day {day}");
        assert!(most <= AT_A_TIME, "day {day}: {most} at a time");
        most
    })
}

/// The nights whose backups stay: of the newest two, and of the newest three weeks.
fn kept(nights: &[Date]) -> BTreeSet<Date> {
    let newest_first = || nights.iter().rev().copied();
    let mut weeks = BTreeMap::new();
    for night in newest_first() {
        let week = night.iso_week_date();
        weeks.entry((week.year(), week.week())).or_insert(night);
    }
    newest_first()
        .take(2)
        .chain(weeks.into_values().rev().take(3))
        .collect()
}

#[test]
fn fifty_volumes_over_two_months_with_restarts() {
    let begin = at("2026-03-01T12:00:00Z");
    let scene = Scene::new("2026-03-01T12:00:00Z", LIMITS);
    let mut managed = scene.start();
    managed.block_on(async |client, _, schedules| {
        let names: Vec<String> = (0..VOLUMES).map(|n| format!("data-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        volumes(&scene.world, client, &names).await;
        let schedule = api::Schedule {
            retention: Some(api::Retention {
                keep_last: 2,
                keep_weekly: 3,
                ..api::Retention::default()
            }),
            ..nightly()
        };
        schedules.create_schedule(schedule).await.unwrap();
    });
    let mut managed = Some(managed);
    let (mut nights, mut most) = (Vec::new(), 0);
    for day in 1..=DAYS {
        // Noon, when the night's run, at whatever hour of UTC, was due.
        let now = begin + SignedDuration::from_hours(24 * day);
        let fate = fate(day);
        if fate == Fate::Restarted || fate == Fate::Away {
            managed
                .take()
                .into_iter()
                .for_each(|managed| managed.run.stop());
        }
        if fate == Fate::Away {
            scene.set(now);
            continue;
        }
        let is_back = managed.is_none() && fate == Fate::GoesOn;
        let mut running = match managed.take() {
            Some(running) => running,
            None => {
                if is_back {
                    // What was missed is caught up by one run, at the start.
                    scene.set(now);
                }
                scene.start()
            }
        };
        scene.set(now);
        if fate == Fate::Killed {
            running.block_on(async |client, _, _| {
                until("it is in the middle of it", async || {
                    (backing_up(client).await > 0).then_some(())
                })
                .await;
            });
            running.run.kill();
            running = scene.start();
        }
        most = most.max(see_it_end(&scene, &mut running, now, day));
        nights.push(now.to_zoned(TimeZone::UTC).date());
        managed = Some(running);
    }
    assert_eq!(most, AT_A_TIME, "the limits were reached and never passed");
    let mut managed = managed.unwrap();
    check_what_is_left(&mut managed, &kept(&nights));
    managed.run.stop();
    scene.world.assert_tidy("after two months");
    assert!(scene.world.storage.leftovers().snapshots.is_empty());
}

fn check_what_is_left(managed: &mut Managed, nights: &BTreeSet<Date>) {
    assert!(nights.len() >= 3);
    managed.block_on(async |client, backups, schedules| {
        // Retention comes after the last backup of a run.
        let left = until("only what is kept is left", async || {
            let left = all(backups).await;
            (left.len() <= VOLUMES * nights.len()).then_some(left)
        })
        .await;
        let mut by_volume: BTreeMap<String, BTreeSet<Date>> = BTreeMap::new();
        for backup in &left {
            assert_eq!(backup.status(), BackupStatus::Available, "{backup:?}");
            assert_eq!(backup.schedule, "nightly");
            let cut = Timestamp::from_second(backup.cut_at.unwrap().seconds).unwrap();
            let of_volume = by_volume.entry(backup.volume_id.clone()).or_default();
            assert!(
                of_volume.insert(cut.to_zoned(TimeZone::UTC).date()),
                "twice: {backup:?}"
            );
        }
        assert_eq!(by_volume.len(), VOLUMES);
        for of_volume in by_volume.values() {
            assert_eq!(of_volume, nights);
        }
        // The bucket has these, and no others.
        let listed = lab::list(client).await;
        assert_eq!(listed.len(), left.len());
        // Judged again, all of it stays.
        let request = api::ApplyRetentionRequest {
            schedule: "nightly".to_owned(),
            dry_run: true,
        };
        let judged = schedules.apply_retention(request).await.unwrap();
        let judged = judged.into_inner().items;
        assert_eq!(judged.len(), left.len());
        assert!(judged.iter().all(|item| item.kept), "{judged:?}");
    });
}
