//! What callers ask of schedules, and what they are refused.

use jiff::SignedDuration;
use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{
    Scene, Schedules, WIDE, all, at, named, named_volume, nightly, run_is_over, shown, until,
    volumes,
};
use crate::lab;

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

/// A run by its number, as far as it is on record.
async fn told(
    schedules: &mut Schedules,
    name: &str,
    run_id: i64,
) -> Result<api::Schedule, tonic::Status> {
    let name = name.to_owned();
    let request = api::GetScheduleRequest { name, run_id };
    Ok(schedules.get_schedule(request).await?.into_inner())
}

#[test]
fn the_run_that_was_asked_for_is_told_of_though_another_has_begun() {
    let start = "2026-03-01T12:00:00Z";
    let scene = Scene::new(start, WIDE);
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        let ids = volumes(&scene.world, client, &["a"]).await;
        // The repository is made by the first one.
        lab::backed_up(backups, &ids[0], "first", false).await;
        schedules.create_schedule(nightly()).await.unwrap();
        let other = api::Schedule {
            name: "other".to_owned(),
            ..nightly()
        };
        schedules.create_schedule(other).await.unwrap();
        assert_eq!(shown(schedules, "nightly").await.last_run_id, 0);
        scene.world.faults.hold_call("put");
        let asked = schedules.run_schedule(named("nightly")).await.unwrap();
        let asked = asked.into_inner();
        assert_eq!(asked.last_run_at.unwrap().seconds, at(start).as_second());
        assert_eq!(asked.last_volumes.len(), 1, "{asked:?}");
        scene.world.faults.happened().await;
        scene.set(at("2026-03-02T01:30:00Z"));
        let newest = until("a due run has begun", async || {
            let seen = shown(schedules, "nightly").await;
            (seen.last_run_id != asked.last_run_id && seen.last_skipped == 1).then_some(seen)
        })
        .await;
        let seen = told(schedules, "nightly", asked.last_run_id).await.unwrap();
        assert_eq!(seen.last_run_id, asked.last_run_id);
        assert_eq!(seen.last_run_at, asked.last_run_at);
        assert_eq!((seen.last_running, seen.last_skipped), (1, 0), "{seen:?}");
        assert_eq!(seen.last_run_ended_at, None);
        scene.world.faults.clear();
        let ended = until("the run has ended", async || {
            let seen = told(schedules, "nightly", asked.last_run_id).await.unwrap();
            seen.last_run_ended_at.is_some().then_some(seen)
        })
        .await;
        assert_eq!((ended.last_ok, ended.last_failed), (1, 0), "{ended:?}");
        // The same second again, by a clock that was put back: that run has been.
        scene.set(at(start));
        let again = schedules.run_schedule(named("nightly")).await.unwrap();
        assert_eq!(again.into_inner().last_run_id, asked.last_run_id);
        for (name, run_id) in [
            ("other", asked.last_run_id),
            ("nightly", newest.last_run_id + 9),
        ] {
            let refused = told(schedules, name, run_id).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound, "{refused}");
            assert!(refused.message().contains("run "), "{refused}");
        }
    });
    managed.run.stop();
    scene.world.assert_tidy("at the end");
}
