//! A run that is killed at each of its calls, with the retention after it: no backup is lost, and none is made twice.

use jiff::SignedDuration;
use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus};

use super::{Managed, Scene, all, at, nightly, run_is_over, until, volumes};

const FIRST: &str = "2026-03-02T01:30:00Z";
const SECOND: &str = "2026-03-03T01:30:00Z";

/// One volume that nobody uses and one in use, the first run made.
fn prepare(scene: &Scene) -> Managed {
    let mut managed = scene.start();
    managed.block_on(async |client, _, schedules| {
        let ids = volumes(&scene.world, client, &["unused", "used"]).await;
        let attach = api::AttachVolumeRequest {
            volume_id: ids[1].clone(),
            read_only: false,
            as_attached: false,
        };
        client.attach_volume(attach).await.unwrap();
        let schedule = api::Schedule {
            retention: Some(api::Retention {
                keep_last: 1,
                ..api::Retention::default()
            }),
            ..nightly()
        };
        schedules.create_schedule(schedule).await.unwrap();
        scene.set(at(FIRST));
        assert_eq!(
            run_is_over(schedules, "nightly", at(FIRST)).await.last_ok,
            2
        );
    });
    managed
}

/// Whether all that a second run makes, and takes away, is done.
async fn is_done(backups: &mut super::Backups) -> Option<Vec<api::Backup>> {
    let left = all(backups).await;
    let is_second = |b: &api::Backup| b.name.contains("20260303T013000Z");
    let is_whole = |b: &api::Backup| b.status() == BackupStatus::Available && b.cleaned;
    let done = left.len() == 2 && left.iter().all(|b| is_second(b) && is_whole(b));
    done.then_some(left)
}

/// `None` when it makes fewer calls.
fn killed_at(number: u64, fault: Fault) -> Option<&'static str> {
    let scene = Scene::new("2026-03-01T12:00:00Z", "{backupsMax: 1}");
    let mut managed = prepare(&scene);
    scene.world.faults.choose(number, fault);
    scene.set(at(SECOND));
    let hit = managed.block_on(async |_, backups, _| {
        tokio::select! {
            _ = until("all is done", async || is_done(backups).await) => None,
            name = scene.world.faults.happened() => Some(name),
        }
    });
    let when = format!("call {number} ({hit:?}): {fault:?}");
    managed.run.kill();
    scene.world.faults.clear();
    let mut managed = scene.start();
    managed.block_on(async |_, backups, schedules| {
        let left = until("all is done after the kill", async || {
            if let Some(left) = is_done(backups).await {
                return Some(left);
            }
            // What is tried again is tried when the clock has moved on.
            scene.pass(SignedDuration::from_secs(1));
            None
        })
        .await;
        let mut of: Vec<&str> = left.iter().map(|b| b.volume_name.as_str()).collect();
        of.sort_unstable();
        assert_eq!(of, ["unused", "used"], "{when}");
        let seen = run_is_over(schedules, "nightly", at(SECOND)).await;
        assert_eq!((seen.last_ok, seen.last_failed), (2, 0), "{when}: {seen:?}");
        assert_eq!(
            seen.last_run_at.unwrap().seconds,
            at(SECOND).as_second(),
            "{when}"
        );
    });
    managed.run.stop();
    let left = scene.world.storage.leftovers();
    // What the node service attached.
    assert_eq!(left.attached.len(), 3, "{when}: {left:?}");
    assert_eq!(scene.world.stores.content().1, 0, "{when}");
    hit
}

fn killed_everywhere(fault: Fault) {
    let mut number = 1;
    while let Some(name) = killed_at(number, fault) {
        eprintln!("call {number}: {name}: {fault:?}");
        number += 1;
    }
    assert!(number > 10, "a run makes calls");
}

#[test]
fn a_run_that_is_killed_before_each_call() {
    killed_everywhere(Fault::Hang);
}

#[test]
fn a_run_that_is_killed_after_each_call() {
    killed_everywhere(Fault::DoneThenHang);
}
