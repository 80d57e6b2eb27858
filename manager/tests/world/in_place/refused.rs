//! What cannot be restored, and what keeps a restore waiting.

use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};
use tonic::Code;

use super::{Scene, status};
use crate::{
    lab::{self, Run, Volumes},
    world::{SIZE, World},
};

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    let refused = async |volumes: &mut Volumes, request: api::RestoreVolumeRequest| {
        let status = volumes.restore_volume(request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    run.block_on(async {
        let with = |volume: &str, snapshot: &str| api::RestoreVolumeRequest {
            volume_id: volume.to_owned(),
            snapshot_id: snapshot.to_owned(),
        };
        for (volume, snapshot) in [
            ("vol-none", scene.snapshot.as_str()),
            (&scene.volume, "snap-none"),
            (&scene.volume, "Not An Id"),
        ] {
            let (code, text) = refused(&mut volumes, with(volume, snapshot)).await;
            assert_eq!(code, Code::NotFound, "{text}");
        }
        let local = lab::snapshot_of(&scene.volume, "local", "");
        let local = lab::ready_snapshot(&mut client, &local).await.unwrap();
        let (code, text) = refused(&mut volumes, with(&scene.volume, &local.snapshot_id)).await;
        assert_eq!(code, Code::FailedPrecondition, "{text}");
        let small = lab::empty_volume("small", SIZE / 2);
        let small = lab::available_volume(&mut client, &small).await.unwrap();
        let (code, text) = refused(&mut volumes, with(&small.volume_id, &scene.snapshot)).await;
        assert_eq!(code, Code::OutOfRange, "{text}");
        assert!(text.contains("extend"), "{text}");
        lab::delete_volume(&mut client, &small.volume_id)
            .await
            .unwrap();

        scene.hold_device(true);
        let (code, text) = refused(&mut volumes, scene.request()).await;
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.contains("mounted at /fake"), "{text}");
        scene.hold_device(false);
        let attach = api::AttachVolumeRequest {
            volume_id: scene.volume.clone(),
            ..Default::default()
        };
        let device = client.attach_volume(attach).await.unwrap().into_inner();
        let (code, text) = refused(&mut volumes, scene.request()).await;
        assert_eq!(code, Code::FailedPrecondition, "{text}");
        assert!(text.contains(&device.device_path), "{text}");
        let detach = api::DetachVolumeRequest {
            volume_id: scene.volume.clone(),
        };
        client.detach_volume(detach).await.unwrap();

        // Classic snapshots would go with the content that they are of.
        scene.world.storage.snapshots_pin_volumes();
        let (code, text) = refused(&mut volumes, scene.request()).await;
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.contains("because of snapshot"), "{text}");
        scene.world.storage.let_nothing_be_replaced();
        let (code, text) = refused(&mut volumes, scene.request()).await;
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.contains("restore to a new volume"), "{text}");
        assert_eq!(status(&mut client, &scene).await, VolumeStatus::Available);
        // Nothing is under way: that is success.
        let kept = volumes
            .cancel_restore(scene.id())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (kept.status(), kept.error.as_str()),
            (VolumeStatus::Available, "")
        );
    });
    assert!(scene.assert_whole("after all refusals"));
    run.stop();
}

#[test]
fn what_it_waits_for_is_said() {
    let world = World::new();
    let mut config = world.config();
    config.transfers.pause_first_seconds = 1;
    config.transfers.pause_max_seconds = 1;
    config.transfers.give_up_after_seconds = 3600;
    let run = Run::start(config, world.parts());
    let (scene, run) = Scene::on(world, run);
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.world.faults.hold_call("create_volume");
        volumes.restore_volume(scene.request()).await.unwrap();
        scene.world.faults.happened().await;
        scene.world.stores.set_out_of_reach(true);
        scene.world.faults.clear();
        loop {
            let volume = client.get_volume(scene.id()).await.unwrap().into_inner();
            let phase = volume.progress.unwrap_or_default().phase;
            if phase.starts_with("waits: ") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        scene.world.stores.set_out_of_reach(false);
        let volume = scene.ended(&mut client).await;
        assert_eq!(volume.error, "");
    });
    assert!(!scene.assert_whole("when the bucket is back"));
    run.stop();
}
