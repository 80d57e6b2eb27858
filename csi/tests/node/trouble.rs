//! Targets that do not fit, damage, calls that were cut off, and devices that go away.

use std::path::PathBuf;

use stockpot_proto::csi::v1::volume_capability::access_mode::Mode;
use tonic::Code;

use crate::{
    MIB, Volume, finish, run,
    support::{Bench, mounted},
    with_capability,
};

#[tokio::test]
async fn targets_that_do_not_fit() {
    let mut bench = Bench::start(true).await;
    let capability = mounted(Mode::SingleNodeSingleWriter, "ext4");
    let volume = Volume::make(&mut bench, with_capability("a", 64 * MIB, capability)).await;
    volume.up(&mut bench).await;
    let second = volume.publish(&bench.path("second"), false);
    let refused = bench.node.node_publish_volume(second).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let mut other_fs = volume.stage();
    other_fs.volume_capability = Some(mounted(Mode::SingleNodeSingleWriter, "xfs"));
    let refused = bench.node.node_stage_volume(other_fs).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");

    // A target with content is never removed, whatever was mounted there.
    let full = bench.path("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("f"), "mine").unwrap();
    let refused = bench
        .node
        .node_unpublish_volume(volume.unpublish(&full))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(full.join("f").exists());
    // A file where a directory should be.
    volume.down(&mut bench).await;
    std::fs::write(&volume.target, "").unwrap();
    bench.node.node_stage_volume(volume.stage()).await.unwrap();
    let wrong = volume.publish(&volume.target, false);
    let refused = bench.node.node_publish_volume(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    volume.down(&mut bench).await;
    finish(bench).await;
}

/// A reader-only volume; and one whose file system was damaged beyond what is repaired unasked.
#[tokio::test]
async fn readers_and_damage() {
    let mut bench = Bench::start(true).await;
    let writer = mounted(Mode::SingleNodeWriter, "ext4");
    let mut volume = Volume::make(&mut bench, with_capability("a", 64 * MIB, writer)).await;
    volume.up(&mut bench).await;
    std::fs::write(volume.target.join("f"), "hello").unwrap();
    volume.down(&mut bench).await;
    volume.capability = mounted(Mode::SingleNodeReaderOnly, "ext4");
    volume.up(&mut bench).await;
    assert_eq!(std::fs::read(volume.target.join("f")).unwrap(), b"hello");
    assert!(std::fs::write(volume.target.join("g"), "x").is_err());
    volume.down(&mut bench).await;

    // The root directory is no directory any more, and the file system knows that it has errors.
    let image = bench.manager.image(&volume.id).display().to_string();
    for change in ["set_inode_field <2> mode 0", "set_super_value state 2"] {
        run("debugfs", &["-w", "-R", change, &image]).await;
    }
    let refused = bench
        .node
        .node_stage_volume(volume.stage())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");
    assert!(bench.manager.state().attached.is_empty());
    finish(bench).await;
}

/// Calls that were cut off in the middle are repeated, by another process.
#[tokio::test]
async fn half_done_calls_are_finished() {
    let mut bench = Bench::start(true).await;
    let capability = mounted(Mode::SingleNodeWriter, "ext4");
    let volume = Volume::make(&mut bench, with_capability("a", 64 * MIB, capability)).await;
    // A crash after the bind mount and before anything else: calls from the start again find it.
    volume.up(&mut bench).await;
    bench.restart_frontend().await;
    volume.up(&mut bench).await;
    // A crash after the unmount and before the target was removed.
    run("umount", &[&volume.target.display().to_string()]).await;
    volume.down(&mut bench).await;
    // A crash after the staging unmount and before the device was detached.
    volume.up(&mut bench).await;
    for path in [&volume.target, &volume.staging] {
        run("umount", &[&path.display().to_string()]).await;
    }
    volume.down(&mut bench).await;
    finish(bench).await;
}

/// The device of a mounted volume goes away: what is left can be taken down, and the volume come back on another.
#[tokio::test]
async fn a_device_that_is_gone_does_not_stay() {
    let mut bench = Bench::start(true).await;
    let capability = mounted(Mode::SingleNodeWriter, "ext4");
    let volume = Volume::make(&mut bench, with_capability("a", 64 * MIB, capability)).await;
    for both in [false, true] {
        let disk = scsi_disk().await;
        let (id, path) = (volume.id.clone(), PathBuf::from("/dev").join(&disk));
        bench.manager.state().attached.insert(id, path);
        volume.up(&mut bench).await;
        std::fs::write(volume.target.join("f"), "never reaches the disk").unwrap();
        std::fs::write(format!("/sys/block/{disk}/device/delete"), "1").unwrap();
        bench.manager.state().attached.remove(&volume.id);
        if both {
            // Staged and published again over what is left of the first device.
            volume.up(&mut bench).await;
            assert!(!volume.target.join("f").exists());
        }
        volume.down(&mut bench).await;
        run("modprobe", &["--remove", "scsi_debug"]).await;
    }
    finish(bench).await;
}

/// A disk that can be pulled; its name.
async fn scsi_disk() -> String {
    run("modprobe", &["scsi_debug", "dev_size_mb=64"]).await;
    run("udevadm", &["settle"]).await;
    for entry in std::fs::read_dir("/sys/block").unwrap() {
        let entry = entry.unwrap();
        let model = std::fs::read_to_string(entry.path().join("device/model"));
        if model.is_ok_and(|m| m.trim() == "scsi_debug") {
            return entry.file_name().into_string().unwrap();
        }
    }
    panic!("scsi_debug made no disk");
}
