//! What only LVM can get wrong.

use std::sync::Arc;

use stockpot_driver::{
    DriverError, SnapshotId, VolumeDriver, VolumeId,
    lvm::{LvmThinConfig, LvmThinDriver},
};

use crate::{
    fixture::{Host, run},
    lvm_thin,
};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn lvm_what_is_missing_is_named() {
    let host = Host::new().await;
    let missing = LvmThinDriver::new(LvmThinConfig::new("no-such-vg", "pool")).unwrap();
    for error in [
        missing.check().await.unwrap_err(),
        missing.list_volumes().await.unwrap_err(),
        missing
            .create_volume(&"a".parse().unwrap(), MIB)
            .await
            .unwrap_err(),
    ] {
        assert!(
            matches!(&error, DriverError::Host(what) if what.starts_with("volume group no-such-vg")),
            "{error:?}"
        );
    }
    let no_pool = LvmThinDriver::new(LvmThinConfig::new(host.vg(), "pool")).unwrap();
    let error = no_pool.check().await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Host(what) if what.starts_with("thin pool")),
        "{error:?}"
    );
    host.foreign_lv("pool", 8 * MIB).await;
    let error = lvm_thin(&host).check().await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Host(text) if text.contains("not a thin pool")),
        "{error:?}"
    );
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lvm_a_pool_with_old_data_is_refused() {
    let host = Host::new().await;
    run(
        "lvcreate",
        &[
            "--yes",
            "--type",
            "thin-pool",
            "--zero",
            "n",
            "--size",
            "64m",
            "--name",
            "pool",
            host.vg(),
        ],
    )
    .await;
    let error = lvm_thin(&host).check().await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Host(text) if text.contains("lvchange --zero y")),
        "{error:?}"
    );
    host.close().await;
}

/// LVM would remove it with the volume, without a word.
#[tokio::test(flavor = "multi_thread")]
async fn lvm_a_snapshot_that_somebody_else_made_keeps_the_volume() {
    let host = Host::new().await;
    let driver = lvm_thin(&host);
    driver.check().await.unwrap();
    let volume: VolumeId = "v".parse().unwrap();
    driver.create_volume(&volume, 8 * MIB).await.unwrap();
    let origin = format!("{}/stockpot.v.v", host.vg());
    run("lvchange", &["-ay", "-K", &origin]).await;
    let args = ["--yes", "--snapshot", "--size", "8m", "--name", "theirs"];
    run("lvcreate", &[&args[..], &[&origin]].concat()).await;
    let error = driver.delete_volume(&volume).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::InUse { by, .. } if by.contains("theirs")),
        "{error:?}"
    );
    let theirs = format!("{}/theirs", host.vg());
    run("lvremove", &["--yes", &theirs]).await;
    driver.delete_volume(&volume).await.unwrap();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lvm_what_others_made_is_not_touched() {
    let host = Host::new().await;
    let driver = lvm_thin(&host);
    driver.check().await.unwrap();
    let (volume, snapshot): (VolumeId, SnapshotId) = ("v".parse().unwrap(), "s".parse().unwrap());
    for name in ["stockpot.v.a", "stockpot.s.a"] {
        host.foreign_lv(name, 8 * MIB).await;
    }
    let error = driver
        .create_volume(&"a".parse().unwrap(), MIB)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DriverError::AlreadyExists { .. }),
        "{error:?}"
    );
    driver.create_volume(&volume, MIB).await.unwrap();
    let error = driver
        .create_snapshot(&"a".parse().unwrap(), &volume)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DriverError::AlreadyExists { .. }),
        "{error:?}"
    );
    driver.delete_volume(&"a".parse().unwrap()).await.unwrap();
    driver.delete_snapshot(&"a".parse().unwrap()).await.unwrap();
    assert_eq!(driver.list_volumes().await.unwrap().len(), 1);
    driver.create_snapshot(&snapshot, &volume).await.unwrap();
    driver.delete_volume(&volume).await.unwrap();
    driver.delete_snapshot(&snapshot).await.unwrap();
    let left = run("lvs", &["--noheadings", "-o", "lv_name", host.vg()]).await;
    let left: Vec<_> = left.split_whitespace().collect();
    assert_eq!(left, ["pool", "stockpot.s.a", "stockpot.v.a"]);
    host.close().await;
}

