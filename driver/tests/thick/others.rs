//! What others do at the same time, and what the disk below does: waits, a second process, discards.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    libc::{EBUSY, O_EXCL},
};
use stockpot_driver::{
    DriverError, VolumeDriver,
    lvm::{LvmThickConfig, LvmThickDriver},
};

use crate::{
    fixture::{Host, run},
    lvm_thick,
    snapshots::{MIB, holds, snap, used_percent, vol, write},
};

/// Waits for the volume group's lock, as another process would, and has it from then on.
fn lock_group(host: &Host) -> Flock<std::fs::File> {
    let path = format!("/run/stockpot/lvm-{}.lock", host.vg());
    let file = OpenOptions::new().write(true).open(path).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

/// LVM would remove it with the volume, without a word.
#[tokio::test(flavor = "multi_thread")]
async fn thick_a_thin_volume_that_reads_through_keeps_the_volume() {
    let host = Host::new().await;
    let driver = lvm_thick(&host);
    driver.check().await.unwrap();
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    let vg = host.vg();
    let origin = format!("{vg}/stockpot.v.a");
    let pool = ["--type", "thin-pool", "--size", "32m", "--name", "theirs"];
    run("lvcreate", &[&["--yes"], &pool[..], &[vg]].concat()).await;
    run("lvchange", &["--permission", "r", &origin]).await;
    let args = ["--yes", "--snapshot", "--thinpool", "theirs"];
    let args = [&args[..], &["--name", "through", &origin]].concat();
    run("lvcreate", &args).await;
    let error = driver.delete_volume(&vol("a")).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::InUse { by, .. } if by.contains("through")),
        "{error:?}"
    );
    for theirs in ["through", "theirs"] {
        run("lvremove", &["--yes", &format!("{vg}/{theirs}")]).await;
    }
    driver.delete_volume(&vol("a")).await.unwrap();
    host.close().await;
}

/// The task that extends snapshots ends when there are none for a while; one that becomes active after a long wait for the
/// lock is watched all the same.
#[tokio::test(flavor = "multi_thread")]
async fn thick_a_snapshot_is_watched_also_after_a_long_wait() {
    let host = Host::new().await;
    let mut config = LvmThickConfig::new(host.vg());
    config.snapshot_percent = 1;
    config.snapshot_least_bytes = 8 * MIB;
    config.watch_every = Duration::from_millis(50);
    let driver = LvmThickDriver::new(config).unwrap();
    driver.check().await.unwrap();
    driver.create_volume(&vol("a"), 64 * MIB).await.unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    let held = lock_group(&host);
    let exporting = tokio::spawn({
        let driver = driver.clone();
        async move { driver.create_export_snapshot(&snap("s")).await }
    });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!exporting.is_finished());
    drop(held);
    exporting.await.unwrap().unwrap();
    let device = format!("/dev/{}/stockpot.v.a", host.vg());
    write(Path::new(&device), 0, 5 * MIB, 1);
    let started = Instant::now();
    while used_percent(&host).await >= 50.0 {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it is not watched"
        );
    }
    let headroom = driver.headroom().await.unwrap().unwrap();
    assert!(!headroom.is_low, "{headroom:?}");
    driver.remove_export_snapshot(&snap("s")).await.unwrap();
    driver.delete_snapshot(&snap("s")).await.unwrap();
    driver.delete_volume(&vol("a")).await.unwrap();
    host.close().await;
}

