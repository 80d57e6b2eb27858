//! Backups of local snapshots that were there before: nothing is cut, and the snapshot stays however they end.

use std::{fs, os::unix::fs::FileExt};

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};
use tonic::{Code, Status};

use super::{
    backups::{assert_tidy, attach, begin, listed, status, struck},
    consistency::assert_explained,
};
use crate::{
    lab::{self, Backups, Client},
    world::World,
};

async fn ask(
    backups: &mut Backups,
    name: &str,
    volume: &str,
    snapshot: &str,
) -> Result<api::Backup, Status> {
    let request = api::CreateBackupRequest {
        name: name.to_owned(),
        volume: volume.to_owned(),
        snapshot_id: snapshot.to_owned(),
        ..Default::default()
    };
    Ok(backups.create_backup(request).await?.into_inner())
}

async fn refused(backups: &mut Backups, volume: &str, snapshot: &str, says: &str) -> Code {
    let refused = ask(backups, "refused", volume, snapshot).await.unwrap_err();
    assert!(refused.message().contains(says), "{refused}");
    refused.code()
}

/// A local snapshot of the volume, which is written to after that.
async fn snapshot(world: &World, client: &mut Client, volume: &str) -> String {
    let cut = lab::cut(client, &lab::snapshot_of(volume, "local", "")).await;
    let path = world.storage.volume_file(&volume.parse().unwrap());
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"something else", 0).unwrap();
    cut.snapshot_id
}

/// The local snapshot is what it was before anybody backed it up.
async fn assert_kept(world: &World, client: &mut Client, id: &str, when: &str) {
    let snapshot_id = id.to_owned();
    let found = client.get_snapshot(api::GetSnapshotRequest { snapshot_id });
    let found = found.await.unwrap().into_inner();
    let copies = (found.local(), found.cloud());
    let expected = (api::CopyState::Present, api::CopyState::None);
    assert_eq!(copies, expected, "{when}: {found:?}");
    assert!(found.ready && found.error.is_empty(), "{when}: {found:?}");
    let there = world.storage.leftovers().snapshots;
    assert!(there.contains(&id.to_owned()), "{when}: {there:?}");
}

#[test]
fn a_check_of_the_catalog_knows_who_reads_the_snapshot() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    let mut catalog = run.catalog();
    run.block_on(async {
        let id = snapshot(&world, &mut client, &volume).await;
        world.faults.hold_call("connect");
        ask(&mut backups, "b", &volume, &id).await.unwrap();
        world.faults.happened().await;
        assert_explained(&mut catalog, "a snapshot is backed up", 1).await;
        world.faults.clear();
        lab::cleaned(&mut backups, "b").await;
    });
    assert!(run.findings(false).is_empty());
    run.stop();
}

#[test]
fn a_local_snapshot_is_backed_up_and_stays() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        let id = snapshot(&world, &mut client, &volume).await;
        world.faults.hold_call("put");
        // While its volume is in use, which needs no force.
        client.attach_volume(attach(&volume)).await.unwrap();
        let holding = tokio::spawn({
            let (mut backups, volume, id) = (backups.clone(), volume.clone(), id.clone());
            async move { ask(&mut backups, "b", &volume, &id).await }
        });
        world.faults.happened().await;
        world.faults.clear();
        let begun = holding.await.unwrap().unwrap();
        assert_eq!(begun.source_snapshot_id, id);
        assert!(!begun.from_snapshot && begun.temp_snapshot_id.is_empty());
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::InUse);
        let done = lab::cleaned(&mut backups, "b").await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        assert_kept(&world, &mut client, &id, "backed up").await;
        world.assert_restores(&mut client, &done.snapshot_id).await;
        // The same again is that one; another one of it is not made.
        let again = ask(&mut backups, "b", &volume, &id).await.unwrap();
        assert_eq!(again.backup_id, done.backup_id);
        let code = refused(&mut backups, &volume, &id, &done.backup_id).await;
        assert_eq!(code, Code::FailedPrecondition);
        // What is cut next builds on it, by the snapshot that it was read from.
        let next = lab::backed_up(&mut backups, &volume, "next", true).await;
        assert_eq!(
            (next.reason.as_str(), &next.parent),
            ("incremental", &done.snapshot_id)
        );
        // Its copy is deleted: the snapshot can be backed up again, also without its volume.
        backups.delete_backup(lab::backup("b")).await.unwrap();
        assert_kept(&world, &mut client, &id, "its copy deleted").await;
        let volume_id = volume.clone();
        client
            .detach_volume(api::DetachVolumeRequest { volume_id })
            .await
            .unwrap();
        lab::delete_volume(&mut client, &volume).await.unwrap();
        ask(&mut backups, "orphan", "", &id).await.unwrap();
        let done = lab::cleaned(&mut backups, "orphan").await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        world.assert_restores(&mut client, &done.snapshot_id).await;
        lab::delete_snapshot(&mut client, &id).await.unwrap();
    });
    run.stop();
    assert_tidy(&world, false, "at the end");
}