/// A volume made from a snapshot is grown by a second command; a crash lies between the two here.
#[tokio::test(flavor = "multi_thread")]
async fn lvm_a_half_made_volume_is_finished() {
    let host = Host::new().await;
    let driver = lvm_thin(&host);
    driver.check().await.unwrap();
    let (a, b, s) = (
        "a".parse().unwrap(),
        "b".parse().unwrap(),
        "s".parse().unwrap(),
    );
    driver.create_volume(&a, 8 * MIB).await.unwrap();
    driver.create_snapshot(&s, &a).await.unwrap();
    driver
        .create_volume_from_snapshot(&b, 16 * MIB, &s)
        .await
        .unwrap();
    run(
        "lvremove",
        &["--yes", &format!("{}/stockpot.v.b", host.vg())],
    )
    .await;
    let mut args: Vec<String> = ["--yes", "--snapshot", "--name", "stockpot.v.b"]
        .map(str::to_owned)
        .into();
    for tag in [
        "kind=volume",
        "id=b",
        "from=snapshot/s",
        "made_bytes=16777216",
    ] {
        args.extend(["--addtag".to_owned(), format!("stockpot.{tag}")]);
    }
    args.push(format!("{}/stockpot.s.s", host.vg()));
    run(
        "lvcreate",
        &args.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    assert_eq!(
        driver.volume(&b).await.unwrap().unwrap().size_bytes,
        8 * MIB
    );
    let error = driver
        .create_volume_from_snapshot(&b, 32 * MIB, &s)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DriverError::AlreadyExists { .. }),
        "{error:?}"
    );
    let finished = driver
        .create_volume_from_snapshot(&b, 16 * MIB, &s)
        .await
        .unwrap();
    assert_eq!(finished.size_bytes, 16 * MIB);
    for volume in [&a, &b] {
        driver.delete_volume(volume).await.unwrap();
    }
    driver.delete_snapshot(&s).await.unwrap();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lvm_a_full_pool_takes_nothing_more() {
    let host = Host::new().await;
    let mut config = LvmThinConfig::new(host.vg(), "pool");
    config.pool_size_bytes = Some(64 * MIB);
    config.data_limit_percent = 50;
    let driver: Arc<dyn VolumeDriver> = Arc::new(LvmThinDriver::new(config).unwrap());
    driver.check().await.unwrap();
    let a = "a".parse().unwrap();
    driver.create_volume(&a, 64 * MIB).await.unwrap();
    driver.create_export(&a).await.unwrap();
    let device = format!("of=/dev/{}/stockpot.v.a", host.vg());
    run(
        "dd",
        &[
            "if=/dev/urandom",
            &device,
            "bs=1M",
            "count=40",
            "conv=fsync",
            "status=none",
        ],
    )
    .await;
    let s = "s".parse().unwrap();
    for refused in [
        driver
            .create_volume(&"b".parse().unwrap(), MIB)
            .await
            .map(drop),
        driver.create_snapshot(&s, &a).await.map(drop),
        driver.extend_volume(&a, 128 * MIB).await.map(drop),
        driver
            .create_cloned_volume(&"b".parse().unwrap(), 64 * MIB, &a)
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, DriverError::ResourceExhausted(_)) && text.contains("62.50 %"),
            "{text}"
        );
    }
    assert_eq!(driver.capacity().await.unwrap().available_bytes, 0);
    driver.delete_volume(&a).await.unwrap();
    assert!(driver.capacity().await.unwrap().available_bytes > 30 * MIB);
    host.close().await;
}

