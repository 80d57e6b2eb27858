//! What only image files and loop devices can get wrong.

use std::{os::unix::fs::FileExt, path::Path};

use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, DriverError, SnapshotId, VolumeDriver,
    VolumeId,
    file::{FileConfig, FileDriver},
};

use crate::fixture::{Host, run};

const MIB: u64 = 1 << 20;

fn properties() -> ConnectorProperties {
    ConnectorProperties {
        host: "here".into(),
        ip: None,
        initiator: None,
        multipath: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn file_without_block_sharing_is_refused_or_said() {
    let host = Host::new().await;
    let ext4 = host.file_system("ext4", 256 * MIB).await;
    let mut config = FileConfig::new(ext4.path());
    let error = FileDriver::new(config.clone()).check().await.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, DriverError::Host(_)) && text.contains("mkfs.xfs -m reflink=1"),
        "{text}"
    );
    config.allow_copy = true;
    let driver = FileDriver::new(config);
    driver.check().await.unwrap();
    let (a, s): (VolumeId, SnapshotId) = ("a".parse().unwrap(), "s".parse().unwrap());
    driver.create_volume(&a, 64 * MIB).await.unwrap();
    let image = std::fs::OpenOptions::new()
        .write(true)
        .open(ext4.path().join("volumes/a/image"))
        .unwrap();
    image.write_all_at(&[5; 4096], 32 * MIB).unwrap();
    driver.create_snapshot(&s, &a).await.unwrap();
    image.write_all_at(&[6; 4096], 32 * MIB).unwrap();
    drop(image);
    let copy = std::fs::read(ext4.path().join("snapshots/s/image")).unwrap();
    assert!(copy.len() as u64 == 64 * MIB && copy[32 << 20..][..4096] == [5; 4096]);
    let ranges = driver.allocated_ranges(&s).await.unwrap().unwrap();
    assert!(
        ranges.iter().map(|r| r.length_bytes).sum::<u64>() < MIB,
        "holes were filled: {ranges:?}"
    );
    ext4.unmount().await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_loop_devices_are_found_by_their_file() {
    let host = Host::new().await;
    let xfs = host.file_system("xfs", 512 * MIB).await;
    let driver = FileDriver::new(FileConfig::new(xfs.path().join("images")));
    driver.check().await.unwrap();
    let a: VolumeId = "a".parse().unwrap();
    driver.create_volume(&a, 16 * MIB).await.unwrap();
    let ConnectionInfo::Local(first) = driver
        .initialize_connection(&a, &properties(), AccessMode::ReadWrite)
        .await
        .unwrap()
    else {
        panic!("a loop device is local");
    };
    let device = first.device_path.to_str().unwrap().to_owned();
    let listed = run(
        "losetup",
        &[
            "--list",
            "--noheadings",
            "--output",
            "RO,AUTOCLEAR,DIO,LOG-SEC",
            &device,
        ],
    )
    .await;
    assert_eq!(
        listed.split_whitespace().collect::<Vec<_>>(),
        ["0", "0", "1", "512"]
    );
    // The directory has another name after a restart: still the same device.
    std::fs::rename(xfs.path().join("images"), xfs.path().join("moved")).unwrap();
    let driver = FileDriver::new(FileConfig::new(xfs.path().join("moved")));
    let ConnectionInfo::Local(again) = driver
        .initialize_connection(&a, &properties(), AccessMode::ReadWrite)
        .await
        .unwrap()
    else {
        panic!("a loop device is local");
    };
    assert_eq!(again, first);
    // With another access mode there is one device still.
    driver
        .initialize_connection(&a, &properties(), AccessMode::ReadOnly)
        .await
        .unwrap();
    assert_eq!(loops_of(&xfs.path().join("moved")).await, 1);
    // One that somebody else made, of a part of the image, goes with the volume too, but not while it is open.
    let image = xfs.path().join("moved/volumes/a/image");
    let part = run(
        "losetup",
        &[
            "--find",
            "--show",
            "--offset",
            "4096",
            image.to_str().unwrap(),
        ],
    )
    .await;
    let held = std::fs::File::open(part.trim()).unwrap();
    let error = driver.delete_volume(&a).await.unwrap_err();
    assert!(matches!(error, DriverError::InUse { .. }), "{error:?}");
    drop(held);
    driver.delete_volume(&a).await.unwrap();
    assert_eq!(loops_of(xfs.path()).await, 0);
    xfs.unmount().await;
    host.close().await;
}

async fn loops_of(directory: &Path) -> usize {
    let listed = run(
        "losetup",
        &["--list", "--noheadings", "--output", "BACK-FILE"],
    )
    .await;
    listed
        .lines()
        .filter(|line| line.contains(directory.to_str().unwrap()))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn file_a_full_file_system_takes_nothing_more() {
    let host = Host::new().await;
    let btrfs = host.file_system("btrfs", 256 * MIB).await;
    let mut config = FileConfig::new(btrfs.path().join("images"));
    config.reserve_bytes = 120 * MIB;
    let driver = FileDriver::new(config);
    driver.check().await.unwrap();
    let a: VolumeId = "a".parse().unwrap();
    driver.create_volume(&a, 16 * MIB).await.unwrap();
    std::fs::write(btrfs.path().join("ballast"), vec![1; 100 << 20]).unwrap();
    run("sync", &[]).await;
    for refused in [
        driver
            .create_volume(&"b".parse().unwrap(), MIB)
            .await
            .map(drop),
        driver
            .create_snapshot(&"s".parse().unwrap(), &a)
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, DriverError::ResourceExhausted(_)),
            "{error:?}"
        );
    }
    driver.delete_volume(&a).await.unwrap();
    btrfs.unmount().await;
    host.close().await;
}
