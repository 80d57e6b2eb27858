//! Backups of which each call fails, or at each call of which the manager is killed.

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};

use super::{assert_tidy, begin, listed, status, struck};
use crate::{
    lab::{self, Backups, Client},
    world::{World, at_each_call},
};

/// What has to be true of a backup that ended, however it did.
async fn check(
    world: &World,
    run: (&mut Client, &mut Backups),
    volume: &str,
    in_use: bool,
    when: &str,
) {
    let (client, backups) = run;
    for backup in listed(backups).await {
        let ended = lab::cleaned(backups, &backup.backup_id).await;
        let kept = world.storage.leftovers().snapshots;
        match ended.status() {
            BackupStatus::Available => {
                world.assert_restores(client, &ended.snapshot_id).await;
                assert!(kept.len() <= 1, "{when}: {kept:?}");
            }
            BackupStatus::Error => {
                assert!(!ended.error.is_empty(), "{when}: {ended:?}");
                assert!(!kept.contains(&ended.snapshot_id), "{when}: {kept:?}");
            }
            other => panic!("{when}: {other:?}"),
        }
    }
    let before = if in_use {
        VolumeStatus::InUse
    } else {
        VolumeStatus::Available
    };
    assert_eq!(status(client, volume).await, before, "{when}");
    assert_tidy(world, in_use, when);
}

/// Breaks or kills a backup at its `number`-th call. `None` when it makes fewer.
fn broken_at(in_use: bool, number: u64, fault: Fault) -> Option<&'static str> {
    let world = World::new();
    let (run, client, backups, volume) = begin(&world, in_use);
    world.faults.choose(number, fault);
    let going = async |backups: &mut Backups| {
        let begun = lab::back_up(backups, &volume, "b", in_use).await;
        if begun.is_ok() {
            lab::cleaned(backups, "b").await;
        }
    };
    let (hit, (run, mut client, mut backups)) =
        struck(&world, (run, client, backups), fault, going);
    let when = format!("in use: {in_use}, call {number} ({hit:?}): {fault:?}");
    run.block_on(async {
        check(&world, (&mut client, &mut backups), &volume, in_use, &when).await;
        let again = lab::backed_up(&mut backups, &volume, "again", in_use).await;
        world.assert_restores(&mut client, &again.snapshot_id).await;
        check(&world, (&mut client, &mut backups), &volume, in_use, &when).await;
    });
    run.stop();
    hit
}

fn broken_everywhere(in_use: bool, faults: [Fault; 2]) {
    at_each_call(faults, |number, fault| broken_at(in_use, number, fault));
}

#[test]
fn a_backup_of_an_unused_volume_that_fails() {
    broken_everywhere(false, [Fault::Fail, Fault::DoneThenFail]);
}

#[test]
fn a_backup_of_a_volume_in_use_that_fails() {
    broken_everywhere(true, [Fault::Fail, Fault::DoneThenFail]);
}

#[test]
fn a_backup_of_an_unused_volume_that_is_killed() {
    broken_everywhere(false, [Fault::Hang, Fault::DoneThenHang]);
}

#[test]
fn a_backup_of_a_volume_in_use_that_is_killed() {
    broken_everywhere(true, [Fault::Hang, Fault::DoneThenHang]);
}

#[test]
fn one_that_is_asked_to_be_full_shares_nothing() {
    let world = World::new();
    let (run, _, mut backups, volume) = begin(&world, true);
    let request = api::CreateBackupRequest {
        name: "full".to_owned(),
        volume: volume.clone(),
        force: true,
        full: true,
        ..Default::default()
    };
    run.block_on(async {
        lab::backed_up(&mut backups, &volume, "first", true).await;
        world.faults.hold_call("put");
        backups.create_backup(request).await.unwrap();
        world.faults.happened().await;
    });
    // Nobody says it again.
    drop(backups);
    run.kill();
    world.faults.clear();
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        let done = lab::cleaned(&mut backups, "full").await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        assert_eq!((done.reason.as_str(), done.parent.as_str()), ("full", ""));
        world.assert_restores(&mut client, &done.snapshot_id).await;
        let next = lab::backed_up(&mut backups, &volume, "next", true).await;
        assert_eq!(next.reason, "incremental", "{next:?}");
    });
    run.stop();
}
