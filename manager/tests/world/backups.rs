//! Backups: of volumes that nobody uses and of volumes in use, cancelled, broken and killed at each of their calls.

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};
use tonic::Code;

use crate::{
    lab::{self, Backups, Client, Run},
    world::{SIZE, World, filled_volume},
};

pub(super) fn attach(volume_id: &str) -> api::AttachVolumeRequest {
    api::AttachVolumeRequest {
        volume_id: volume_id.to_owned(),
        read_only: false,
        as_attached: false,
    }
}

pub(super) async fn status(client: &mut Client, volume_id: &str) -> VolumeStatus {
    let volume_id = volume_id.to_owned();
    let volume = client.get_volume(api::GetVolumeRequest { volume_id }).await;
    volume.unwrap().into_inner().status()
}

pub(super) async fn listed(backups: &mut Backups) -> Vec<api::Backup> {
    let listed = backups.list_backups(api::ListBackupsRequest::default());
    listed.await.unwrap().into_inner().backups
}

/// A manager, and a volume with content; with `in_use` it is attached.
pub(super) fn begin(world: &World, in_use: bool) -> (Run, Client, Backups, String) {
    let run = world.start();
    let (mut client, backups) = (run.client(), run.backups());
    let volume = run.block_on(async {
        let volume = filled_volume(world, &mut client).await.volume_id;
        if in_use {
            client.attach_volume(attach(&volume)).await.unwrap();
        }
        volume
    });
    (run, client, backups, volume)
}

/// Nothing but what the node service attached is attached, and nothing is half-open.
pub(super) fn assert_tidy(world: &World, in_use: bool, when: &str) {
    let attached = world.storage.leftovers().attached;
    let expected = if in_use { 3 } else { 0 };
    assert_eq!(attached.len(), expected, "{when}: {attached:?}");
    assert_eq!(world.stores.content().1, 0, "{when}: multipart uploads");
}

#[test]
fn a_volume_that_nobody_uses_is_read_as_it_is() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        // The repository is made by the first one.
        lab::backed_up(&mut backups, &volume, "first", false).await;
        world.faults.hold_call("put");
        let begun = lab::back_up(&mut backups, &volume, "b", false)
            .await
            .unwrap();
        assert_eq!(
            (begun.status(), begun.from_snapshot),
            (BackupStatus::Creating, false)
        );
        world.faults.happened().await;
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::BackingUp);
        // What would write to it, or take it away, is refused, and says in which status it is.
        let refused = client.attach_volume(attach(&volume)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let text = refused.message();
        assert!(
            text.contains("is backing-up") && text.contains("cannot be attached"),
            "{text}"
        );
        let request = api::ExtendVolumeRequest {
            volume_id: volume.clone(),
            required_bytes: 2 * SIZE,
            limit_bytes: 0,
        };
        let refused = client.extend_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let refused = lab::delete_volume(&mut client, &volume).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let refused = lab::back_up(&mut backups, &volume, "c", true)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        // What only looks at it is not.
        lab::cut(&mut client, &lab::snapshot_of(&volume, "beside", "")).await;
        world.faults.clear();
        let done = lab::ended(&mut backups, "b").await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        assert_eq!(done.temp_snapshot_id, "");
        let progress = done.progress.unwrap();
        assert_eq!((progress.bytes_done, progress.bytes_total), (SIZE, SIZE));
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::Available);
        world.assert_restores(&mut client, &done.snapshot_id).await;
    });
    run.stop();
    assert_tidy(&world, false, "at the end");
}

