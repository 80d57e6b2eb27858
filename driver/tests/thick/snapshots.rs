//! What only thick volumes and classic snapshots can get wrong.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use stockpot_driver::{
    DriverError, SnapshotId, VolumeDriver, VolumeId,
    lvm::{LvmThickConfig, LvmThickDriver},
};

use crate::{
    fixture::{Host, run},
    lvm_thick,
};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn vol(id: &str) -> VolumeId {
    id.parse().unwrap()
}

pub(crate) fn snap(id: &str) -> SnapshotId {
    id.parse().unwrap()
}

pub(crate) fn write(device: &Path, offset: u64, length: u64, byte: u8) {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    let content = vec![byte; usize::try_from(length).unwrap()];
    file.write_all_at(&content, offset).unwrap();
    file.sync_all().unwrap();
}

pub(crate) fn holds(device: &Path, length: u64, byte: u8) -> bool {
    let mut content = vec![!byte; usize::try_from(length).unwrap()];
    File::open(device)
        .unwrap()
        .read_exact_at(&mut content, 0)
        .unwrap();
    content.iter().all(|found| *found == byte)
}

/// A volume of 64 MiB that is attached, with a snapshot that has 8 MiB of room.
async fn small_snapshot(host: &Host, extend_at_percent: u64) -> LvmThickDriver {
    let mut config = LvmThickConfig::new(host.vg());
    config.snapshot_percent = 1;
    config.snapshot_least_bytes = 8 * MIB;
    config.extend_at_percent = extend_at_percent;
    config.watch_every = Duration::from_millis(100);
    let driver = LvmThickDriver::new(config).unwrap();
    driver.check().await.unwrap();
    driver.create_volume(&vol("a"), 64 * MIB).await.unwrap();
    driver.create_export(&vol("a")).await.unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    driver.create_export_snapshot(&snap("s")).await.unwrap();
    driver
}

