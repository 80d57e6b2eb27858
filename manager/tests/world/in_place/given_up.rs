//! Restores that are given up: by their caller, or because the volume came into use or was deleted.

use stockpot_proto::stockpot::v1::VolumeStatus;
use tonic::Code;

use super::{Scene, status};
use crate::lab;

#[test]
fn one_that_is_cancelled_leaves_the_volume_as_it_was() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        // Nothing comes out of the bucket.
        let get = scene.world.faults.clone();
        volumes.restore_volume(scene.request()).await.unwrap();
        get.hold_call("create_export");
        let cancelling = {
            let (mut volumes, id) = (volumes.clone(), scene.id());
            tokio::spawn(async move { volumes.cancel_restore(id).await })
        };
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        get.clear();
        let cancelled = cancelling.await.unwrap().unwrap().into_inner();
        assert_eq!(cancelled.status(), VolumeStatus::Available);
        // It may have been quicker.
        let is_as_it_was = scene.assert_whole("cancelled");
        assert_eq!(
            cancelled.error.contains("cancelled"),
            is_as_it_was,
            "{cancelled:?}"
        );
        // The error is told until something else is done with it.
        scene.restore(&mut client, &mut volumes).await.unwrap();
        let volume = client.get_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(volume.error, "");
    });
    assert!(!scene.assert_whole("restored in the end"));
    run.stop();
}

/// The storage says at the last moment whether it is too late.
#[test]
fn one_that_cannot_be_put_in_place_can_be_cancelled() {
    let (scene, run) = Scene::patient();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.held_at_the_end(&mut volumes).await;
        let cancelled = volumes
            .cancel_restore(scene.id())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(cancelled.status(), VolumeStatus::Available);
        assert_eq!(
            cancelled.error_code,
            u32::try_from(i32::from(Code::Cancelled)).unwrap()
        );
        assert_eq!(status(&mut client, &scene).await, VolumeStatus::Available);
    });
    assert!(scene.assert_whole("cancelled late"));
    run.stop();
}

/// What cannot be removed at once is removed later, nobody asking again.
#[test]
fn one_whose_cancelling_fails_is_undone_all_the_same() {
    let (scene, run) = Scene::patient();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.held_at_the_end(&mut volumes).await;
        // The step is asked for once more and refused; then the volume beside would be removed.
        scene.world.faults.fail_once("delete_volume");
        volumes.cancel_restore(scene.id()).await.unwrap_err();
        let volume = scene.ended(&mut client).await;
        assert_eq!(volume.status(), VolumeStatus::Available);
        assert!(volume.error.contains("cancelled"), "{volume:?}");
    });
    assert!(scene.assert_whole("undone behind"));
    run.stop();
}

/// What somebody may have written to the volume meanwhile is not thrown away, and the restore does not wait for ever.
#[test]
fn a_volume_that_comes_into_use_keeps_what_it_holds() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.held_at_the_end(&mut volumes).await;
        let volume = scene.ended(&mut client).await;
        assert_eq!(volume.status(), VolumeStatus::Available);
        for said in ["mounted at /fake", "while it was being restored"] {
            assert!(volume.error.contains(said), "{volume:?}");
        }
        assert!(scene.assert_whole("after it was mounted"));
        // Who only has a look at the device is no user.
        scene.hold_device(false);
        scene.held_at_the_end(&mut volumes).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        scene.hold_device(false);
        let volume = scene.ended(&mut client).await;
        assert_eq!(volume.error, "");
    });
    assert!(!scene.assert_whole("after it was looked at"));
    run.stop();
}

#[test]
fn a_volume_can_be_deleted_meanwhile() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.world.faults.hold_call("create_volume");
        volumes.restore_volume(scene.request()).await.unwrap();
        scene.world.faults.happened().await;
        let deleting = {
            let (mut client, id) = (client.clone(), scene.volume.clone());
            tokio::spawn(async move { lab::delete_volume(&mut client, &id).await })
        };
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        scene.world.faults.clear();
        deleting.await.unwrap().unwrap();
        let gone = client.get_volume(scene.id()).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
    });
    run.stop();
    let left = scene.world.storage.leftovers();
    assert!(
        left.volumes.is_empty() && left.attached.is_empty(),
        "{left:?}"
    );
}