#[test]
fn what_is_read_is_not_taken_away() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        lab::backed_up(&mut backups, &volume, "first", false).await;
        let id = snapshot(&world, &mut client, &volume).await;
        world.faults.hold_call("put");
        let begun = ask(&mut backups, "b", "source", &id).await.unwrap();
        world.faults.happened().await;
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::Available);
        for only in [
            None,
            Some(api::delete_snapshot_request::Only::LocalOnly(true)),
        ] {
            let request = api::DeleteSnapshotRequest {
                snapshot_id: id.clone(),
                only,
            };
            let kept = client.delete_snapshot(request).await.unwrap_err();
            assert_eq!(kept.code(), Code::FailedPrecondition, "{kept}");
            assert!(kept.message().contains(&begun.backup_id), "{kept}");
        }
        let code = refused(&mut backups, &volume, &id, "being uploaded").await;
        assert_eq!(code, Code::FailedPrecondition);
        let cancelling = tokio::spawn({
            let mut backups = backups.clone();
            async move { backups.cancel_backup(lab::backup("b")).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        world.faults.clear();
        let cancelled = cancelling.await.unwrap().unwrap().into_inner();
        assert_eq!(cancelled.status(), BackupStatus::Cancelled, "{cancelled:?}");
        lab::cleaned(&mut backups, "b").await;
        assert_kept(&world, &mut client, &id, "cancelled").await;
        // A second try of the same snapshot has an id of its own in the bucket.
        let again = ask(&mut backups, "again", &volume, &id).await.unwrap();
        assert_ne!(again.snapshot_id, begun.snapshot_id);
        let done = lab::cleaned(&mut backups, "again").await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        world.assert_restores(&mut client, &done.snapshot_id).await;
    });
    run.stop();
    assert_tidy(&world, false, "at the end");
}

#[test]
fn what_cannot_be_backed_up_is_refused() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        let code = refused(&mut backups, &volume, "snap-absent", "snap-absent").await;
        assert_eq!(code, Code::NotFound);
        let code = refused(&mut backups, &volume, "No Id", "No Id").await;
        assert_eq!(code, Code::NotFound);
        let request = lab::snapshot_of(&volume, "cloud", "offsite");
        let up = lab::ready_snapshot(&mut client, &request).await.unwrap();
        let code = refused(&mut backups, &volume, &up.snapshot_id, "cloud copy already").await;
        assert_eq!(code, Code::FailedPrecondition);
        lab::drop_local_copy(&mut client, &up.snapshot_id)
            .await
            .unwrap();
        let code = refused(&mut backups, &volume, &up.snapshot_id, "no local copy").await;
        assert_eq!(code, Code::FailedPrecondition);
        let id = snapshot(&world, &mut client, &volume).await;
        let code = refused(&mut backups, "vol-other", &id, &volume).await;
        assert_eq!(code, Code::InvalidArgument);
        assert!(listed(&mut backups).await.is_empty());
        // A name of another kind of backup.
        lab::backed_up(&mut backups, &volume, "b", false).await;
        let other = ask(&mut backups, "b", &volume, &id).await.unwrap_err();
        assert_eq!(other.code(), Code::AlreadyExists, "{other}");
        assert_kept(&world, &mut client, &id, "refused").await;
    });
    run.stop();
}

/// Breaks or kills it at its `number`-th call. `None` when it makes fewer.
fn broken_at(number: u64, fault: Fault) -> Option<&'static str> {
    let world = World::new();
    let (run, mut client, backups, volume) = begin(&world, false);
    let id = run.block_on(snapshot(&world, &mut client, &volume));
    world.faults.choose(number, fault);
    let going = async |backups: &mut Backups| {
        if ask(backups, "b", &volume, &id).await.is_ok() {
            lab::cleaned(backups, "b").await;
        }
    };
    let (hit, (run, mut client, mut backups)) =
        struck(&world, (run, client, backups), fault, going);
    let when = format!("call {number} ({hit:?}): {fault:?}");
    run.block_on(async {
        let mut is_there = false;
        for backup in listed(&mut backups).await {
            let ended = lab::cleaned(&mut backups, &backup.backup_id).await;
            match ended.status() {
                BackupStatus::Available => is_there = true,
                BackupStatus::Error => assert!(!ended.error.is_empty(), "{when}"),
                other => panic!("{when}: {other:?}"),
            }
        }
        assert_kept(&world, &mut client, &id, &when).await;
        let now = status(&mut client, &volume).await;
        assert_eq!(now, VolumeStatus::Available, "{when}");
        if !is_there {
            ask(&mut backups, "again", &volume, &id).await.unwrap();
            let done = lab::cleaned(&mut backups, "again").await;
            assert_eq!(done.status(), BackupStatus::Available, "{when}: {done:?}");
            world.assert_restores(&mut client, &done.snapshot_id).await;
        }
        assert_tidy(&world, false, &when);
    });
    run.stop();
    hit
}

#[test]
fn one_that_fails_or_is_killed_at_each_call() {
    for fault in [
        Fault::Fail,
        Fault::DoneThenFail,
        Fault::Hang,
        Fault::DoneThenHang,
    ] {
        let mut number = 1;
        while broken_at(number, fault).is_some() {
            number += 1;
        }
        assert!(number > 5, "a backup makes calls");
    }
}
