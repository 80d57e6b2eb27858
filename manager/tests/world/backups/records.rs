//! Records of backups: their names, and how they are cancelled, deleted and imported.

use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};
use tonic::Code;

use super::{assert_tidy, begin, listed, status};
use crate::{lab, world::World};

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