#[test]
fn a_volume_in_use_goes_on() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, true);
    run.block_on(async {
        let refused = lab::back_up(&mut backups, &volume, "b", false)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("force"), "{refused}");
        assert!(listed(&mut backups).await.is_empty());
        let first = lab::backed_up(&mut backups, &volume, "first", true).await;
        world.faults.hold_call("put");
        let begun = lab::back_up(&mut backups, &volume, "b", true)
            .await
            .unwrap();
        assert!(begun.from_snapshot && begun.cut_at.is_some(), "{begun:?}");
        assert_eq!(begun.temp_snapshot_id, begun.snapshot_id);
        world.faults.happened().await;
        // The upload holds the snapshot, and not the volume.
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::InUse);
        let request = api::ExtendVolumeRequest {
            volume_id: volume.clone(),
            required_bytes: 2 * SIZE,
            limit_bytes: 0,
        };
        client.extend_volume(request).await.unwrap();
        lab::cut(&mut client, &lab::snapshot_of(&volume, "beside", "")).await;
        let detach = api::DetachVolumeRequest {
            volume_id: volume.clone(),
        };
        client.detach_volume(detach).await.unwrap();
        world.faults.clear();
        let done = lab::ended(&mut backups, &begun.backup_id).await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        assert!(done.cleaned && done.temp_snapshot_id.is_empty());
        assert_eq!(
            (done.reason.as_str(), done.parent),
            ("incremental", first.snapshot_id)
        );
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::Available);
        world.assert_restores(&mut client, &done.snapshot_id).await;
        // One temporary snapshot stays, as the base of the next upload; the one before it goes.
        let left = || world.storage.leftovers().snapshots;
        while left().len() != 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(left().contains(&done.snapshot_id));
    });
    run.stop();
    assert_tidy(&world, false, "at the end");
}

/// Nobody attached it here, and the kernel says that its device is held.
#[test]
fn a_device_that_is_held_is_in_use() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    let id = volume.parse().unwrap();
    world.storage.hold_device(&id, true);
    run.block_on(async {
        let refused = lab::back_up(&mut backups, &volume, "b", false)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("mounted at /fake"), "{refused}");
        let done = lab::backed_up(&mut backups, &volume, "b", true).await;
        assert!(done.from_snapshot, "{done:?}");
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::Available);
    });
    run.stop();
}

#[test]
fn names_profiles_and_deletions() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        // By the volume's name, with the only profile there is.
        let request = api::CreateBackupRequest {
            name: "b".to_owned(),
            volume: "source".to_owned(),
            ..Default::default()
        };
        let begun = backups
            .create_backup(request.clone())
            .await
            .unwrap()
            .into_inner();
        let again = backups.create_backup(request).await.unwrap().into_inner();
        assert_eq!(begun.backup_id, again.backup_id);
        assert_eq!(
            (begun.profile.as_str(), &begun.volume_id),
            ("offsite", &volume)
        );
        let other = lab::back_up(&mut backups, "other", "b", false)
            .await
            .unwrap_err();
        assert_eq!(other.code(), Code::AlreadyExists, "{other}");
        let absent = lab::back_up(&mut backups, "other", "c", false)
            .await
            .unwrap_err();
        assert_eq!(absent.code(), Code::NotFound, "{absent}");
        let done = lab::ended(&mut backups, "b").await;
        let cancelled = backups.cancel_backup(lab::backup("b")).await.unwrap_err();
        assert_eq!(cancelled.code(), Code::FailedPrecondition, "{cancelled}");
        assert!(cancelled.message().contains("available"), "{cancelled}");

        lab::delete_snapshot(&mut client, &done.snapshot_id)
            .await
            .unwrap();
        let gone = lab::ended(&mut backups, "b").await;
        assert_eq!(gone.status(), BackupStatus::Deleted);
        backups.delete_backup(lab::backup("b")).await.unwrap();
        let second = lab::backed_up(&mut backups, &volume, "second", false).await;
        assert_eq!(listed(&mut backups).await.len(), 1);
        backups.delete_backup(lab::backup("second")).await.unwrap();
        backups.delete_backup(lab::backup("second")).await.unwrap();
        assert!(listed(&mut backups).await.is_empty());
        assert!(lab::list(&mut client).await.is_empty(), "{second:?}");
    });
    run.stop();
    assert_tidy(&world, false, "at the end");
}

