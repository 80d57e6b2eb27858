//! What becomes of the volume: one that nobody uses is held, one in use goes on.

use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};
use tonic::Code;

use super::{assert_tidy, attach, begin, listed, status};
use crate::{
    lab,
    world::{SIZE, World},
};

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
