//! How many backups are under way, and what a volume that waits keeps from beginning.

use jiff::SignedDuration;
use stockpot_proto::stockpot::v1 as api;

use super::{
    Scene, a_moment, all, at, backing_up, named, named_volume, nightly, run_is_over, shown, until,
    volumes,
};
use crate::lab;

#[test]
fn limits_hold_and_the_next_run_takes_the_place_of_what_waits() {
    let scene = Scene::new(
        "2026-03-01T12:00:00Z",
        "{backupsMax: 2, perRepositoryMax: 9}",
    );
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        let ids = volumes(&scene.world, client, &["a", "b", "c", "d"]).await;
        // The repository is made by the first one.
        lab::backed_up(backups, &ids[0], "first", false).await;
        schedules.create_schedule(nightly()).await.unwrap();
        scene.world.faults.hold_call("put");
        let first = at("2026-03-02T01:30:00Z");
        scene.set(first);
        until("two are under way", async || {
            (backing_up(client).await == 2).then_some(())
        })
        .await;
        // Whoever asks for a backup himself does not wait for schedules.
        lab::back_up(backups, &ids[3], "by hand", false)
            .await
            .unwrap();
        a_moment().await;
        assert_eq!(backing_up(client).await, 3);
        let second = at("2026-03-03T01:30:00Z");
        scene.set(second);
        let seen = until("the second run has begun", async || {
            let seen = shown(schedules, "nightly").await;
            let is_second = seen.last_run_at.unwrap().seconds == second.as_second();
            (is_second && seen.last_skipped == 2).then_some(seen)
        })
        .await;
        let skipped = named_volume(&seen, "a");
        assert!(skipped.message.contains("still running"), "{skipped:?}");
        // It was left out, and nothing went wrong.
        assert_eq!((seen.last_failed, seen.last_error.as_str()), (0, ""));
        scene.world.faults.clear();
        let seen = until("the second run is over", async || {
            // While the backup by hand held its volume, that one was tried, and is tried again when the clock has moved on.
            scene.pass(SignedDuration::from_secs(1));
            let seen = shown(schedules, "nightly").await;
            (seen.last_running == 0).then_some(seen)
        })
        .await;
        assert_eq!((seen.last_ok, seen.last_skipped), (2, 2), "{seen:?}");
        let made = all(backups).await;
        // By hand twice, two of each run.
        assert_eq!(made.len(), 6);
        let of = |name: &str| {
            made.iter()
                .filter(|b| b.volume_name == name && !b.schedule.is_empty())
                .count()
        };
        assert_eq!(["a", "b", "c", "d"].map(of), [1, 1, 1, 1]);
    });
    managed.run.stop();
    scene.world.assert_tidy("at the end");
}

#[test]
fn a_cut_that_is_not_answered_keeps_one_volume_waiting() {
    let scene = Scene::new(
        "2026-03-01T12:00:00Z",
        "{backupsMax: 2, perRepositoryMax: 9}",
    );
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        let ids = volumes(&scene.world, client, &["a", "b", "c"]).await;
        let attach = api::AttachVolumeRequest {
            volume_id: ids[0].clone(),
            read_only: false,
            as_attached: false,
        };
        client.attach_volume(attach).await.unwrap();
        let one = api::Schedule {
            name: "one".to_owned(),
            volumes: vec!["a".to_owned()],
            ..nightly()
        };
        schedules.create_schedule(one).await.unwrap();
        let others = api::Schedule {
            name: "others".to_owned(),
            volumes: vec!["b".to_owned(), "c".to_owned()],
            occurrence: "Daily".to_owned(),
            ..api::Schedule::default()
        };
        scene.world.faults.hold_call("create_snapshot");
        let due = at("2026-03-02T01:30:00Z");
        scene.set(due);
        assert_eq!(scene.world.faults.happened().await, "create_snapshot");
        schedules.create_schedule(others).await.unwrap();
        // One after the other takes the place that is left.
        schedules.run_schedule(named("others")).await.unwrap();
        let seen = run_is_over(schedules, "others", due).await;
        assert_eq!(seen.last_ok, 2, "{seen:?}");
        assert_eq!(shown(schedules, "one").await.last_running, 1);
        // The next run leaves it out, and the first one has its backup all the same.
        let next = at("2026-03-03T01:30:00Z");
        scene.set(next);
        let seen = until("the next run leaves it out", async || {
            let seen = shown(schedules, "one").await;
            let is_next = seen.last_run_at.unwrap().seconds == next.as_second();
            (is_next && seen.last_skipped == 1 && seen.last_running == 0).then_some(seen)
        })
        .await;
        let why = &seen.last_volumes[0].message;
        assert!(why.contains("still running"), "{seen:?}");
        scene.world.faults.clear();
        until("it is made", async || {
            let made = all(backups).await;
            let of_a: Vec<_> = made.iter().filter(|b| b.volume_id == ids[0]).collect();
            assert_eq!(of_a.len(), 1, "{of_a:?}");
            (of_a[0].status() == api::BackupStatus::Available).then_some(())
        })
        .await;
    });
    managed.run.stop();
}
