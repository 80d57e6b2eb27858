//! What callers ask of schedules, and what they are refused.

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use stockpot_manager::{
    Parts,
    fakes::{FakeHost, FakeStorage},
};
use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{Scene, all, at, backing_up, named, nightly, run_is_over, shown, until, volumes};
use crate::lab::{self, Run};

const WIDE: &str = "{backupsMax: 100, perRepositoryMax: 100}";

/// Long enough for a manager that would do something wrong.
async fn a_moment() {
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
}

fn named_volume<'a>(schedule: &'a api::Schedule, name: &str) -> &'a api::ScheduledVolume {
    let found = schedule
        .last_volumes
        .iter()
        .find(|one| one.volume_name == name);
    found.unwrap()
}

/// Nightly, and only the newest is kept.
fn keeping_one() -> api::Schedule {
    api::Schedule {
        retention: Some(api::Retention {
            keep_last: 1,
            ..api::Retention::default()
        }),
        ..nightly()
    }
}

fn apply() -> api::ApplyRetentionRequest {
    api::ApplyRetentionRequest {
        schedule: "nightly".to_owned(),
        dry_run: false,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn what_is_asked_again_is_the_same_and_mistakes_leave_nothing() {
    let scene = Scene::new("2026-03-01T12:00:00Z", WIDE);
    lab::write_profile(scene.world.dir.path(), "other", "{bucket: elsewhere}");
    let mut managed = scene.start();
    managed.block_on(async |_, _, schedules| {
        let wanted = api::Schedule {
            profile: "offsite".to_owned(),
            ..nightly()
        };
        for (said, change) in [
            (
                "name",
                (|s| s.name = "a b".to_owned()) as fn(&mut api::Schedule),
            ),
            ("name", |s| s.name = "profile:x".to_owned()),
            ("say when", |s| s.calendar.clear()),
            ("Europe/Berlin", |s| s.time_zone = "Mars/Olympus".to_owned()),
            ("minute apart", |s| s.calendar = "* * * * * *".to_owned()),
            ("there is no profile", |s| s.profile = "nowhere".to_owned()),
            ("several profiles", |s| s.profile.clear()),
            ("too long", |s| s.jitter_seconds = 1_000_000),
        ] {
            let mut wrong = wanted.clone();
            change(&mut wrong);
            let refused = schedules.create_schedule(wrong).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
            assert!(refused.message().contains(said), "{said}: {refused}");
        }
        let listed = schedules.list_schedules(api::ListSchedulesRequest {}).await;
        assert!(listed.unwrap().into_inner().schedules.is_empty());
        for _ in 0..2 {
            let made = schedules.create_schedule(wanted.clone()).await.unwrap();
            let next = made.into_inner().next_run_at.unwrap();
            assert_eq!(next.seconds, at("2026-03-02T01:30:00Z").as_second());
        }
        let mut different = wanted.clone();
        different.full_every = 7;
        let refused = schedules
            .create_schedule(different.clone())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
        let before = shown(schedules, "nightly").await;
        let changed = schedules.update_schedule(different).await.unwrap();
        assert_eq!(changed.into_inner().full_every, 7);
        // Who read it before that undoes nothing.
        let late = api::Schedule {
            paused: true,
            ..before
        };
        let refused = schedules.update_schedule(late).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
        let now = shown(schedules, "nightly").await;
        assert_eq!((now.full_every, now.paused), (7, false));
        different = wanted.clone();
        different.calendar = "nonsense".to_owned();
        let refused = schedules.update_schedule(different).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!(shown(schedules, "nightly").await.full_every, 7);
        // Nothing is there to back up.
        let refused = schedules.run_schedule(named("nightly")).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        for name in ["nightly", "nightly", "never"] {
            schedules.delete_schedule(named(name)).await.unwrap();
        }
        for refused in [
            schedules.get_schedule(named("nightly")).await.unwrap_err(),
            schedules.run_schedule(named("nightly")).await.unwrap_err(),
            schedules.update_schedule(nightly()).await.unwrap_err(),
        ] {
            assert_eq!(refused.code(), Code::NotFound, "{refused}");
        }
    });
    managed.run.stop();
}

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
            (seen.last_skipped == 1 && seen.last_running == 0).then_some(seen)
        })
        .await;
        assert_eq!(seen.last_run_at.unwrap().seconds, next.as_second());
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
        a_moment().await;
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
        scene.set(at("2026-03-01T12:59:00Z"));
        a_moment().await;
        scene.set(at("2026-03-01T13:00:30Z"));
        a_moment().await;
        assert_eq!(count(backups).await, 2);
        let paused = api::Schedule {
            paused: true,
            ..shown(schedules, "hourly").await
        };
        schedules.update_schedule(paused.clone()).await.unwrap();
        let refused = schedules.run_schedule(named("hourly")).await.unwrap_err();
        assert!(refused.message().contains("resume"), "{refused}");
        scene.set(at("2026-03-02T06:30:00Z"));
        a_moment().await;
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