#[test]
fn a_cancelled_backup_leaves_nothing() {
    for in_use in [false, true] {
        let world = World::new();
        let (run, mut client, mut backups, volume) = begin(&world, in_use);
        run.block_on(async {
            lab::backed_up(&mut backups, &volume, "first", in_use).await;
            backups.delete_backup(lab::backup("first")).await.unwrap();
            world.faults.hold_call("put");
            lab::back_up(&mut backups, &volume, "b", in_use)
                .await
                .unwrap();
            world.faults.happened().await;
            let cancelling = tokio::spawn({
                let mut backups = backups.clone();
                async move { backups.cancel_backup(lab::backup("b")).await }
            });
            // Its tombstone is a put as well.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            world.faults.clear();
            let cancelled = cancelling.await.unwrap().unwrap().into_inner();
            assert_eq!(cancelled.status(), BackupStatus::Cancelled, "{cancelled:?}");
            lab::cleaned(&mut backups, "b").await;
            let before = if in_use {
                VolumeStatus::InUse
            } else {
                VolumeStatus::Available
            };
            assert_eq!(status(&mut client, &volume).await, before);
            assert!(lab::list(&mut client).await.is_empty());
            assert!(world.storage.leftovers().snapshots.is_empty());
            lab::backed_up(&mut backups, &volume, "again", in_use).await;
        });
        run.stop();
        assert_tidy(&world, in_use, "at the end");
    }
}

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
    let (run, mut client, mut backups, volume) = begin(&world, in_use);
    world.faults.choose(number, fault);
    let is_kill = matches!(fault, Fault::Hang | Fault::DoneThenHang);
    let hit = run.block_on(async {
        let going = async {
            if lab::back_up(&mut backups, &volume, "b", in_use)
                .await
                .is_ok()
            {
                lab::cleaned(&mut backups, "b").await;
            }
        };
        tokio::select! {
            () = going => None,
            name = world.faults.happened(), if is_kill => Some(name),
        }
    });
    let hit = world.faults.clear().or(hit);
    let when = format!("in use: {in_use}, call {number} ({hit:?}): {fault:?}");
    let run = if is_kill {
        drop((client, backups));
        run.kill();
        let run = world.start();
        (client, backups) = (run.client(), run.backups());
        run
    } else {
        run
    };
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
    for fault in faults {
        let mut number = 1;
        while let Some(name) = broken_at(in_use, number, fault) {
            eprintln!("in use: {in_use}, call {number}: {name}: {fault:?}");
            number += 1;
        }
        assert!(number > 5, "a backup makes calls");
    }
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

/// The upload of the first holds its snapshot and not the volume, so a second one begins, and both come to their end.
#[test]
fn a_second_backup_beside_the_first() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, true);
    run.block_on(async {
        lab::backed_up(&mut backups, &volume, "before", true).await;
        world.faults.hold_call("put");
        let first = lab::back_up(&mut backups, &volume, "first", true)
            .await
            .unwrap();
        world.faults.happened().await;
        let mut request = api::CreateBackupRequest {
            name: "second".to_owned(),
            volume: volume.clone(),
            force: true,
            ..Default::default()
        };
        request
            .metadata
            .insert("why".to_owned(), "beside".to_owned());
        let second = backups.create_backup(request).await.unwrap().into_inner();
        assert!(second.cut_at.is_some() && first.cut_at.is_some());
        assert_ne!(first.snapshot_id, second.snapshot_id);
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::InUse);
        // Attached once more, detached, grown: all while both are under way.
        client.attach_volume(attach(&volume)).await.unwrap();
        let volume_id = volume.clone();
        client
            .detach_volume(api::DetachVolumeRequest { volume_id })
            .await
            .unwrap();
        let request = api::ExtendVolumeRequest {
            volume_id: volume.clone(),
            required_bytes: 2 * SIZE,
            limit_bytes: 0,
        };
        client.extend_volume(request).await.unwrap();
        for backup in listed(&mut backups).await.iter().skip(1) {
            assert_eq!(backup.status(), BackupStatus::Creating, "{backup:?}");
        }
        world.faults.clear();
        for name in ["first", "second"] {
            let done = lab::cleaned(&mut backups, name).await;
            assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
            world.assert_restores(&mut client, &done.snapshot_id).await;
        }
        let told = backups.get_backup(lab::backup("second")).await.unwrap();
        assert_eq!(told.into_inner().metadata["why"], "beside");
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::Available);
    });
    run.stop();
    assert_tidy(&world, false, "at the end");
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