async fn remove_all(driver: &LvmThickDriver) {
    driver.delete_snapshot(&snap("s")).await.unwrap();
    driver.delete_volume(&vol("a")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn thick_a_snapshot_that_overflowed_is_void() {
    let host = Host::new().await;
    // Full means full: nothing is extended before that.
    let driver = small_snapshot(&host, 100).await;
    driver.check_snapshot(&snap("s")).await.unwrap();
    let filler = host.rest_of_group("filler").await;
    let device = format!("/dev/{}/stockpot.v.a", host.vg());
    write(Path::new(&device), 0, 32 * MIB, 1);
    for attached in [true, false] {
        let error = driver.check_snapshot(&snap("s")).await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, DriverError::Void { .. }) && text.contains("stockpot.s.s"),
            "{text}"
        );
        let (copy, source) = (vol("b"), snap("s"));
        let refused = driver.create_volume_from_snapshot(&copy, 64 * MIB, &source);
        let error = refused.await.unwrap_err();
        assert!(
            matches!(
                error,
                DriverError::Void { .. } | DriverError::ResourceExhausted(_)
            ),
            "{error:?}"
        );
        if attached {
            driver.remove_export_snapshot(&snap("s")).await.unwrap();
            driver.remove_export(&vol("a")).await.unwrap();
            run("lvremove", &["--yes", &filler]).await;
        }
    }
    assert_eq!(driver.list_volumes().await.unwrap().len(), 1);
    remove_all(&driver).await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thick_a_snapshot_grows_before_it_overflows() {
    let host = Host::new().await;
    let driver = small_snapshot(&host, 50).await;
    let device = format!("/dev/{}/stockpot.v.a", host.vg());
    // Three times the room that it was made with, at a pace that leaves time to look.
    for step in 0..7 {
        write(Path::new(&device), step * 4 * MIB, 4 * MIB, 1);
        let started = Instant::now();
        while used_percent(&host).await >= 50.0 {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it was not extended"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    driver.check_snapshot(&snap("s")).await.unwrap();
    let snapshot = format!("/dev/{}/stockpot.s.s", host.vg());
    assert!(holds(Path::new(&snapshot), 64 * MIB, 0));
    remove_all(&driver).await;
    host.close().await;
}

pub(crate) async fn used_percent(host: &Host) -> f64 {
    let lv = format!("{}/stockpot.s.s", host.vg());
    let shown = run("lvs", &["--noheadings", "-o", "snap_percent", &lv]).await;
    shown.trim().parse().unwrap()
}

/// As after a process that was killed while it wiped, copied, or grew a volume.
#[tokio::test(flavor = "multi_thread")]
async fn thick_what_a_crash_left_half_made_is_never_shown() {
    let host = Host::new().await;
    let driver = lvm_thick(&host);
    driver.check().await.unwrap();
    let old = host.foreign_lv("old", 200 * MIB).await;
    write(&old, 0, 200 * MIB, 0xEE);
    run("lvremove", &["--yes", old.to_str().unwrap()]).await;
    let half_made = async || {
        let tags = [
            "stockpot.kind=volume",
            "stockpot.id=a",
            "stockpot.from=empty",
            "stockpot.made_bytes=67108864",
            "stockpot.state=creating",
        ];
        let mut args = vec![
            "--yes",
            "--zero",
            "n",
            "--wipesignatures",
            "n",
            "--size",
            "64m",
        ];
        args.extend(tags.iter().flat_map(|tag| ["--addtag", tag]));
        args.extend(["--name", "stockpot.v.a", host.vg()]);
        run("lvcreate", &args).await;
    };
    half_made().await;
    assert_eq!(driver.volume(&vol("a")).await.unwrap(), None);
    assert!(driver.list_volumes().await.unwrap().is_empty());
    let error = driver.create_export(&vol("a")).await.unwrap_err();
    assert!(matches!(error, DriverError::NotFound { .. }), "{error:?}");
    // The same call finishes it.
    driver.create_volume(&vol("a"), 64 * MIB).await.unwrap();
    driver.create_export(&vol("a")).await.unwrap();
    let device = format!("/dev/{}/stockpot.v.a", host.vg());
    assert!(holds(Path::new(&device), 64 * MIB, 0));
    // The room it was to grow by, and the snapshot it was to be copied from.
    let room = ["--yes", "--size", "8m", "--addtag", "stockpot.helps=a"];
    let args = [&room[..], &["--name", "stockpot.w.a", host.vg()]].concat();
    run("lvcreate", &args).await;
    let origin = format!("{}/stockpot.v.a", host.vg());
    let args = [
        &room[..],
        &["--snapshot", "--name", "stockpot.c.a", &origin],
    ]
    .concat();
    run("lvcreate", &args).await;
    driver.extend_volume(&vol("a"), 80 * MIB).await.unwrap();
    driver.delete_volume(&vol("a")).await.unwrap();
    // The opposite call removes it, and so does a start.
    half_made().await;
    driver.delete_volume(&vol("a")).await.unwrap();
    half_made().await;
    driver.check().await.unwrap();
    let left = run("lvs", &["--noheadings", "-o", "lv_name", host.vg()]).await;
    assert_eq!(left.trim(), "");
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thick_a_deletion_does_not_wait_for_the_wipe() {
    let host = Host::new().await;
    let driver = lvm_thick(&host);
    driver.check().await.unwrap();
    let making = tokio::spawn({
        let driver = driver.clone();
        async move { driver.create_volume(&vol("a"), 6 << 30).await }
    });
    let lv = format!("{}/stockpot.v.a", host.vg());
    let is_open = async || {
        let rows = run(
            "lvs",
            &["--noheadings", "-o", "lv_name,lv_device_open", host.vg()],
        )
        .await;
        rows.lines()
            .any(|row| row.contains("stockpot.v.a") && row.contains("open"))
    };
    while !is_open().await {
        assert!(!making.is_finished(), "{lv} was never seen open");
    }
    // Others are not held up by it.
    driver.create_volume(&vol("b"), 8 * MIB).await.unwrap();
    driver.delete_volume(&vol("a")).await.unwrap();
    // A disk that zeroes by command may have been quicker than the deletion.
    if let Err(error) = making.await.unwrap() {
        assert!(matches!(error, DriverError::InUse { .. }), "{error:?}");
    }
    assert_eq!(driver.volume(&vol("a")).await.unwrap(), None);
    driver.delete_volume(&vol("b")).await.unwrap();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thick_what_others_made_is_not_touched() {
    let host = Host::new().await;
    let driver = lvm_thick(&host);
    for name in ["stockpot.v.a", "stockpot.s.a", "stockpot.w.b"] {
        host.foreign_lv(name, 8 * MIB).await;
    }
    driver.check().await.unwrap();
    driver.create_volume(&vol("b"), 8 * MIB).await.unwrap();
    for refused in [
        driver.create_volume(&vol("a"), 8 * MIB).await.map(drop),
        driver
            .create_snapshot(&snap("a"), &vol("b"))
            .await
            .map(drop),
        driver.extend_volume(&vol("b"), 16 * MIB).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, DriverError::AlreadyExists { .. }),
            "{error:?}"
        );
    }
    // Somebody else's snapshot of our volume would go with it.
    let origin = format!("{}/stockpot.v.b", host.vg());
    run(
        "lvcreate",
        &[
            "--yes",
            "--snapshot",
            "--size",
            "8m",
            "--name",
            "theirs",
            &origin,
        ],
    )
    .await;
    let error = driver.delete_volume(&vol("b")).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::InUse { by, .. } if by.contains("logical volume theirs")),
        "{error:?}"
    );
    run("lvremove", &["--yes", &format!("{}/theirs", host.vg())]).await;
    driver.delete_volume(&vol("a")).await.unwrap();
    driver.delete_snapshot(&snap("a")).await.unwrap();
    driver.delete_volume(&vol("b")).await.unwrap();
    let left = run("lvs", &["--noheadings", "-o", "lv_name", host.vg()]).await;
    let left: Vec<_> = left.split_whitespace().collect();
    assert_eq!(left, ["stockpot.s.a", "stockpot.v.a", "stockpot.w.b"]);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thick_settings_and_groups_that_cannot_work_are_named() {
    let host = Host::new().await;
    let missing = LvmThickDriver::new(LvmThickConfig::new("no-such-vg")).unwrap();
    for error in [
        missing.check().await.unwrap_err(),
        missing.create_volume(&vol("a"), MIB).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, DriverError::Host(text) if text.contains("no-such-vg")),
            "{error:?}"
        );
    }
    for change in [
        |config: &mut LvmThickConfig| config.vg = "a/b".into(),
        |config: &mut LvmThickConfig| config.snapshot_percent = 0,
        |config: &mut LvmThickConfig| config.extend_at_percent = 101,
        |config: &mut LvmThickConfig| config.snapshot_least_bytes = 1,
    ] {
        let mut config = LvmThickConfig::new(host.vg());
        change(&mut config);
        let error = LvmThickDriver::new(config).unwrap_err();
        assert!(
            matches!(error, DriverError::InvalidArgument(_)),
            "{error:?}"
        );
    }
    // No room for a snapshot: said with figures.
    let driver = lvm_thick(&host);
    driver.create_volume(&vol("a"), 64 * MIB).await.unwrap();
    let filler = host.rest_of_group("filler").await;
    let error = driver
        .create_snapshot(&snap("s"), &vol("a"))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, DriverError::ResourceExhausted(_)) && text.contains("67108864"),
        "{text}"
    );
    run("lvremove", &["--yes", &filler]).await;
    driver.delete_volume(&vol("a")).await.unwrap();
    host.close().await;
}
