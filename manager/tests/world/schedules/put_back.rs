//! A clock that was ahead, and is put back.

use stockpot_proto::stockpot::v1 as api;

use super::{Scene, all, at, nightly, run_is_over, shown, until, volumes};

#[test]
fn what_waits_for_its_turn_does_not_wait_as_long_as_the_clock_was_ahead() {
    let scene = Scene::new(
        "2027-03-01T12:00:00Z",
        "{backupsMax: 4, perRepositoryMax: 4}",
    );
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        volumes(&scene.world, client, &["a", "b", "c"]).await;
        let spread = api::Schedule {
            jitter_seconds: 24 * 3600,
            ..nightly()
        };
        schedules.create_schedule(spread).await.unwrap();
        let due = at("2027-03-02T01:30:00Z");
        scene.set(due);
        until("the run has begun", async || {
            let seen = shown(schedules, "nightly").await;
            (seen.last_running > 0).then_some(())
        })
        .await;
        // Before the schedule is due again.
        scene.set(at("2026-03-01T12:00:00Z"));
        let seen = run_is_over(schedules, "nightly", due).await;
        assert_eq!((seen.last_ok, seen.last_failed), (3, 0), "{seen:?}");
        assert_eq!(all(backups).await.len(), 3);
    });
    managed.run.stop();
    scene.world.assert_tidy("at the end");
}
