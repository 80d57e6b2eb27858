//! The Node service with real devices, file systems and mounts; runs in the test host.

#![expect(
    clippy::unwrap_used,
    reason = "helpers fail as the test that calls them"
)]

#[expect(dead_code, reason = "shared with the tests of the controller")]
mod support;

use std::{
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use stockpot_command::Command;
use stockpot_proto::csi::v1::{
    self as csi, VolumeCapability, volume_capability::access_mode::Mode,
    volume_content_source as content,
};
use support::{Bench, block, create_volume, mounted};
use tonic::Code;

const MIB: i64 = 1 << 20;
/// `mkfs.xfs` makes nothing smaller.
const XFS_SIZE: i64 = 320 * MIB;

/// One volume, where it is staged and where published.
struct Volume {
    id: String,
    capability: VolumeCapability,
    staging: PathBuf,
    target: PathBuf,
}

impl Volume {
    async fn make(bench: &mut Bench, request: csi::CreateVolumeRequest) -> Self {
        let name = request.name.clone();
        let capability = request.volume_capabilities[0].clone();
        let answer = bench.controller.create_volume(request).await.unwrap();
        let staging = bench.path(&format!("{name}-staging"));
        std::fs::create_dir(&staging).unwrap();
        Self {
            id: answer.into_inner().volume.unwrap().volume_id,
            capability,
            staging,
            target: bench.path(&format!("{name}-target")),
        }
    }

    fn stage(&self) -> csi::NodeStageVolumeRequest {
        csi::NodeStageVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.display().to_string(),
            volume_capability: Some(self.capability.clone()),
            ..Default::default()
        }
    }

    fn publish(&self, target: &Path, readonly: bool) -> csi::NodePublishVolumeRequest {
        csi::NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.display().to_string(),
            target_path: target.display().to_string(),
            volume_capability: Some(self.capability.clone()),
            readonly,
            ..Default::default()
        }
    }

    fn unpublish(&self, target: &Path) -> csi::NodeUnpublishVolumeRequest {
        csi::NodeUnpublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: target.display().to_string(),
        }
    }

    fn unstage(&self) -> csi::NodeUnstageVolumeRequest {
        csi::NodeUnstageVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.display().to_string(),
        }
    }

    async fn up(&self, bench: &mut Bench) {
        bench.node.node_stage_volume(self.stage()).await.unwrap();
        let publish = self.publish(&self.target, false);
        bench.node.node_publish_volume(publish).await.unwrap();
    }

    async fn down(&self, bench: &mut Bench) {
        let unpublish = self.unpublish(&self.target);
        bench.node.node_unpublish_volume(unpublish).await.unwrap();
        bench
            .node
            .node_unstage_volume(self.unstage())
            .await
            .unwrap();
        assert!(!self.target.exists());
        assert_eq!(mounts_under(&self.staging), 0);
        assert!(!bench.manager.state().attached.contains_key(&self.id));
    }
}

fn mounts_under(path: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = path.display().to_string();
    table
        .lines()
        .filter(|l| l.split(' ').nth(4).is_some_and(|p| p.starts_with(&path)))
        .count()
}

async fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).run().await;
    output.unwrap().stdout_text()
}

fn with_capability(
    name: &str,
    size: i64,
    capability: VolumeCapability,
) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        volume_capabilities: vec![capability],
        ..create_volume(name, size)
    }
}

fn from_volume(mut request: csi::CreateVolumeRequest, id: &str) -> csi::CreateVolumeRequest {
    request.volume_content_source = Some(csi::VolumeContentSource {
        r#type: Some(content::Type::Volume(content::VolumeSource {
            volume_id: id.to_owned(),
        })),
    });
    request
}

