//! What is locked is given up by no retention, until its lock has ended.

use jiff::{SignedDuration, Timestamp};
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::lock::{LockMode, LockPolicy};

use super::{Scene, Schedules, all, named, run_is_over, shown, volumes};
use crate::lab;

const LOCK_DAYS: u32 = 2;

/// It is not due by itself: runs are asked for.
fn keeping_one() -> api::Schedule {
    api::Schedule {
        name: "nightly".to_owned(),
        datetime: "2900-01-01T00:00:00Z".to_owned(),
        occurrence: "Yearly".to_owned(),
        retention: Some(api::Retention {
            keep_last: 1,
            ..api::Retention::default()
        }),
        ..api::Schedule::default()
    }
}

async fn judged(schedules: &mut Schedules, dry_run: bool) -> Vec<api::Retained> {
    let request = api::ApplyRetentionRequest {
        schedule: "nightly".to_owned(),
        dry_run,
    };
    let judged = schedules.apply_retention(request).await;
    judged.unwrap().into_inner().items
}

/// The records of snapshots in the bucket, and whether each is a tombstone.
fn records(scene: &Scene) -> Vec<(String, bool)> {
    let stores = &scene.world.stores;
    let (keys, _) = stores.content();
    let records = keys.into_iter().filter(|key| key.starts_with("snapshots/"));
    records
        .map(|key| {
            let body = stores.peek(&key).unwrap();
            let is_tombstone =
                String::from_utf8_lossy(&body).contains("\"stockpot\":\"tombstone\"");
            (key, is_tombstone)
        })
        .collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn nothing_that_is_locked_is_given_up_before_its_lock_has_ended() {
    // Locks are asked for only while the bucket's clock is that of this host.
    let now = Timestamp::now();
    let scene = Scene::new(&now.to_string(), "{backupsMax: 9, perRepositoryMax: 9}");
    scene.world.stores.set_can_lock(true);
    let topology = format!("{{bucket: backups, prefix: a, lock: {{days: {LOCK_DAYS}}}}}");
    lab::write_profile(scene.world.dir.path(), "offsite", &topology);
    let mut managed = scene.start();
    managed.block_on(async |client, backups, schedules| {
        volumes(&scene.world, client, &["a"]).await;
        schedules.create_schedule(keeping_one()).await.unwrap();
        for number in 0..2 {
            scene.set(now + SignedDuration::from_mins(number));
            schedules.run_schedule(named("nightly")).await.unwrap();
            let since = now + SignedDuration::from_mins(number);
            let seen = run_is_over(schedules, "nightly", since).await;
            assert_eq!(seen.last_ok, 1, "{seen:?}");
        }
        let policy = LockPolicy {
            days: LOCK_DAYS,
            mode: LockMode::Compliance,
        };
        // The day may change in between.
        let ends = [now, now + SignedDuration::from_mins(2)].map(|at| {
            let until_s = policy.until_s(at.as_second());
            Timestamp::from_second(until_s).unwrap()
        });
        let mut made = all(backups).await;
        made.sort_by_key(|backup| backup.cut_at.map(|at| (at.seconds, at.nanos)));
        let [first, second] = &made[..] else {
            panic!("{made:?}")
        };
        let before = records(&scene);
        assert!(before.len() == 2 && before.iter().all(|(_, is_tombstone)| !is_tombstone));
        // The packs, the marker and the manifests.
        let locked = scene.world.stores.locked();
        for kind in ["packs/", "snapshots/", "repository.json"] {
            assert!(locked.iter().any(|key| key.starts_with(kind)), "{locked:?}");
        }
        let still = [now, ends[0] - SignedDuration::from_secs(1)];
        for at in still {
            scene.set(at);
            for dry_run in [true, false] {
                let items = judged(schedules, dry_run).await;
                assert!(items.iter().all(|item| item.kept), "{items:?}");
                let why = |backup: &api::Backup| {
                    let found = items.iter().find(|item| item.backup_id == backup.backup_id);
                    found.unwrap().why.clone()
                };
                let told = ends.map(|end| format!("locked until {end}"));
                assert!(told.contains(&why(first)), "{}, not {told:?}", why(first));
                assert_eq!(why(second), "last");
            }
            assert_eq!(all(backups).await.len(), 2);
            assert_eq!(records(&scene), before);
        }
        assert_eq!(shown(schedules, "nightly").await.last_error, "");
        // The bucket's clock tells whole seconds.
        scene.set(ends[1] + SignedDuration::from_secs(1));
        let items = judged(schedules, true).await;
        let going = items.iter().filter(|item| !item.kept);
        let going: Vec<_> = going.map(|item| &item.backup_id).collect();
        assert_eq!(going, [&first.backup_id], "{items:?}");
        assert_eq!(records(&scene), before);
        judged(schedules, false).await;
        let left = all(backups).await;
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].backup_id, second.backup_id);
        let tombstones = records(&scene).into_iter().filter(|(_, is)| *is);
        let tombstones: Vec<_> = tombstones.map(|(key, _)| key).collect();
        assert_eq!(tombstones.len(), 1);
        assert!(tombstones[0].contains(&first.snapshot_id), "{tombstones:?}");
        let copy = lab::volume_from("restored", &second.snapshot_id, api::SourceCopy::Cloud);
        lab::available_volume(client, &copy).await.unwrap();
    });
    managed.run.stop();
    assert_eq!(scene.world.stores.covered(), [] as [String; 0]);
    scene.world.assert_tidy("at the end");
}
