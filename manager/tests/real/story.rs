//! The whole promise on each kind of storage.

use stockpot_proto::stockpot::v1 as api;
use stockpot_test_fixtures::s3::real;
use tonic::Code;

use super::{Kind, SIZE, World, assert_holds, attach, attach_as, content, detach, filled_volume};
use crate::lab::{self, Client};

#[test]
fn story_on_lvm_thin() {
    story(Kind::LvmThin);
}

#[test]
fn story_on_lvm_thick() {
    story(Kind::LvmThick);
}

#[test]
fn story_on_image_files() {
    story(Kind::File);
}

/// Who makes sure of a device does not undo that it was made read-only for those who use it.
#[test]
fn a_device_made_read_only_stays_so() {
    for kind in [Kind::LvmThin, Kind::File] {
        let world = World::new(kind);
        let run = world.start();
        let mut client = run.client();
        let volume = run.block_on(async {
            let request = lab::empty_volume("v", SIZE);
            let volume = lab::available_volume(&mut client, &request).await.unwrap();
            let device = attach(&mut client, &volume.volume_id).await;
            super::run_async("blockdev", &["--setro", device.to_str().unwrap()]).await;
            volume.volume_id
        });
        run.stop();
        let run = world.start();
        let mut client = run.client();
        run.block_on(async {
            for as_attached in [false, true] {
                let device = attach_as(&mut client, &volume, as_attached).await;
                let refused = std::fs::write(&device, "x").unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(1), "{refused}");
            }
            detach(&mut client, &volume).await;
            // For the next user it is as it was made.
            let device = attach(&mut client, &volume).await;
            std::fs::write(&device, "x").unwrap();
            detach(&mut client, &volume).await;
            lab::delete_volume(&mut client, &volume).await.unwrap();
        });
        run.stop();
        world.close();
    }
}

#[test]
fn story_with_versitygw() {
    if let Some(world) = World::on_server(Kind::LvmThin, real::Kind::Versitygw) {
        story_in(world);
    }
}

#[test]
fn story_with_minio() {
    if let Some(world) = World::on_server(Kind::LvmThin, real::Kind::Minio) {
        story_in(world);
    }
}

fn story(kind: Kind) {
    story_in(World::new(kind));
}

fn story_in(world: World) {
    let run = world.start();
    let mut client = run.client();
    let snapshot_id = run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        // Cut while the volume is in use, and written to after the cut.
        let device = attach(&mut client, &volume).await;
        let request = lab::snapshot_of(&volume, "nightly", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(device)
            .unwrap();
        content(9).write_extents(&file).unwrap();
        file.sync_all().unwrap();
        drop(file);
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(ready.snapshot_id, cut.snapshot_id);
        detach(&mut client, &volume).await;
        world.assert_tidy("after the upload");

        let [local, clone] = local_copies(&mut client, &volume, &cut.snapshot_id).await;
        for id in [&local, &clone] {
            lab::delete_volume(&mut client, id).await.unwrap();
        }
        let snapshot_id = cut.snapshot_id.clone();
        let early = lab::delete_volume(&mut client, &volume).await;
        if world.snapshots_need_their_volume() {
            let refused = early.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        } else {
            early.unwrap();
        }
        lab::drop_local_copy(&mut client, &snapshot_id)
            .await
            .unwrap();
        lab::delete_volume(&mut client, &volume).await.unwrap();
        snapshot_id
    });
    run.stop();
    world.forget_catalog();

    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let listed = lab::list(&mut client).await;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].snapshot_id, snapshot_id);
        let mut request = lab::volume_from("back", &snapshot_id, api::SourceCopy::Auto);
        request.required_bytes = SIZE + (32 << 20);
        let back = lab::available_volume(&mut client, &request).await.unwrap();
        assert_eq!(back.size_bytes, SIZE + (32 << 20));
        world.assert_tidy("after the restore");
        assert_holds(&mut client, &back.volume_id, &content(1)).await;
        lab::delete_volume(&mut client, &back.volume_id)
            .await
            .unwrap();
        lab::delete_snapshot(&mut client, &snapshot_id)
            .await
            .unwrap();
        assert!(lab::list(&mut client).await.is_empty());
    });
    run.stop();
    assert!(world.keys("intents/").is_empty());
    world.close();
}

/// Volumes from the snapshot's local copy and from the volume, each with its own content.
async fn local_copies(client: &mut Client, volume: &str, snapshot: &str) -> [String; 2] {
    let local = lab::volume_from("local", snapshot, api::SourceCopy::Local);
    let local = lab::available_volume(client, &local)
        .await
        .unwrap()
        .volume_id;
    assert_holds(client, &local, &content(1)).await;
    let mut clone = lab::empty_volume("clone", 0);
    clone.source = Some(api::create_volume_request::Source::VolumeId(
        volume.to_owned(),
    ));
    let clone = lab::available_volume(client, &clone)
        .await
        .unwrap()
        .volume_id;
    assert_holds(client, &clone, &content(9)).await;
    [local, clone]
}
