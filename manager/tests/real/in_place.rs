//! Restores into volumes that are there, on each kind of storage.

use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};
use tonic::Code;

use super::{Kind, World, assert_holds, attach, content, detach, filled_volume};
use crate::lab::{self, Client, Volumes};

async fn restore(
    client: &mut Client,
    volumes: &mut Volumes,
    volume: &str,
    from: &str,
) -> api::Volume {
    let request = api::RestoreVolumeRequest {
        volume_id: volume.to_owned(),
        snapshot_id: from.to_owned(),
    };
    volumes.restore_volume(request).await.unwrap();
    let id = api::GetVolumeRequest {
        volume_id: volume.to_owned(),
    };
    client.wait_volume(id).await.unwrap().into_inner()
}

/// Overwrites a volume with another content.
async fn overwrite(client: &mut Client, volume: &str, seed: u64) {
    let path = attach(client, volume).await;
    let device = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    content(seed).write_extents(&device).unwrap();
    device.sync_all().unwrap();
    drop(device);
    detach(client, volume).await;
}

fn in_place_on(kind: Kind) {
    let world = World::new(kind);
    let run = world.start();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let request = lab::snapshot_of(&volume, "first", "offsite");
        let first = lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap()
            .snapshot_id;
        overwrite(&mut client, &volume, 5).await;
        attach(&mut client, &volume).await;
        let request = api::RestoreVolumeRequest {
            volume_id: volume.clone(),
            snapshot_id: first.clone(),
        };
        let refused = volumes.restore_volume(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        detach(&mut client, &volume).await;
        if world.snapshots_need_their_volume() {
            let refused = volumes.restore_volume(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert!(refused.message().contains(&first), "{refused}");
            lab::drop_local_copy(&mut client, &first).await.unwrap();
        }
        let done = restore(&mut client, &mut volumes, &volume, &first).await;
        assert_eq!(
            (done.status(), done.error.as_str()),
            (VolumeStatus::Available, "")
        );
        world.assert_tidy("after the restore");
        assert_holds(&mut client, &volume, &content(1)).await;

        // The next copy of it is whole, whatever the storage says of the time before.
        overwrite(&mut client, &volume, 8).await;
        let request = lab::snapshot_of(&volume, "second", "offsite");
        let second = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(second.reason, "compared", "{second:?}");
        let second = second.snapshot_id;
        let copy = lab::volume_from("copy", &second, api::SourceCopy::Cloud);
        let copy = lab::available_volume(&mut client, &copy)
            .await
            .unwrap()
            .volume_id;
        assert_holds(&mut client, &copy, &content(8)).await;
        for snapshot in [&second, &first] {
            lab::delete_snapshot(&mut client, snapshot).await.unwrap();
        }
        for volume in [&copy, &volume] {
            lab::delete_volume(&mut client, volume).await.unwrap();
        }
    });
    run.stop();
    world.close();
}

#[test]
fn in_place_on_lvm_thin() {
    in_place_on(Kind::LvmThin);
}

#[test]
fn in_place_on_lvm_thick() {
    in_place_on(Kind::LvmThick);
}

#[test]
fn in_place_on_image_files() {
    in_place_on(Kind::File);
}

/// Killed at one moment after the other: the volume is the old or the new, and the next start makes it the new.
#[test]
fn in_place_killed() {
    for kind in [Kind::LvmThin, Kind::File] {
        for millis in [0, 150, 400, 800, 1500] {
            let world = World::new(kind);
            let run = world.start();
            let (mut client, mut volumes) = (run.client(), run.volumes());
            let (volume, snapshot) = run.block_on(async {
                let volume = filled_volume(&mut client, &content(1)).await.volume_id;
                let request = lab::snapshot_of(&volume, "first", "offsite");
                let first = lab::ready_snapshot(&mut client, &request).await.unwrap();
                overwrite(&mut client, &volume, 5).await;
                let request = api::RestoreVolumeRequest {
                    volume_id: volume.clone(),
                    snapshot_id: first.snapshot_id.clone(),
                };
                volumes.restore_volume(request).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                (volume, first.snapshot_id)
            });
            drop((client, volumes));
            run.kill();
            let run = world.start();
            let mut client = run.client();
            run.block_on(async {
                let volume_id = volume.clone();
                let id = api::GetVolumeRequest { volume_id };
                let done = client.wait_volume(id).await.unwrap().into_inner();
                assert_eq!(
                    (done.status(), done.error.as_str()),
                    (VolumeStatus::Available, "")
                );
                assert_holds(&mut client, &volume, &content(1)).await;
                lab::delete_snapshot(&mut client, &snapshot).await.unwrap();
                lab::delete_volume(&mut client, &volume).await.unwrap();
            });
            run.stop();
            world.close();
        }
    }
}
