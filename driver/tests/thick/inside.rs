//! What is inside a volume stays inside: nothing of it is activated on the host, and no link goes astray.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use stockpot_command::Command;
use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, SnapshotId, VolumeDriver, VolumeId,
    file::{FileConfig, FileDriver},
};

use crate::{
    fixture::{
        Host,
        inside::{self, FILE_SYSTEM, Rules, arrays, by_uuid, links, make_mirror},
        run,
    },
    lvm_thick, lvm_thin,
};

const MIB: u64 = 1 << 20;
/// Both of each are attached: a volume with a file system, one with a volume group in it, one with half of a mirror, and
/// their snapshots; all on the host that holds them.
async fn nothing_inside_is_seen(host: &Host, driver: &dyn VolumeDriver) {
    driver.check().await.unwrap();
    let ids = ["files", "group", "mirror"];
    for id in ids {
        let id: VolumeId = id.parse().unwrap();
        driver.create_volume(&id, 64 * MIB).await.unwrap();
        driver.create_export(&id).await.unwrap();
    }
    let device = |kind: &str, id: &str| format!("/dev/{}/stockpot.{kind}.{id}", host.vg());
    let (files, group) = (device("v", "files"), device("v", "group"));
    run("mkfs.ext4", &["-q", "-U", FILE_SYSTEM, &files]).await;
    // As a guest to whom the volume is a disk would do it.
    let inside = ["--config", "devices/scan_lvs=1"];
    for step in [
        &["vgcreate", "--yes", "inside", &group][..],
        &[
            "lvcreate", "--yes", "--size", "16m", "--name", "data", "inside",
        ],
        &["vgchange", "--activate", "n", "inside"],
    ] {
        run(step[0], &[&inside[..], &step[1..]].concat()).await;
    }
    make_mirror(&device("v", "mirror")).await;
    run("udevadm", &["trigger", "--settle", &files]).await;
    let origin = Path::new(&files).canonicalize().unwrap();
    assert_eq!(by_uuid(), Some(origin.clone()));
    for id in ids {
        let (snapshot, volume): (SnapshotId, VolumeId) = (id.parse().unwrap(), id.parse().unwrap());
        driver.create_snapshot(&snapshot, &volume).await.unwrap();
        driver.create_export_snapshot(&snapshot).await.unwrap();
    }
    // As at a boot: everything is announced once more, snapshots last.
    let all = ["v", "s"].map(|kind| ids.map(|id| device(kind, id)));
    for device in all.as_flattened() {
        run(
            "udevadm",
            &["trigger", "--settle", "--action", "add", device],
        )
        .await;
        run(
            "udevadm",
            &["trigger", "--settle", "--action", "change", device],
        )
        .await;
    }
    assert_eq!(by_uuid(), Some(origin), "the link names another device");
    assert_eq!(arrays(), "", "a mirror inside was assembled");
    for program in ["pvs", "vgs", "lvs"] {
        let output = Command::new(program).output().await.unwrap();
        let said = format!("{}{}", output.stdout_text(), output.stderr);
        assert!(
            !said.contains("inside") && !said.to_lowercase().contains("duplicate"),
            "{program}: {said}"
        );
    }
    run("vgchange", &["--activate", "ay"]).await;
    let mapped = run("dmsetup", &["ls"]).await;
    assert!(!mapped.contains("inside"), "{mapped}");
    for id in ids {
        let (snapshot, volume): (SnapshotId, VolumeId) = (id.parse().unwrap(), id.parse().unwrap());
        driver.remove_export_snapshot(&snapshot).await.unwrap();
        driver.delete_snapshot(&snapshot).await.unwrap();
        driver.delete_volume(&volume).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_a_volume_nothing_is_activated() {
    let host = Host::new().await;
    let rules = Rules::install().await;
    nothing_inside_is_seen(&host, &lvm_thick(&host)).await;
    nothing_inside_is_seen(&host, &lvm_thin(&host)).await;
    rules.remove().await;
    host.close().await;
}

/// Announces a device until it has its link by UUID. udev sees by itself what is written to a device, but only once it watches
/// it, and that begins a moment after the device is there.
async fn linked(device: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while by_uuid().is_none() {
        assert!(Instant::now() < deadline, "udev makes no links at all");
        run(
            "udevadm",
            &["trigger", "--settle", "--action", "change", device],
        )
        .await;
    }
    inside::settle().await;
}

/// Extents that held a file system are given to a volume: while it is made, and for ever, nothing of that has a link.
#[tokio::test(flavor = "multi_thread")]
async fn old_bytes_have_no_links_while_a_volume_is_made() {
    let host = Host::new().await;
    let rules = Rules::install().await;
    let driver = lvm_thick(&host);
    driver.check().await.unwrap();
    let old = host.foreign_lv("old", 256 * MIB).await;
    let device = old.to_str().unwrap();
    run("mkfs.ext4", &["-q", "-U", FILE_SYSTEM, device]).await;
    linked(device).await;
    run("lvremove", &["--yes", &format!("{}/old", host.vg())]).await;
    inside::settle().await;
    assert_eq!(by_uuid(), None);
    let over = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let over = over.clone();
        move || {
            let mut seen = None;
            while !over.load(Ordering::Relaxed) {
                seen = seen.or(by_uuid());
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        }
    });
    let id: VolumeId = "new".parse().unwrap();
    driver.create_volume(&id, 256 * MIB).await.unwrap();
    inside::settle().await;
    over.store(true, Ordering::Relaxed);
    assert_eq!(
        watcher.join().unwrap(),
        None,
        "what was there before had a link"
    );
    driver.delete_volume(&id).await.unwrap();
    rules.remove().await;
    host.close().await;
}

/// An image's loop device is no logical volume: it is told by the image.
#[tokio::test(flavor = "multi_thread")]
async fn inside_an_image_nothing_is_activated() {
    let host = Host::new().await;
    let xfs = host.file_system("xfs", 1 << 30).await;
    let rules = Rules::install().await;
    let mut config = FileConfig::new(xfs.path().join("a pool"));
    config.close_patience = Duration::from_millis(300);
    let driver = FileDriver::new(config);
    driver.check().await.unwrap();
    let mut attached = Vec::new();
    for id in ["files", "group", "mirror"] {
        let (snapshot, volume): (SnapshotId, VolumeId) = (id.parse().unwrap(), id.parse().unwrap());
        driver.create_volume(&volume, 64 * MIB).await.unwrap();
        driver.create_export(&volume).await.unwrap();
        let here = ConnectorProperties {
            host: "here".into(),
            ip: None,
            initiator: None,
            multipath: false,
        };
        let mode = AccessMode::ReadWrite;
        let device = driver.initialize_connection(&volume, &here, mode).await;
        let device = path(device.unwrap());
        inside::fill(id, &device).await;
        driver.create_snapshot(&snapshot, &volume).await.unwrap();
        driver.create_export_snapshot(&snapshot).await.unwrap();
        let hidden = driver.initialize_connection_snapshot(&snapshot, &here);
        attached.push((device, path(hidden.await.unwrap())));
    }
    inside::announce("loop*").await;
    for (shown, hidden) in &attached {
        assert!(links(shown).await.contains("stockpot/loop"));
        let links = links(hidden).await;
        assert!(
            links.contains("stockpot/loop") && !links.contains("disk/"),
            "{links}"
        );
    }
    assert!(links(&attached[0].0).await.contains(FILE_SYSTEM));
    assert_eq!(by_uuid(), Some(attached[0].0.clone().into()));
    inside::nothing_is_activated().await;
    for id in ["files", "group", "mirror"] {
        let (snapshot, volume): (SnapshotId, VolumeId) = (id.parse().unwrap(), id.parse().unwrap());
        driver.remove_export_snapshot(&snapshot).await.unwrap();
        driver.delete_snapshot(&snapshot).await.unwrap();
        driver.remove_export(&volume).await.unwrap();
        driver.delete_volume(&volume).await.unwrap();
    }
    rules.remove().await;
    xfs.unmount().await;
    host.close().await;
}

fn path(info: ConnectionInfo) -> String {
    match info {
        ConnectionInfo::Local(local) => local.device_path.to_str().unwrap().to_owned(),
        ConnectionInfo::Iscsi(_) => panic!("over iSCSI to itself"),
    }
}