/// As after an LVM command that was killed between suspending and resuming.
#[tokio::test(flavor = "multi_thread")]
async fn lvm_a_suspended_volume_is_resumed() {
    let host = Host::new().await;
    let driver = lvm_thin(&host);
    driver.check().await.unwrap();
    let a = "a".parse().unwrap();
    driver.create_volume(&a, 8 * MIB).await.unwrap();
    driver.create_export(&a).await.unwrap();
    let device = format!("/dev/{}/stockpot.v.a", host.vg());
    run("dmsetup", &["suspend", &device]).await;
    driver.check().await.unwrap();
    let state = run(
        "dmsetup",
        &[
            "info",
            "--columns",
            "--noheadings",
            "-o",
            "suspended",
            &device,
        ],
    )
    .await;
    assert_eq!(state.trim(), "Active");
    driver.delete_volume(&a).await.unwrap();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lvm_a_snapshot_that_was_made_writable_is_not_handed_out() {
    let host = Host::new().await;
    let driver = lvm_thin(&host);
    driver.check().await.unwrap();
    let (a, s) = ("a".parse().unwrap(), "s".parse().unwrap());
    driver.create_volume(&a, 8 * MIB).await.unwrap();
    driver.create_snapshot(&s, &a).await.unwrap();
    let lv = format!("{}/stockpot.s.s", host.vg());
    run("lvchange", &["--permission", "rw", &lv]).await;
    let error = driver.create_export_snapshot(&s).await.unwrap_err();
    assert!(error.to_string().contains("may have changed"), "{error:?}");
    driver.delete_volume(&a).await.unwrap();
    driver.delete_snapshot(&s).await.unwrap();
    host.close().await;
}

/// Disks that are write-protected, a group that was given away, one that is gone: said in so many words, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn lvm_a_group_that_takes_no_changes_says_why() {
    let host = Host::new().await;
    let driver = lvm_thin(&host);
    driver.check().await.unwrap();
    let (a, b, s) = (
        "a".parse().unwrap(),
        "b".parse().unwrap(),
        "s".parse().unwrap(),
    );
    driver.create_volume(&a, 8 * MIB).await.unwrap();
    driver.capacity().await.unwrap();
    let refused = async |words: &str| {
        for refused in [
            driver.create_volume(&b, 8 * MIB).await.map(drop),
            driver.create_snapshot(&s, &a).await.map(drop),
            driver.create_cloned_volume(&b, 8 * MIB, &a).await.map(drop),
            driver.extend_volume(&a, 16 * MIB).await.map(drop),
            driver.delete_volume(&a).await,
        ] {
            let error = refused.unwrap_err();
            assert!(
                matches!(&error, DriverError::Host(text) if text.contains(words)),
                "{error:?}"
            );
        }
    };
    let disk = host.disk();
    run("blockdev", &["--setro", disk]).await;
    refused("cannot be written to").await;
    run("blockdev", &["--setrw", disk]).await;
    run("vgchange", &["--activate", "n", host.vg()]).await;
    run("vgexport", &[host.vg()]).await;
    refused("vgimport").await;
    run("vgimport", &[host.vg()]).await;
    let away = "stockpot-away";
    run("vgrename", &[host.vg(), away]).await;
    refused("does not exist").await;
    run("vgrename", &[away, host.vg()]).await;
    // Nothing was lost, and nothing came.
    assert_eq!(driver.list_volumes().await.unwrap().len(), 1);
    assert_eq!(driver.list_snapshots().await.unwrap(), []);
    driver.delete_volume(&a).await.unwrap();
    host.close().await;
}

#[test]
fn lvm_names_that_lvm_cannot_have_are_refused() {
    let long = "v".repeat(53);
    for bad in ["", "-a", ".", "..", "a/b", "a b", "ä", "a\nb", &long] {
        for config in [
            LvmThinConfig::new(bad, "pool"),
            LvmThinConfig::new("vg", bad),
        ] {
            let error = LvmThinDriver::new(config).unwrap_err();
            let named =
                matches!(&error, DriverError::InvalidArgument(text) if text.contains("1 to 52"));
            assert!(named, "{bad:?}: {error:?}");
        }
    }
}