#[test]
fn which_volumes_and_how_is_as_the_schedule_says() {
    let scene = Scene::new("2026-03-01T12:00:00Z", WIDE);
    let mut managed = scene.start();
    let ids = managed.block_on(async |client, backups, schedules| {
        let ids = volumes(&scene.world, client, &["db-1", "db-2", "web-1"]).await;
        let attach = api::AttachVolumeRequest {
            volume_id: ids[1].clone(),
            read_only: false,
            as_attached: false,
        };
        client.attach_volume(attach).await.unwrap();
        let databases = api::Schedule {
            name: "databases".to_owned(),
            volumes: vec!["db-*".to_owned()],
            jitter_seconds: 3600,
            full_every: 2,
            ..nightly()
        };
        let careful = api::Schedule {
            name: "careful".to_owned(),
            volumes: vec![ids[1].clone(), "web-1".to_owned()],
            skip_in_use: true,
            ..nightly()
        };
        schedules.create_schedule(databases).await.unwrap();
        schedules.create_schedule(careful).await.unwrap();
        let due = at("2026-03-02T01:30:00Z");
        scene.set(due);
        let seen = run_is_over(schedules, "careful", due).await;
        assert_eq!(
            (seen.last_ok, seen.last_skipped, seen.last_failed),
            (1, 1, 0)
        );
        let skipped = named_volume(&seen, "db-2");
        assert!(skipped.message.contains("in use"), "{skipped:?}");
        // The other one waits for its delays.
        assert_eq!(shown(schedules, "databases").await.last_running, 2);
        scene.pass(SignedDuration::from_hours(1));
        let seen = run_is_over(schedules, "databases", due).await;
        assert_eq!(seen.last_ok, 2, "{seen:?}");
        let made = all(backups).await;
        let in_use = made.iter().find(|b| b.volume_id == ids[1]).unwrap();
        assert!(in_use.from_snapshot, "{in_use:?}");
        assert!(
            in_use.name.starts_with("databases-20260302T013000Z-vol-"),
            "{in_use:?}"
        );
        ids
    });
    // A volume that is deleted between the run's begin and its turn is left out.
    managed.block_on(async |client, _, schedules| {
        let due = at("2026-03-03T01:30:00Z");
        scene.set(due);
        until("the run has begun", async || {
            let seen = shown(schedules, "databases").await;
            (seen.last_run_at.unwrap().seconds == due.as_second()).then_some(())
        })
        .await;
        run_is_over(schedules, "careful", due).await;
        lab::delete_volume(client, &ids[0]).await.unwrap();
        scene.pass(SignedDuration::from_hours(1));
        let seen = run_is_over(schedules, "databases", due).await;
        assert!(
            named_volume(&seen, "db-1").message.contains("gone"),
            "{seen:?}"
        );
    });
    managed.run.stop();
}

#[test]
fn a_bucket_that_does_not_answer_is_asked_again_and_gives_nothing_up() {
    let scene = Scene::new("2026-03-01T12:00:00Z", WIDE);
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        volumes(&scene.world, client, &["a"]).await;
        schedules.create_schedule(keeping_one()).await.unwrap();
        // Not even the repository is known.
        scene.world.stores.set_out_of_reach(true);
        let due = at("2026-03-02T01:30:00Z");
        scene.set(due);
        let waits = until("it waits", async || {
            let seen = shown(schedules, "nightly").await;
            (seen.last_running == 1 && !seen.last_error.is_empty()).then_some(seen)
        })
        .await;
        assert!(waits.last_error.contains("out of reach"), "{waits:?}");
        scene.world.stores.set_out_of_reach(false);
        scene.pass(SignedDuration::from_secs(31));
        assert_eq!(run_is_over(schedules, "nightly", due).await.last_ok, 1);
        // A second one, and the first is not to be had: it stays on record.
        schedules.run_schedule(named("nightly")).await.unwrap();
        until("one is left", async || {
            let left = all(backups).await;
            (left.len() == 1 && left[0].name.contains("T013031Z")).then_some(())
        })
        .await;
        scene.pass(SignedDuration::from_hours(1));
        scene.world.faults.hold_call("put");
        schedules.run_schedule(named("nightly")).await.unwrap();
        scene.world.faults.happened().await;
        // What is under way is no copy yet: the only one stays.
        let judged = schedules
            .apply_retention(apply())
            .await
            .unwrap()
            .into_inner()
            .items;
        assert!(judged.iter().all(|item| item.kept), "{judged:?}");
        assert!(
            judged.iter().any(|item| item.why == "not committed"),
            "{judged:?}"
        );
        scene.world.faults.clear();
        until("one is left", async || {
            let left = all(backups).await;
            (left.len() == 1 && left[0].name.contains("T023031Z")).then_some(())
        })
        .await;
    });
    managed.run.stop();
    scene.world.assert_tidy("at the end");
}

