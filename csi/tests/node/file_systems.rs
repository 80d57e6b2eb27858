//! Volumes with a file system: their files stay, and nothing that came with data is formatted.

use stockpot_proto::csi::v1::{self as csi, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    MIB, Volume, XFS_SIZE, finish, from_volume, run,
    support::{Bench, mounted},
    with_capability,
};

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