/// Two drivers that know nothing of each other, as in two processes, make the same volume: nobody fills it once it is shown,
/// and nobody undoes what the other does.
#[tokio::test(flavor = "multi_thread")]
async fn thick_a_volume_that_another_process_makes_is_left_to_it() {
    let host = Host::new().await;
    let (one, other) = (lvm_thick(&host), lvm_thick(&host));
    one.check().await.unwrap();
    let device = format!("/dev/{}/stockpot.v.a", host.vg());
    let deadline = Instant::now() + Duration::from_secs(300);
    let (making, held) = loop {
        let making = tokio::spawn({
            let one = one.clone();
            async move { one.create_volume(&vol("a"), 64 * MIB).await }
        });
        while !Path::new(&device).exists() && !making.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Taken when it begins to fill; so it cannot be shown, however long ago it was full.
        let held = lock_group(&host);
        let tags = ["--noheadings", "--options", "lv_tags", host.vg()];
        if run("lvs", &tags).await.contains("stockpot.state=creating") {
            break (making, held);
        }
        // It was full before the lock was asked for.
        drop(held);
        making.await.unwrap().unwrap();
        one.delete_volume(&vol("a")).await.unwrap();
        assert!(Instant::now() < deadline, "the lock always came too late");
    };
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let claim = OpenOptions::new()
        .read(true)
        .custom_flags(O_EXCL)
        .open(&device);
    assert_eq!(
        claim.map(drop).unwrap_err().raw_os_error(),
        Some(EBUSY),
        "another process would fill it a second time"
    );
    let second = tokio::spawn(async move { other.create_volume(&vol("a"), 64 * MIB).await });
    drop(held);
    making.await.unwrap().unwrap();
    if let Err(error) = second.await.unwrap() {
        assert!(matches!(error, DriverError::InUse { .. }), "{error:?}");
    }
    assert!(one.volume(&vol("a")).await.unwrap().is_some());
    one.delete_volume(&vol("a")).await.unwrap();
    host.close().await;
}

/// A disk whose discarded blocks read as 0xff, and an LVM that discards what it frees: what a volume grows by was wiped, freed
/// and taken again.
#[tokio::test(flavor = "multi_thread")]
async fn thick_what_was_wiped_is_not_discarded() {
    let host = Host::new().await;
    let options = ["dev_size_mb=192", "lbpu=1", "lbpws=1", "lbprz=2", "delay=0"];
    run("modprobe", &[&["scsi_debug"], &options[..]].concat()).await;
    run("udevadm", &["settle"]).await;
    let disk = scsi_debug();
    let local = Path::new("/etc/lvm/lvmlocal.conf");
    std::fs::write(local, "devices { issue_discards = 1 }\n").unwrap();
    run("vgcreate", &["--yes", "discarding", &disk]).await;

    let driver = LvmThickDriver::new(LvmThickConfig::new("discarding")).unwrap();
    driver.check().await.unwrap();
    // What frees it discards it: the settings are what the test takes them for.
    let args = ["--yes", "--size", "64m", "--name", "old", "discarding"];
    run("lvcreate", &args).await;
    write(Path::new("/dev/discarding/old"), 0, 64 * MIB, 1);
    run("lvremove", &["--yes", "discarding/old"]).await;
    run(
        "lvcreate",
        &[&["--zero", "n", "--wipesignatures", "n"], &args[..]].concat(),
    )
    .await;
    assert!(holds(Path::new("/dev/discarding/old"), 64 * MIB, 0xff));
    run("lvremove", &["--yes", "discarding/old"]).await;

    driver.create_volume(&vol("a"), 16 * MIB).await.unwrap();
    driver.extend_volume(&vol("a"), 80 * MIB).await.unwrap();
    driver.create_export(&vol("a")).await.unwrap();
    let device = Path::new("/dev/discarding/stockpot.v.a");
    assert!(holds(device, 80 * MIB, 0), "old bytes are in it");
    driver.delete_volume(&vol("a")).await.unwrap();
    run("vgremove", &["--yes", "discarding"]).await;
    run("pvremove", &["--yes", &disk]).await;
    std::fs::remove_file(local).unwrap();
    run("udevadm", &["settle"]).await;
    run("modprobe", &["--remove", "scsi_debug"]).await;
    host.close().await;
}

/// The disk of the kernel's own SCSI test driver.
fn scsi_debug() -> String {
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let mut found = disks.filter(|disk| {
        let vendor = std::fs::read_to_string(disk.path().join("device/vendor"));
        vendor.is_ok_and(|vendor| vendor.trim() == "Linux")
    });
    let disk = found.next().expect("scsi_debug makes a disk");
    format!("/dev/{}", disk.file_name().to_str().unwrap())
}
