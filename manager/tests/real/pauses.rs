//! Uploads of a real thin volume that stand still: over a restart of the manager, and until they are cancelled.

use std::time::{Duration, Instant};

use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};
use stockpot_test_fixtures::{
    image::{Fill, Image},
    s3::{Action, Fault, Op},
};
use tonic::Code;

use super::{
    BUCKET, Kind, SIZE, World, assert_holds, attach,
    backups::{logical_volume, logical_volumes, status},
    detach, filled_volume,
};
use crate::lab::{self, Backups, Client, PATIENCE, Run};

const MIB: u64 = 1 << 20;
const PACKS: &str = "packs/";
/// Parts that arrive before the server answers none any more: those of one pack, and of the next one's begin.
const PARTS: u64 = 4;

/// More than two packs, of what does not compress.
fn content() -> Image {
    Image::new(SIZE).extent(20 * MIB, 22 * MIB, Fill::Random(1))
}

/// What is written over a part of it.
fn more(seed: u64) -> (u64, u64, Fill) {
    (24 * MIB, 4 * MIB, Fill::Random(seed))
}

/// Starts a manager that sends small packs, and one part after the other, so that whole ones are there when it is stopped.
fn start(world: &World) -> (Run, Client, Backups) {
    let mut config = world.config();
    config.transfers.pack_size_bytes = Some(10 * MIB);
    config.transfers.workers = Some(1);
    config.transfers.parts_in_flight = Some(1);
    let parts = stockpot_manager::Parts::new(&config).unwrap();
    let run = Run::start(config, parts);
    let (client, backups) = (run.client(), run.backups());
    (run, client, backups)
}

async fn shown(backups: &mut Backups, id: &str) -> api::Backup {
    let shown = backups.get_backup(lab::backup(id)).await;
    shown.unwrap().into_inner()
}

