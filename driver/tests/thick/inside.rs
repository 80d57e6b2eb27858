//! What is inside a volume stays inside: nothing of it is activated on the host, and no link goes astray.

use std::path::{Path, PathBuf};

use stockpot_command::Command;
use stockpot_driver::{SnapshotId, VolumeDriver, VolumeId};

use crate::{
    fixture::{Host, run},
    lvm_thick, lvm_thin,
};

const MIB: u64 = 1 << 20;
const FILE_SYSTEM: &str = "5a1ad0de-0000-4000-8000-00000000f00d";
const RULES: &str = include_str!("../../host/57-stockpot.rules");
const INSTALLED: &str = "/run/udev/rules.d/57-stockpot.rules";

async fn settle() {
    run("udevadm", &["settle"]).await;
}

fn by_uuid() -> Option<PathBuf> {
    Path::new("/dev/disk/by-uuid")
        .join(FILE_SYSTEM)
        .canonicalize()
        .ok()
}

/// As a guest to whom the volume is a disk would do it: one half of a mirror. Its arrays are its own.
async fn make_mirror(device: &str) {
    run("modprobe", &["-a", "md-mod", "raid1"]).await;
    let create = ["--create", "/dev/md/inside", "--run", "--level=1"];
    let members = ["--raid-devices=2", "--metadata=1.2", device, "missing"];
    run("mdadm", &[&create[..], &members].concat()).await;
    run("mdadm", &["--stop", "/dev/md/inside"]).await;
    settle().await;
    let found = run("blkid", &["--probe", device]).await;
    assert!(found.contains("linux_raid_member"), "{found}");
}

fn arrays() -> String {
    let all = std::fs::read_to_string("/proc/mdstat").unwrap();
    let arrays = all.lines().filter(|line| line.starts_with("md"));
    arrays.collect()
}

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
    std::fs::create_dir_all("/run/udev/rules.d").unwrap();
    std::fs::write(INSTALLED, RULES).unwrap();
    run("udevadm", &["control", "--reload"]).await;
    nothing_inside_is_seen(&host, &lvm_thick(&host)).await;
    nothing_inside_is_seen(&host, &lvm_thin(&host)).await;
    std::fs::remove_file(INSTALLED).unwrap();
    run("udevadm", &["control", "--reload"]).await;
    settle().await;
    host.close().await;
}