async fn finish(bench: Bench) {
    let dir = bench.dir.path().to_owned();
    assert!(bench.manager.state().attached.is_empty());
    assert_eq!(mounts_under(&dir), 0);
    bench.stop().await;
    // A detached loop device goes when whoever just looks at it (a program that another test starts) has closed it.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let loops = run("losetup", &["--list", "--noheadings"]).await;
        if !loops.contains(&dir.display().to_string()) {
            return;
        }
        assert!(Instant::now() < deadline, "{loops}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each call twice, data through a restart of the frontend and a second staging, for both file systems.
async fn a_file_system_keeps_its_files(fs: &str, size: i64) {
    let mut bench = Bench::start(true).await;
    let capability = mounted(Mode::SingleNodeWriter, fs);
    let volume = Volume::make(&mut bench, with_capability("a", size, capability)).await;
    volume.up(&mut bench).await;
    volume.up(&mut bench).await;
    std::fs::write(volume.target.join("f"), "hello").unwrap();

    bench.restart_frontend().await;
    let second = bench.path("second");
    let read_only = volume.publish(&second, true);
    bench
        .node
        .node_publish_volume(read_only.clone())
        .await
        .unwrap();
    bench.node.node_publish_volume(read_only).await.unwrap();
    assert_eq!(std::fs::read(second.join("f")).unwrap(), b"hello");
    let refused = std::fs::write(second.join("g"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(30), "{refused}");
    std::fs::write(
        volume.target.join("g"),
        "the first target is still writable",
    )
    .unwrap();
    let not_yet = bench.node.node_unstage_volume(volume.unstage()).await;
    assert_eq!(not_yet.unwrap_err().code(), Code::FailedPrecondition);

    let stats = bench
        .node
        .node_get_volume_stats(csi::NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .usage;
    assert_eq!(stats.len(), 2);
    assert!(stats[0].total > size / 2 && stats[0].used > 0 && stats[0].available > 0);

    for _ in 0..2 {
        let unpublish = volume.unpublish(&second);
        bench.node.node_unpublish_volume(unpublish).await.unwrap();
    }
    volume.down(&mut bench).await;
    volume.down(&mut bench).await;
    volume.up(&mut bench).await;
    assert_eq!(std::fs::read(volume.target.join("f")).unwrap(), b"hello");
    volume.down(&mut bench).await;
    finish(bench).await;
}

#[tokio::test]
async fn ext4_keeps_its_files() {
    a_file_system_keeps_its_files("ext4", 64 * MIB).await;
}

#[tokio::test]
async fn xfs_keeps_its_files() {
    a_file_system_keeps_its_files("xfs", XFS_SIZE).await;
}

/// A copy is larger, has the original's UUID and is mounted beside it; its file system grows.
async fn a_copy_lives_beside_its_original(fs: &str, size: i64) {
    let mut bench = Bench::start(true).await;
    let capability = mounted(Mode::SingleNodeWriter, fs);
    let original = Volume::make(&mut bench, with_capability("a", size, capability.clone())).await;
    original.up(&mut bench).await;
    std::fs::write(original.target.join("f"), "hello").unwrap();
    original.down(&mut bench).await;
    let request = from_volume(with_capability("b", 2 * size, capability), &original.id);
    let copy = Volume::make(&mut bench, request).await;
    original.up(&mut bench).await;
    copy.up(&mut bench).await;
    assert_eq!(std::fs::read(copy.target.join("f")).unwrap(), b"hello");
    let room = nix::sys::statvfs::statvfs(&copy.target).unwrap();
    let total = i64::try_from(room.blocks() * room.fragment_size()).unwrap();
    assert!(
        total > size * 3 / 2,
        "{total} bytes, the device has {}",
        2 * size
    );
    copy.down(&mut bench).await;
    original.down(&mut bench).await;
    finish(bench).await;
}

#[tokio::test]
async fn an_ext4_copy_lives_beside_its_original() {
    a_copy_lives_beside_its_original("ext4", 64 * MIB).await;
}

#[tokio::test]
async fn an_xfs_copy_lives_beside_its_original() {
    a_copy_lives_beside_its_original("xfs", XFS_SIZE).await;
}

#[tokio::test]
async fn what_came_from_a_source_is_never_formatted() {
    let mut bench = Bench::start(true).await;
    let capability = mounted(Mode::SingleNodeWriter, "ext4");
    let raw = Volume::make(
        &mut bench,
        with_capability("a", 32 * MIB, capability.clone()),
    )
    .await;
    let image = bench.manager.image(&raw.id);
    std::fs::write(&image, vec![0x5a; 32 << 20]).unwrap();
    let request = from_volume(with_capability("b", 32 * MIB, capability.clone()), &raw.id);
    let copy = Volume::make(&mut bench, request).await;
    for _ in 0..2 {
        let refused = bench
            .node
            .node_stage_volume(copy.stage())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(bench.manager.state().attached.is_empty());
    }
    assert!(
        std::fs::read(bench.manager.image(&copy.id))
            .unwrap()
            .iter()
            .all(|b| *b == 0x5a)
    );

    // Nor is a volume with something else on it, or with another file system than the one asked for.
    let other = Volume::make(&mut bench, with_capability("c", 32 * MIB, capability)).await;
    let image = bench.manager.image(&other.id).display().to_string();
    run("mkswap", &[&image]).await;
    let refused = bench
        .node
        .node_stage_volume(other.stage())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("swap"), "{refused}");
    run("mkfs.ext4", &["-q", "-F", &image]).await;
    let mut xfs = other.stage();
    xfs.volume_capability = Some(mounted(Mode::SingleNodeWriter, "xfs"));
    let refused = bench.node.node_stage_volume(xfs).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    // Without a wish, what is there is taken.
    let mut any = other.stage();
    any.volume_capability = Some(mounted(Mode::SingleNodeWriter, ""));
    bench.node.node_stage_volume(any).await.unwrap();
    other.down(&mut bench).await;
    finish(bench).await;
}

/// What a crash between the two steps of making a file system leaves is made anew, and only then.
#[tokio::test]
async fn a_half_made_file_system_is_made_again() {
    let mut bench = Bench::start(true).await;
    for (name, fs, size) in [("a", "ext4", 64 * MIB), ("b", "xfs", XFS_SIZE)] {
        let capability = mounted(Mode::SingleNodeWriter, fs);
        let volume = Volume::make(&mut bench, with_capability(name, size, capability)).await;
        let image = bench.manager.image(&volume.id).display().to_string();
        run(&format!("mkfs.{fs}"), &["-q", "-L", "sp-mkfs-half", &image]).await;
        let before = run("blkid", &["-p", "-o", "value", "-s", "UUID", &image]).await;
        volume.up(&mut bench).await;
        std::fs::write(volume.target.join("f"), "hello").unwrap();
        volume.down(&mut bench).await;
        let after = run("blkid", &["-p", "-o", "value", "-s", "UUID", &image]).await;
        assert_ne!(before, after);
        volume.up(&mut bench).await;
        assert_eq!(std::fs::read(volume.target.join("f")).unwrap(), b"hello");
        volume.down(&mut bench).await;
    }
    finish(bench).await;
}

#[tokio::test]
async fn a_block_volume_is_a_device() {
    let mut bench = Bench::start(true).await;
    let capability = block(Mode::SingleNodeWriter);
    let volume = Volume::make(&mut bench, with_capability("a", 8 * MIB, capability)).await;
    volume.up(&mut bench).await;
    volume.up(&mut bench).await;
    assert!(
        std::fs::metadata(&volume.target)
            .unwrap()
            .file_type()
            .is_block_device()
    );
    std::fs::write(&volume.target, "raw bytes").unwrap();
    let stats = bench
        .node
        .node_get_volume_stats(csi::NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(stats.into_inner().usage[0].total, 8 * MIB);
    // The same device cannot be writable for one and read-only for another.
    let read_only = volume.publish(&bench.path("second"), true);
    let refused = bench.node.node_publish_volume(read_only).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    // Nor is it taken from under its target.
    let refused = bench.node.node_unstage_volume(volume.unstage()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    std::fs::write(&volume.target, "raw bytes").unwrap();
    volume.down(&mut bench).await;
    assert!(
        std::fs::read(bench.manager.image(&volume.id))
            .unwrap()
            .starts_with(b"raw bytes")
    );

    bench.node.node_stage_volume(volume.stage()).await.unwrap();
    let read_only = volume.publish(&volume.target, true);
    bench.node.node_publish_volume(read_only).await.unwrap();
    assert_refuses_writes(&volume.target);
    volume.down(&mut bench).await;
    volume.up(&mut bench).await;
    volume.down(&mut bench).await;
    finish(bench).await;
}

fn assert_refuses_writes(device: &Path) {
    let refused = std::fs::write(device, "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(1), "{refused}");
}

/// A device that is published read-only stays so whatever is asked of it meanwhile.
#[tokio::test]
async fn a_block_volume_stays_read_only() {
    let mut bench = Bench::start(true).await;
    let modes = [Mode::SingleNodeWriter, Mode::SingleNodeReaderOnly];
    for (name, mode) in ["a", "b"].into_iter().zip(modes) {
        let request = with_capability(name, 8 * MIB, block(mode));
        let volume = Volume::make(&mut bench, request).await;
        bench.node.node_stage_volume(volume.stage()).await.unwrap();
        let publish = volume.publish(&volume.target, true);
        bench
            .node
            .node_publish_volume(publish.clone())
            .await
            .unwrap();
        // As the kubelet does after a restart.
        bench.restart_frontend().await;
        bench.node.node_stage_volume(volume.stage()).await.unwrap();
        assert_refuses_writes(&volume.target);
        bench
            .node
            .node_publish_volume(publish.clone())
            .await
            .unwrap();
        assert_refuses_writes(&volume.target);
        let range = csi::CapacityRange {
            required_bytes: 16 * MIB,
            limit_bytes: 0,
        };
        let grow = csi::ControllerExpandVolumeRequest {
            volume_id: volume.id.clone(),
            capacity_range: Some(range),
            ..Default::default()
        };
        bench
            .controller
            .controller_expand_volume(grow)
            .await
            .unwrap();
        let grown = csi::NodeExpandVolumeRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            capacity_range: Some(range),
            ..Default::default()
        };
        let answer = bench.node.node_expand_volume(grown).await.unwrap();
        assert_eq!(answer.into_inner().capacity_bytes, 16 * MIB);
        assert_refuses_writes(&volume.target);
        volume.down(&mut bench).await;
    }
    finish(bench).await;
}

#[tokio::test]
async fn a_mounted_volume_grows() {
    let mut bench = Bench::start(true).await;
    for (name, fs, size) in [("a", "ext4", 64 * MIB), ("b", "xfs", XFS_SIZE)] {
        let capability = mounted(Mode::SingleNodeWriter, fs);
        let volume = Volume::make(&mut bench, with_capability(name, size, capability)).await;
        volume.up(&mut bench).await;
        let range = csi::CapacityRange {
            required_bytes: 2 * size,
            limit_bytes: 0,
        };
        let node_request = csi::NodeExpandVolumeRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            capacity_range: Some(range),
            ..Default::default()
        };
        let too_early = bench.node.node_expand_volume(node_request.clone()).await;
        assert_eq!(too_early.unwrap_err().code(), Code::Internal);
        let answer = bench
            .controller
            .controller_expand_volume(csi::ControllerExpandVolumeRequest {
                volume_id: volume.id.clone(),
                capacity_range: Some(range),
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (answer.capacity_bytes, answer.node_expansion_required),
            (2 * size, true)
        );
        bench.node.node_expand_volume(node_request).await.unwrap();
        let room = nix::sys::statvfs::statvfs(&volume.target).unwrap();
        let total = i64::try_from(room.blocks() * room.fragment_size()).unwrap();
        assert!(total > size * 3 / 2, "{fs}: {total}");
        volume.down(&mut bench).await;
    }
    finish(bench).await;
}

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