#[test]
fn where_clocks_are_days_apart_nothing_is_given_up() {
    let scene = Scene::new("2026-03-01T12:00:00Z", WIDE);
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        volumes(&scene.world, client, &["a"]).await;
        schedules.create_schedule(keeping_one()).await.unwrap();
        let due = at("2026-03-02T01:30:00Z");
        scene.set(due);
        assert_eq!(run_is_over(schedules, "nightly", due).await.last_ok, 1);
        // No age can be told.
        let apart = at("2026-03-12T12:00:00Z");
        scene.clock.set(apart);
        run_is_over(schedules, "nightly", apart).await;
        let seen = until("it is said", async || {
            let seen = shown(schedules, "nightly").await;
            (!seen.last_error.is_empty()).then_some(seen)
        })
        .await;
        assert!(
            seen.last_error.starts_with("retention: ") && seen.last_error.contains("clock"),
            "{seen:?}"
        );
        assert_eq!(all(backups).await.len(), 2);
        scene.set(apart);
        let judged = schedules
            .apply_retention(apply())
            .await
            .unwrap()
            .into_inner()
            .items;
        assert_eq!(
            judged.iter().filter(|item| item.kept).count(),
            1,
            "{judged:?}"
        );
        assert_eq!(all(backups).await.len(), 1);
    });
    managed.run.stop();
    scene.world.assert_tidy("at the end");
}

/// Another machine that has the bucket deletes a cloud copy.
fn deleted_elsewhere(scene: &Scene, snapshot: &str) {
    let machine = tempfile::tempdir().unwrap();
    let data = machine.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let storage = FakeStorage::new(&data, scene.world.faults.clone());
    let mut config = lab::config(machine.path());
    config.node_name = "node-2".to_owned();
    lab::write_profile(machine.path(), "offsite", "{bucket: backups, prefix: a}");
    let parts = Parts {
        pools: BTreeMap::from([("pool".to_owned(), storage.clone() as _)]),
        connector: Arc::new(FakeHost(storage)),
        stores: scene.world.stores.clone(),
    };
    let run = Run::start_by(config, parts, scene.clock.clone()).when_ready();
    let mut client = run.client();
    run.block_on(lab::delete_snapshot(&mut client, snapshot))
        .unwrap();
    run.stop();
}

#[test]
fn the_last_copy_stays_though_a_later_one_is_still_on_record() {
    let scene = Scene::new("2026-03-01T12:00:00Z", WIDE);
    let mut managed = scene.start();
    let (first, second) = managed.block_on(async |client, backups, schedules| {
        volumes(&scene.world, client, &["a"]).await;
        schedules.create_schedule(nightly()).await.unwrap();
        for due in ["2026-03-02T01:30:00Z", "2026-03-03T01:30:00Z"] {
            scene.set(at(due));
            assert_eq!(run_is_over(schedules, "nightly", at(due)).await.last_ok, 1);
        }
        let mut made = all(backups).await;
        made.sort_by_key(|backup| backup.cut_at.map(|at| at.seconds));
        let mut ids = made.into_iter().map(|backup| backup.snapshot_id);
        (ids.next().unwrap(), ids.next().unwrap())
    });
    deleted_elsewhere(&scene, &second);
    managed.block_on(async |client, backups, schedules| {
        schedules.update_schedule(keeping_one()).await.unwrap();
        let judged = schedules
            .apply_retention(apply())
            .await
            .unwrap()
            .into_inner()
            .items;
        assert!(judged.iter().all(|item| item.kept), "{judged:?}");
        assert!(
            judged
                .iter()
                .any(|item| item.why.contains("deleted meanwhile")),
            "{judged:?}"
        );
        assert_eq!(all(backups).await.len(), 2);
        let request = lab::volume_from("restored", &first, api::SourceCopy::Cloud);
        lab::available_volume(client, &request).await.unwrap();
    });
    managed.run.stop();
}

/// What is asked before a backup goes is asked of the repository from which it goes.
#[test]
fn a_repository_that_shows_the_same_short_id_is_not_asked_what_to_keep() {
    let scene = Scene::new("2026-03-01T12:00:00Z", WIDE);
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        volumes(&scene.world, client, &["a"]).await;
        let schedule = api::Schedule {
            profile: "offsite".to_owned(),
            ..nightly()
        };
        schedules.create_schedule(schedule).await.unwrap();
        for due in ["2026-03-02T01:30:00Z", "2026-03-03T01:30:00Z"] {
            scene.set(at(due));
            assert_eq!(run_is_over(schedules, "nightly", at(due)).await.last_ok, 1);
        }
        let made = all(backups).await;
        let short_id = made[0].snapshot_id.split('-').nth(1).unwrap();
        lab::write_profile(scene.world.dir.path(), "aaa", "{bucket: others}");
        let stores = &scene.world.stores;
        stores.make_look_alike("s3://others at aws", short_id).await;
        // A listing asks every bucket.
        lab::list(client).await;
        let schedule = api::Schedule {
            profile: "offsite".to_owned(),
            ..keeping_one()
        };
        schedules.update_schedule(schedule).await.unwrap();
        let judged = schedules
            .apply_retention(apply())
            .await
            .unwrap()
            .into_inner()
            .items;
        assert!(
            judged.iter().all(|item| item.error.is_empty()),
            "{judged:?}"
        );
        assert_eq!(all(backups).await.len(), 1);
    });
    managed.run.stop();
}
