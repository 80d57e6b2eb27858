//! What retention keeps when a bucket, a clock or another machine is not as expected.

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use stockpot_manager::{
    Parts,
    fakes::{FakeHost, FakeStorage},
};
use stockpot_proto::stockpot::v1 as api;

use super::{Scene, Schedules, WIDE, all, at, named, nightly, run_is_over, shown, until, volumes};
use crate::lab::{self, Backups, Run};

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

/// Carries out the retention of the schedule `nightly`: what it said of each backup.
async fn judged(schedules: &mut Schedules) -> Vec<api::Retained> {
    let request = api::ApplyRetentionRequest {
        schedule: "nightly".to_owned(),
        dry_run: false,
    };
    let applied = schedules.apply_retention(request).await;
    applied.unwrap().into_inner().items
}

/// Lets two nightly runs come, which both make their backups: those, the oldest first.
async fn two_runs(
    scene: &Scene,
    backups: &mut Backups,
    schedules: &mut Schedules,
) -> [api::Backup; 2] {
    for due in ["2026-03-02T01:30:00Z", "2026-03-03T01:30:00Z"] {
        scene.set(at(due));
        assert_eq!(run_is_over(schedules, "nightly", at(due)).await.last_ok, 1);
    }
    let mut made = all(backups).await;
    made.sort_by_key(|backup| backup.cut_at.map(|at| at.seconds));
    made.try_into().unwrap()
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
        let judged = judged(schedules).await;
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
        let judged = judged(schedules).await;
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

#[test]
fn a_run_has_not_ended_before_its_retention_is_carried_out() {
    let scene = Scene::new("2026-03-01T12:00:00Z", WIDE);
    let mut managed = scene.start();
    managed.block_on(async |client, _, schedules| {
        volumes(&scene.world, client, &["a"]).await;
        schedules.create_schedule(keeping_one()).await.unwrap();
        let due = at("2026-03-02T01:30:00Z");
        scene.set(due);
        assert_eq!(run_is_over(schedules, "nightly", due).await.last_ok, 1);
        // What retention asks the bucket, and it will not like the answer.
        scene.world.faults.hold_call("now");
        let apart = at("2026-03-12T12:00:00Z");
        scene.clock.set(apart);
        assert_eq!(scene.world.faults.happened().await, "now");
        let seen = shown(schedules, "nightly").await;
        assert_eq!((seen.last_ok, seen.last_running), (1, 0), "{seen:?}");
        assert_eq!(seen.last_run_at.unwrap().seconds, apart.as_second());
        assert_eq!(seen.last_run_ended_at, None, "{seen:?}");
        scene.world.faults.clear();
        let ended = until("the run has ended", async || {
            let seen = shown(schedules, "nightly").await;
            seen.last_run_ended_at.is_some().then_some(seen)
        })
        .await;
        assert_eq!(ended.last_run_id, seen.last_run_id);
        assert!(ended.last_error.starts_with("retention: "), "{ended:?}");
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
    let [first, second] = managed.block_on(async |client, backups, schedules| {
        volumes(&scene.world, client, &["a"]).await;
        schedules.create_schedule(nightly()).await.unwrap();
        let made = two_runs(&scene, backups, schedules).await;
        made.map(|backup| backup.snapshot_id)
    });
    deleted_elsewhere(&scene, &second);
    managed.block_on(async |client, backups, schedules| {
        schedules.update_schedule(keeping_one()).await.unwrap();
        let judged = judged(schedules).await;
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
        let made = two_runs(&scene, backups, schedules).await;
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
        let judged = judged(schedules).await;
        assert!(
            judged.iter().all(|item| item.error.is_empty()),
            "{judged:?}"
        );
        assert_eq!(all(backups).await.len(), 1);
    });
    managed.run.stop();
}
