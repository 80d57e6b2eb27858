//! Backups of real volumes, in use and not, whose manager is killed in the middle.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};
use stockpot_test_fixtures::s3::{Action, Fault, FaultId, Op};
use tonic::Code;

use super::{
    Kind, World, assert_holds, attach, attach_as,
    broken::{answer_again, answer_no_parts, until_silent},
    content, detach, filled_volume, run_async,
};
use crate::lab::{self, Backups, Client, PATIENCE};

pub(super) async fn status(client: &mut Client, volume_id: &str) -> VolumeStatus {
    let volume_id = volume_id.to_owned();
    let volume = client.get_volume(api::GetVolumeRequest { volume_id }).await;
    volume.unwrap().into_inner().status()
}

/// Waits until the upload of a backup waits for an answer, and is told to have read something.
async fn until_sending(world: &World, silent: FaultId, backups: &mut Backups, id: &str) {
    until_silent(world, silent).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = backups.get_backup(lab::backup(id)).await;
        let now = now.unwrap().into_inner();
        assert_eq!(now.status(), BackupStatus::Creating, "{now:?}");
        if now.progress.as_ref().unwrap().bytes_done > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Names of logical volumes that the driver made.
pub(super) async fn logical_volumes(world: &World) -> Vec<String> {
    let listed = stockpot_command::Command::new("lvs")
        .args(["--noheadings", "-o", "lv_name", world.volume_group()])
        .run()
        .await
        .unwrap();
    let text = listed.stdout_text();
    let names = text
        .split_whitespace()
        .filter(|name| name.starts_with("stockpot"));
    names.map(str::to_owned).collect()
}

fn overwrite(device: &Path, byte: u8) {
    let mut device = fs::OpenOptions::new().write(true).open(device).unwrap();
    device.seek(SeekFrom::Start(1 << 20)).unwrap();
    device.write_all(&[byte; 1 << 20]).unwrap();
    device.sync_all().unwrap();
}

/// The name of a volume's or snapshot's logical volume.
pub(super) fn logical_volume(kind: &str, id: &str) -> String {
    format!("stockpot.{kind}.{}", id.replace('-', "."))
}

/// A copy in the bucket holds what the volume held when it was cut.
async fn assert_restores(client: &mut Client, backup: &api::Backup, seed: u64) {
    let request = lab::volume_from("back", &backup.snapshot_id, api::SourceCopy::Cloud);
    let back = lab::available_volume(client, &request).await.unwrap();
    assert_holds(client, &back.volume_id, &content(seed)).await;
    lab::delete_volume(client, &back.volume_id).await.unwrap();
}

#[test]
fn killed_while_a_volume_in_use_is_backed_up() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    let (volume, backup) = run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let device = attach(&mut client, &volume).await;
        let refused = lab::back_up(&mut backups, &volume, "b", false)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let silent = answer_no_parts(&world, 2);
        let asked = Instant::now();
        let begun = lab::back_up(&mut backups, &volume, "b", true)
            .await
            .unwrap();
        eprintln!("cut within {} ms", asked.elapsed().as_millis());
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::InUse);
        overwrite(&device, 7);
        until_sending(&world, silent, &mut backups, "b").await;
        (volume, begun.backup_id)
    });
    drop((client, backups));
    run.kill();
    world.server.faults().clear();

    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::InUse);
        let done = lab::ended(&mut backups, &backup).await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        assert!(done.cleaned && done.from_snapshot, "{done:?}");
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::InUse);
        assert_restores(&mut client, &done, 1).await;

        // The next one is told what changed, by the device that was kept; and one that is cancelled leaves nothing more.
        let second = lab::backed_up(&mut backups, &volume, "second", true).await;
        assert_eq!(
            (second.reason.as_str(), &second.parent),
            ("incremental", &done.snapshot_id)
        );
        // Its first word to the bucket is not answered.
        let silent = Fault::new(Action::Hang).on(Op::PutObject).key("intents/");
        let silent = world.server.faults().inject(silent);
        overwrite(&attach_as(&mut client, &volume, true).await, 8);
        lab::back_up(&mut backups, &volume, "third", true)
            .await
            .unwrap();
        until_silent(&world, silent).await;
        let cancelled = backups.cancel_backup(lab::backup("third")).await.unwrap();
        assert_eq!(cancelled.into_inner().status(), BackupStatus::Cancelled);
        world.server.faults().clear();
        lab::cleaned(&mut backups, "third").await;
        detach(&mut client, &volume).await;
        world.assert_tidy("after the cancellation");
        let there = logical_volumes(&world).await;
        let kept = logical_volume("s", &second.snapshot_id);
        assert_eq!(there, [kept, logical_volume("v", &volume)]);

        for name in ["b", "second", "third"] {
            backups.delete_backup(lab::backup(name)).await.unwrap();
        }
        lab::delete_volume(&mut client, &volume).await.unwrap();
        assert!(logical_volumes(&world).await.is_empty());
    });
    run.stop();
    world.close();
}

#[test]
fn killed_while_an_unused_volume_is_backed_up() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    let volume = run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let silent = answer_no_parts(&world, 2);
        lab::back_up(&mut backups, &volume, "b", false)
            .await
            .unwrap();
        until_sending(&world, silent, &mut backups, "b").await;
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::BackingUp);
        volume
    });
    drop((client, backups));
    run.kill();

    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        // Nobody may write to it before it is read again.
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::BackingUp);
        let request = api::AttachVolumeRequest {
            volume_id: volume.clone(),
            read_only: false,
            as_attached: false,
        };
        let refused = client.attach_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        answer_again(&world);
        let done = lab::ended(&mut backups, "b").await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::Available);
        world.assert_tidy("after the backup");
        assert_restores(&mut client, &done, 1).await;

        // Opened past the manager: the kernel knows.
        let name = format!("{}/{}", world.volume_group(), logical_volume("v", &volume));
        run_async("lvchange", &["-ay", "-K", &name]).await;
        let held = fs::File::open(format!("/dev/{name}")).unwrap();
        let refused = lab::back_up(&mut backups, &volume, "c", false)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let forced = lab::backed_up(&mut backups, &volume, "c", true).await;
        assert!(forced.from_snapshot, "{forced:?}");
        assert_eq!(status(&mut client, &volume).await, VolumeStatus::Available);
        drop(held);
        run_async("lvchange", &["-an", &name]).await;
        assert_restores(&mut client, &forced, 1).await;
        for name in ["b", "c"] {
            backups.delete_backup(lab::backup(name)).await.unwrap();
        }
        lab::delete_volume(&mut client, &volume).await.unwrap();
        assert!(logical_volumes(&world).await.is_empty());
    });
    run.stop();
    world.close();
}
