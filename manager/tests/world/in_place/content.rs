//! What a volume holds before, at and after the moment at which its content is replaced.

use std::fs;

use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};
use tonic::Code;

use super::{OTHER, Scene};
use crate::{lab, world::SIZE};

#[test]
fn the_old_content_is_kept_until_the_new_is_complete() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    let mut catalog = run.catalog();
    run.block_on(async {
        let request = lab::snapshot_of(&scene.volume, "second", "offsite");
        let second = lab::ready_snapshot(&mut client, &request).await.unwrap();
        scene.world.faults.hold_call("replace_volume");
        let begun = volumes.restore_volume(scene.request()).await.unwrap();
        assert_eq!(begun.into_inner().status(), VolumeStatus::Restoring);
        scene.world.faults.happened().await;
        assert!(scene.is_as_it_was());
        let left = scene.world.storage.leftovers().volumes;
        let beside = left.into_iter().find(|id| *id != scene.volume).unwrap();
        // Asked again it is the same; anything else has to wait.
        volumes.restore_volume(scene.request()).await.unwrap();
        let mut other = scene.request();
        other.snapshot_id = second.snapshot_id;
        let refused = volumes.restore_volume(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let attach = api::AttachVolumeRequest {
            volume_id: scene.volume.clone(),
            ..Default::default()
        };
        let refused = client.attach_volume(attach).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let cut = lab::snapshot_of(&scene.volume, "meanwhile", "");
        let refused = client.create_snapshot(cut).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let refused = lab::delete_volume(&mut client, &beside).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(&scene.volume), "{refused}");
        // Nor does it become a volume of its own.
        let source = format!("fake/stockpot.v.{}", beside.replace('-', "."));
        let refused = lab::adopt(&mut volumes, &source, "beside").await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(&scene.volume), "{refused}");
        let checked = catalog.check_catalog(api::CheckCatalogRequest { local_only: true });
        let findings = checked.await.unwrap().into_inner().findings;
        assert!(!format!("{findings:?}").contains(&beside), "{findings:?}");
        scene.world.faults.clear();
        let done = scene.ended(&mut client).await;
        assert_eq!(done.status(), VolumeStatus::Available);
        assert_eq!((done.error.as_str(), done.size_bytes), ("", SIZE));
        assert!(!scene.assert_whole("when it is done"));
    });
    run.stop();
}

/// What the storage knows of the time before says nothing of what the volume holds now.
#[test]
fn the_next_upload_is_compared_and_those_behind_it_are_not() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.restore(&mut client, &mut volumes).await.unwrap();
        let request = lab::snapshot_of(&scene.volume, "second", "offsite");
        let second = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(second.reason, "compared");
        assert!(second.reason_text.contains("was restored"), "{second:?}");
        assert!(scene.world.storage.asked_changes().is_empty());
        let request = lab::snapshot_of(&scene.volume, "third", "offsite");
        let third = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(third.reason, "incremental", "{third:?}");
        for one in [second, third] {
            scene
                .world
                .assert_restores(&mut client, &one.snapshot_id)
                .await;
        }
        // Nor is the device of the first one kept for an upload to come.
        lab::drop_local_copy(&mut client, &scene.snapshot)
            .await
            .unwrap();
        let left = scene.world.storage.leftovers().snapshots;
        assert!(!left.contains(&scene.snapshot), "{left:?}");
    });
    run.stop();
}

#[test]
fn a_larger_volume_keeps_its_size_and_reads_as_zeroes_beyond() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        let request = api::ExtendVolumeRequest {
            volume_id: scene.volume.clone(),
            required_bytes: 2 * SIZE,
            limit_bytes: 0,
        };
        client.extend_volume(request).await.unwrap();
        let large = vec![OTHER; usize::try_from(2 * SIZE).unwrap()];
        fs::write(scene.file(), large).unwrap();
        scene.restore(&mut client, &mut volumes).await.unwrap();
        let volume = client.get_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(volume.size_bytes, 2 * SIZE);
        let found = fs::read(scene.file()).unwrap();
        let (head, tail) = found.split_at(usize::try_from(SIZE).unwrap());
        assert!(head.iter().any(|byte| *byte != OTHER));
        assert!(tail.iter().all(|byte| *byte == 0));
    });
    run.stop();
}

/// What is kept only for the next upload does not stand in its way.
#[test]
fn a_base_is_given_back_for_it() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    scene.world.storage.snapshots_pin_volumes();
    run.block_on(async {
        lab::drop_local_copy(&mut client, &scene.snapshot)
            .await
            .unwrap();
        assert_eq!(scene.world.storage.leftovers().snapshots.len(), 1);
        scene.restore(&mut client, &mut volumes).await.unwrap();
    });
    assert!(!scene.assert_whole("at the end"));
    assert!(scene.world.storage.leftovers().snapshots.is_empty());
    run.stop();
}