/// The storage does not answer and is at it still: what it makes then is neither lost nor left.
#[test]
fn a_cut_that_is_not_answered_is_waited_for() {
    for cancelled in [false, true] {
        let world = World::new();
        let (run, mut client, mut backups, volume) = begin(&world, true);
        run.block_on(async {
            lab::backed_up(&mut backups, &volume, "first", true).await;
            let unanswered = if cancelled { u32::MAX } else { 3 };
            world.storage.leave_cuts_unanswered(unanswered);
            let late = lab::back_up(&mut backups, &volume, "late", true)
                .await
                .unwrap_err();
            assert_eq!(late.code(), Code::Unavailable, "{late}");
            let begun = backups.get_backup(lab::backup("late")).await.unwrap();
            let begun = begun.into_inner();
            assert!(begun.error.is_empty(), "{begun:?}");
            let before = match cancelled {
                true => VolumeStatus::Available,
                false => VolumeStatus::InUse,
            };
            if cancelled {
                // Whoever used it is not held up, and it goes back to what it is now.
                let volume_id = volume.clone();
                let detach = api::DetachVolumeRequest { volume_id };
                client.detach_volume(detach).await.unwrap();
                assert_eq!(status(&mut client, &volume).await, VolumeStatus::BackingUp);
                let cancelled = backups.cancel_backup(lab::backup("late")).await.unwrap();
                assert_eq!(cancelled.into_inner().status(), BackupStatus::Cancelled);
                assert_eq!(status(&mut client, &volume).await, before);
                world.storage.leave_cuts_unanswered(2);
            }
            let ended = lab::cleaned(&mut backups, "late").await;
            let kept = world.storage.leftovers().snapshots;
            if cancelled {
                assert!(!kept.contains(&ended.snapshot_id), "{kept:?}");
            } else {
                assert_eq!(ended.status(), BackupStatus::Available, "{ended:?}");
                world.assert_restores(&mut client, &ended.snapshot_id).await;
            }
            assert_eq!(status(&mut client, &volume).await, before);
        });
        run.stop();
        assert_tidy(&world, !cancelled, "at the end");
    }
}

/// As Object Lock, or credentials that may only add, do it.
#[test]
fn one_whose_copy_cannot_be_deleted_stays_on_record() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        let done = lab::backed_up(&mut backups, &volume, "b", false).await;
        world.stores.set_refusing(true);
        let refused = backups.delete_backup(lab::backup("b")).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        let text = refused.message();
        assert!(
            text.contains(&done.backup_id) && text.contains("Object Lock"),
            "{text}"
        );
        let kept = listed(&mut backups).await;
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].status(), BackupStatus::Available, "{kept:?}");
        world.stores.set_refusing(false);
        backups.delete_backup(lab::backup("b")).await.unwrap();
        assert!(listed(&mut backups).await.is_empty());
        assert!(lab::list(&mut client).await.is_empty());
    });
    run.stop();
}

/// Else whoever deletes the backup would delete the snapshot.
#[test]
fn a_snapshot_on_record_is_not_imported() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let snapshot = lab::ready_snapshot(&mut client, &request).await.unwrap();
        let request = api::ImportBackupRequest {
            backup_id: "bak-0123abcd-01jd0000000000000000000000".to_owned(),
            snapshot_id: snapshot.snapshot_id.clone(),
            ..Default::default()
        };
        let refused = backups.import_backup(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("on record"), "{refused}");
        assert!(listed(&mut backups).await.is_empty());
        let there = world.storage.leftovers().snapshots;
        assert!(there.contains(&snapshot.snapshot_id), "{there:?}");
        world
            .assert_restores(&mut client, &snapshot.snapshot_id)
            .await;
    });
    run.stop();
}