/// Asks for a backup, and pauses it when the bucket has a whole pack of it and answers no more of it.
async fn paused(world: &World, backups: &mut Backups, volume: &str, id: &str) -> api::Backup {
    let before = world.keys(PACKS).len();
    let silent = Fault::new(Action::Hang).on(Op::UploadPart).key(PACKS);
    let silent = world.server.faults().inject(silent.after(PARTS));
    lab::back_up(backups, volume, id, true).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while world.keys(PACKS).len() == before || world.server.faults().fired(silent) == 0 {
        assert!(Instant::now() < deadline, "{:?}", shown(backups, id).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(world.open_uploads() > 0, "it is not under way");
    let paused = backups.pause_backup(lab::backup(id)).await.unwrap();
    let paused = paused.into_inner();
    assert!(paused.paused, "{paused:?}");
    world.server.faults().clear();
    paused
}

/// No request reaches the bucket, and nothing of it is gone, while somebody writes to the volume.
async fn assert_still(
    world: &World,
    (client, backups): (&mut Client, &mut Backups),
    volume: &str,
    seed: u64,
) {
    let before = (world.server.journal().total(), world.keys(""));
    let device = attach(client, volume).await;
    let device = std::fs::OpenOptions::new().write(true).open(device);
    let device = device.unwrap();
    let (offset, length, fill) = more(seed);
    let written = Image::new(SIZE).extent(offset, length, fill);
    written.write_extents(&device).unwrap();
    device.sync_all().unwrap();
    drop(device);
    detach(client, volume).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = shown(backups, "b").await;
        assert!(now.paused, "{now:?}");
        assert_eq!(now.status(), BackupStatus::Creating, "{now:?}");
        if now.progress.as_ref().unwrap().phase == "paused" {
            break;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let after = (world.server.journal().total(), world.keys(""));
    assert_eq!(after, before);
    world.assert_tidy("while it is paused");
}

#[test]
fn a_paused_upload_stands_still_over_a_crash() {
    let world = World::new(Kind::LvmThin);
    let (run, mut client, mut backups) = start(&world);
    let (volume, temporary) = run.block_on(async {
        let volume = filled_volume(&mut client, &content()).await.volume_id;
        attach(&mut client, &volume).await;
        let begun = paused(&world, &mut backups, &volume, "b").await;
        detach(&mut client, &volume).await;
        assert_still(&world, (&mut client, &mut backups), &volume, 2).await;
        (volume, begun.temp_snapshot_id)
    });
    drop((client, backups));
    run.kill();

    let (run, mut client, mut backups) = start(&world);
    run.block_on(async {
        assert_still(&world, (&mut client, &mut backups), &volume, 3).await;
        let read = logical_volume("s", &temporary);
        let its = logical_volume("v", &volume);
        assert_eq!(logical_volumes(&world).await, [read, its.clone()]);

        let kept = world.keys(PACKS);
        let resumed = backups.resume_backup(lab::backup("b")).await.unwrap();
        assert!(!resumed.into_inner().paused);
        let done = lab::cleaned(&mut backups, "b").await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        assert!(!done.paused, "{done:?}");
        assert_only_the_rest_was_sent(&world, &kept);
        world.assert_tidy("after the upload");

        // What was there when it was cut, whatever was written since.
        let request = lab::volume_from("back", &done.snapshot_id, api::SourceCopy::Cloud);
        let back = lab::available_volume(&mut client, &request).await.unwrap();
        assert_holds(&mut client, &back.volume_id, &content()).await;
        let (offset, length, fill) = more(3);
        let now = content().extent(offset, length, fill);
        assert_holds(&mut client, &volume, &now).await;
        lab::delete_volume(&mut client, &back.volume_id)
            .await
            .unwrap();
        let base = logical_volume("s", &done.snapshot_id);
        assert_eq!(logical_volumes(&world).await, [base, its]);
        backups.delete_backup(lab::backup("b")).await.unwrap();
        lab::delete_volume(&mut client, &volume).await.unwrap();
        assert!(logical_volumes(&world).await.is_empty());
    });
    run.stop();
    assert!(world.keys("intents/").is_empty());
    world.close();
}

/// What had been sent is there as it was, and nothing of it a second time.
fn assert_only_the_rest_was_sent(world: &World, kept: &[String]) {
    let objects = world.server.objects(BUCKET);
    let packs = || objects.iter().filter(|one| one.key.contains(PACKS));
    let in_all: u64 = packs().map(|one| one.size_bytes).sum();
    let of_kept = packs().filter(|one| kept.contains(&one.key));
    let of_kept: u64 = of_kept.map(|one| one.size_bytes).sum();
    assert!(of_kept >= 10 * MIB, "{of_kept} bytes were kept");
    assert!(in_all < 24 * MIB, "{in_all} bytes were sent");
}

#[test]
fn a_paused_backup_that_is_cancelled_leaves_nothing() {
    let world = World::new(Kind::LvmThin);
    let (run, mut client, mut backups) = start(&world);
    run.block_on(async {
        let volume = filled_volume(&mut client, &content()).await.volume_id;
        let its = logical_volume("v", &volume);
        for (id, in_use) in [("in-use", true), ("unused", false)] {
            let before = match in_use {
                true => VolumeStatus::InUse,
                false => VolumeStatus::Available,
            };
            let request = api::AttachVolumeRequest {
                volume_id: volume.clone(),
                read_only: false,
                as_attached: false,
            };
            if in_use {
                client.attach_volume(request.clone()).await.unwrap();
            }
            let begun = paused(&world, &mut backups, &volume, id).await;
            assert_eq!(begun.from_snapshot, in_use, "{begun:?}");
            assert_eq!(world.open_uploads(), 0, "{id}: paused");
            if in_use {
                let read = logical_volume("s", &begun.temp_snapshot_id);
                assert_eq!(logical_volumes(&world).await, [read, its.clone()]);
            } else {
                // It is what is being read.
                let refused = client.attach_volume(request).await.unwrap_err();
                assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            }
            let cancelled = backups.cancel_backup(lab::backup(id)).await.unwrap();
            let cancelled = cancelled.into_inner();
            assert_eq!(cancelled.status(), BackupStatus::Cancelled, "{cancelled:?}");
            assert!(!cancelled.paused, "{cancelled:?}");
            assert_eq!(status(&mut client, &volume).await, before, "{id}");
            lab::cleaned(&mut backups, id).await;
            assert_eq!(logical_volumes(&world).await, [its.as_str()], "{id}");
            assert_eq!(world.keys("intents/"), [""; 0], "{id}");
            let tombstone = format!("site/snapshots/{volume}/{}.json", begun.snapshot_id);
            assert!(world.keys("snapshots/").contains(&tombstone), "{id}");
            if in_use {
                detach(&mut client, &volume).await;
            }
            world.assert_tidy(id);
        }
        for id in ["in-use", "unused"] {
            backups.delete_backup(lab::backup(id)).await.unwrap();
        }
        lab::delete_volume(&mut client, &volume).await.unwrap();
        assert!(logical_volumes(&world).await.is_empty());
    });
    run.stop();
    world.close();
}
