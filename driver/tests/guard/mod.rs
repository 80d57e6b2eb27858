//! A thin pool that runs full: seen in time, made larger where there is room, and never a danger to what is in it.

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path, sync::Arc};

use stockpot_connector::Connector;
use stockpot_driver::{
    DriverError, VolumeDriver,
    lvm::{LvmThinConfig, LvmThinDriver},
};

use crate::{
    contract::bench::{Bench, MIB, holds, snap, vol, write},
    fixture::{Host, run},
};

fn pool_of(host: &Host, size_bytes: u64) -> LvmThinConfig {
    let mut config = LvmThinConfig::new(host.vg(), "pool");
    config.pool_size_bytes = Some(size_bytes);
    config
}

async fn bench_of(config: LvmThinConfig) -> Bench {
    let driver: Arc<dyn VolumeDriver> = Arc::new(LvmThinDriver::new(config).unwrap());
    driver.check().await.unwrap();
    Bench::new(driver, crate::contract::Nature::THIN).await
}

/// Takes all that is left in the volume group.
async fn fill_group(host: &Host) {
    let args = [
        "--yes",
        "--extents",
        "100%FREE",
        "--name",
        "filler",
        host.vg(),
    ];
    run("lvcreate", &args).await;
}

async fn lv_bytes(host: &Host, column: &str) -> u64 {
    let lv = format!("{}/pool", host.vg());
    let args = [
        "--noheadings",
        "--units",
        "b",
        "--nosuffix",
        "-o",
        column,
        &lv,
    ];
    run("lvs", &args).await.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn guard_extends_a_pool_whose_group_has_room() {
    let host = Host::new().await;
    let bench = bench_of(pool_of(&host, 64 * MIB)).await;
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 128 * MIB).await.unwrap();
    let device = bench.attach(&vol("a")).await;
    write(&device, 0, 32 * MIB, 1);
    let ample = driver.headroom().await.unwrap().unwrap();
    assert!(!ample.is_low && ample.data_used == 5000, "{ample:?}");
    assert_eq!(driver.grow_pool().await.unwrap(), None);
    write(&device, 32 * MIB, 24 * MIB, 2);
    let low = driver.headroom().await.unwrap().unwrap();
    assert!(
        low.is_low && low.text.contains("data 87.50 % full"),
        "{low:?}"
    );
    assert!(low.text.contains("lvextend"), "{low:?}");
    let done = driver.grow_pool().await.unwrap().unwrap();
    assert!(done.contains("data by 12582912 bytes"), "{done}");
    assert_eq!(lv_bytes(&host, "lv_size").await, 76 * MIB);
    assert!(!driver.headroom().await.unwrap().unwrap().is_low);
    // Its new room is used.
    write(&device, 56 * MIB, 18 * MIB, 3);
    assert!(holds(&device, 0, 32 * MIB, 1) && holds(&device, 56 * MIB, 18 * MIB, 3));
    bench.detach(&vol("a")).await;
    bench.delete(&["a"], &[]).await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guard_extends_metadata() {
    let host = Host::new().await;
    let mut config = pool_of(&host, 64 * MIB);
    // A pool takes a tenth of the smallest metadata for itself.
    config.make_room_percent = 10;
    let bench = bench_of(config).await;
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 16 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| write(device, 0, MIB, 1))
        .await;
    let device = bench.attach(&vol("a")).await;
    let before = lv_bytes(&host, "lv_metadata_size").await;
    assert!(driver.headroom().await.unwrap().unwrap().is_low);
    let done = driver.grow_pool().await.unwrap().unwrap();
    assert!(done.contains("metadata by"), "{done}");
    assert!(lv_bytes(&host, "lv_metadata_size").await > before);
    assert!(holds(&device, 0, MIB, 1));
    bench.detach(&vol("a")).await;
    bench.delete(&["a"], &[]).await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guard_of_a_full_pool_refuses_and_says_what_to_do() {
    let host = Host::new().await;
    let bench = bench_of(pool_of(&host, 64 * MIB)).await;
    fill_group(&host).await;
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 128 * MIB).await.unwrap();
    let device = bench.attach(&vol("a")).await;
    write(&device, 0, 61 * MIB, 1);
    assert!(driver.headroom().await.unwrap().unwrap().is_low);
    assert_eq!(driver.grow_pool().await.unwrap(), None, "there is no room");
    for refused in [
        driver.create_volume(&vol("b"), MIB).await.map(drop),
        driver
            .create_snapshot(&snap("s"), &vol("a"))
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DriverError::ResourceExhausted(_)), "{text}");
        assert!(
            text.contains("95.31 % full") && text.contains("lvextend"),
            "{text}"
        );
    }
    bench.detach(&vol("a")).await;
    bench.delete(&["a"], &[]).await;
    host.close().await;
}

/// The pool runs full while a snapshot is read and its origin overwritten: the snapshot is whole, the origin has in
/// each place what was there or what was written, and goes on when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn guard_of_a_pool_that_runs_full_under_a_reader() {
    let host = Host::new().await;
    let bench = bench_of(pool_of(&host, 64 * MIB)).await;
    // Writes fail at once, and not after a minute.
    let lv = format!("{}/pool", host.vg());
    run("lvchange", &["--yes", "--errorwhenfull", "y", &lv]).await;
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 48 * MIB).await.unwrap();
    let device = bench.attach(&vol("a")).await;
    write(&device, 0, 48 * MIB, 1);
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    let (connection, attached) = bench.connect_snapshot(&snap("s")).await;
    assert!(holds(&attached.path, 0, 20 * MIB, 1));
    let written = overwrite(&device);
    assert!(written < 48, "16 MiB of room took {written}");
    assert!(holds(&attached.path, 0, 48 * MIB, 1), "the snapshot");
    for at in 0..48 {
        let whole = |byte| holds(&device, at * MIB, MIB, byte);
        assert!(
            whole(2) || (at >= written && holds_either(&device, at * MIB)),
            "MiB {at}"
        );
    }
    let low = driver.headroom().await.unwrap().unwrap();
    assert!(
        low.is_low && low.text.contains("out_of_data_space"),
        "{low:?}"
    );
    driver.grow_pool().await.unwrap().unwrap();
    driver.grow_pool().await.unwrap().unwrap();
    assert_eq!(
        driver.headroom().await.unwrap().unwrap().text.find("mode"),
        None
    );
    write(&device, 30 * MIB, 2 * MIB, 3);
    assert!(holds(&device, 30 * MIB, 2 * MIB, 3));
    bench.connector.disconnect(&connection).await.unwrap();
    bench.detach_snapshot(&snap("s")).await;
    bench.detach(&vol("a")).await;
    bench.delete(&["a"], &["s"]).await;
    host.close().await;
}

/// Overwrites from the start until it fails; how many MiB were flushed before.
fn overwrite(device: &Path) -> u64 {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    for at in 0..48 {
        let wrote = file.write_all_at(&[2; 1 << 20], at * MIB);
        if wrote.and_then(|()| file.sync_all()).is_err() {
            return at;
        }
    }
    48
}

/// Each sector holds the old or the new byte.
fn holds_either(device: &Path, offset: u64) -> bool {
    let mut content = vec![0; 1 << 20];
    let file = std::fs::File::open(device).unwrap();
    file.read_exact_at(&mut content, offset).unwrap();
    content
        .chunks(512)
        .all(|sector| sector.iter().all(|b| *b == 1) || sector.iter().all(|b| *b == 2))
}
