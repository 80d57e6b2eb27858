//! Due times that were missed, and clocks that jump.

use jiff::Timestamp;
use stockpot_proto::stockpot::v1 as api;

use super::{Scene, Schedules, WIDE, all, at, named, run_is_over, shown, until, volumes};
use crate::lab;

/// The clock is set, and the last run is still the one that began at `last`.
async fn assert_nothing_due(
    scene: &Scene,
    now: Timestamp,
    schedules: &mut Schedules,
    last: Timestamp,
) {
    scene.set(now);
    scene.clock.seen().await;
    let shown = shown(schedules, "hourly").await;
    assert_eq!(shown.last_run_at.unwrap().seconds, last.as_second());
}

#[test]
fn what_was_missed_is_caught_up_once_and_clocks_that_jump_make_no_flood() {
    let scene = Scene::new("2026-03-01T12:00:00Z", WIDE);
    let mut managed = scene.start();
    let count = async |backups: &mut lab::Backups| all(backups).await.len();
    managed.block_on(async |client, backups, schedules| {
        volumes(&scene.world, client, &["a"]).await;
        let hourly = api::Schedule {
            name: "hourly".to_owned(),
            occurrence: "Hourly".to_owned(),
            ..api::Schedule::default()
        };
        schedules.create_schedule(hourly).await.unwrap();
        // A year at once.
        let ahead = at("2027-03-01T12:10:00Z");
        scene.set(ahead);
        let seen = run_is_over(schedules, "hourly", ahead).await;
        assert_eq!(count(backups).await, 1);
        assert_eq!(
            seen.next_run_at.unwrap().seconds,
            at("2027-03-01T13:00:00Z").as_second()
        );
        // Back again: it goes on from there, and not in a year.
        scene.set(at("2026-03-01T12:20:00Z"));
        scene.clock.seen().await;
        let seen = shown(schedules, "hourly").await;
        assert_eq!(
            seen.next_run_at.unwrap().seconds,
            at("2026-03-01T13:00:00Z").as_second()
        );
        let due = at("2026-03-01T13:00:01Z");
        scene.set(due);
        until("the run", async || {
            (count(backups).await == 2).then_some(())
        })
        .await;
        // A little back: the hour that has been is not done again.
        for again in ["2026-03-01T12:59:00Z", "2026-03-01T13:00:30Z"] {
            assert_nothing_due(&scene, at(again), schedules, due).await;
        }
        assert_eq!(count(backups).await, 2);
        let paused = api::Schedule {
            paused: true,
            ..shown(schedules, "hourly").await
        };
        schedules.update_schedule(paused.clone()).await.unwrap();
        let refused = schedules.run_schedule(named("hourly")).await.unwrap_err();
        assert!(refused.message().contains("resume"), "{refused}");
        assert_nothing_due(&scene, at("2026-03-02T06:30:00Z"), schedules, due).await;
        assert_eq!(count(backups).await, 2);
        let resumed = api::Schedule {
            paused: false,
            version: String::new(),
            ..paused
        };
        let resumed = schedules
            .update_schedule(resumed)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            resumed.next_run_at.unwrap().seconds,
            at("2026-03-02T07:00:00Z").as_second()
        );
        assert_eq!(count(backups).await, 2);
        // By hand, beside what is due.
        schedules.run_schedule(named("hourly")).await.unwrap();
        schedules.run_schedule(named("hourly")).await.unwrap();
        let seen = run_is_over(schedules, "hourly", at("2026-03-02T06:30:00Z")).await;
        assert_eq!(seen.next_run_at, resumed.next_run_at);
        assert_eq!(count(backups).await, 3);
    });
    managed.run.stop();
}
