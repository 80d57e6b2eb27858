//! Attaching and detaching, and what is in use.

use std::{fs::File, time::Duration};

use stockpot_connector::Connector;
use stockpot_driver::{AccessMode, DriverError};

use super::bench::{Bench, MIB, assert_error, device_size, snap, vol, write};
use crate::fixture::run;

pub(crate) async fn attaching_twice_is_attaching_once(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    let first = bench.connect_volume(&vol("a")).await;
    assert_eq!(bench.connect_volume(&vol("a")).await, first);
    let first = bench.connect_snapshot(&snap("s")).await;
    assert_eq!(bench.connect_snapshot(&snap("s")).await, first);
    for _ in 0..2 {
        bench.connector.disconnect(&first.0).await.unwrap();
        bench.detach(&vol("a")).await;
        bench.detach_snapshot(&snap("s")).await;
    }
    assert!(
        !first.1.path.exists() || device_size(&first.1.path) == 0,
        "it is still attached"
    );
    // Removed while it is exported but not open: the export goes with it.
    bench.attach(&vol("a")).await;
    bench.delete(&["a"], &["s"]).await;
}

pub(crate) async fn a_volume_grows_while_it_is_attached(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    let device = bench.attach(&vol("a")).await;
    let held = File::open(&device).unwrap();
    for _ in 0..2 {
        driver.extend_volume(&vol("a"), 16 * MIB).await.unwrap();
        assert_eq!(device_size(&device), 16 * MIB);
    }
    drop(held);
    write(&device, 15 * MIB, MIB, 5);
    let (_, again) = bench.connect_volume(&vol("a")).await;
    assert_eq!(again.size_bytes, 16 * MIB);
    bench.detach(&vol("a")).await;
    bench.delete(&["a"], &[]).await;
}

pub(crate) async fn what_is_open_is_not_removed(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    assert_eq!(driver.volume_in_use(&vol("a")).await.unwrap(), None);
    // Without O_EXCL, as most programs do it.
    let volume = File::open(bench.attach(&vol("a")).await).unwrap();
    let user = driver.volume_in_use(&vol("a")).await.unwrap();
    assert!(user.is_some_and(|by| by.contains("open")));
    let (_, device) = bench.connect_snapshot(&snap("s")).await;
    let snapshot = File::open(&device.path).unwrap();
    assert_error!(
        driver.remove_export(&vol("a")).await,
        DriverError::InUse { .. }
    );
    assert_error!(
        driver.delete_volume(&vol("a")).await,
        DriverError::InUse { .. }
    );
    assert_error!(
        driver.remove_export_snapshot(&snap("s")).await,
        DriverError::InUse { .. }
    );
    driver
        .terminate_connection(&vol("a"), &bench.properties, true)
        .await
        .unwrap();
    // The refusal changed nothing: both are still there, and attached.
    assert_eq!(device_size(&device.path), 8 * MIB);
    assert!(driver.volume(&vol("a")).await.unwrap().is_some());
    drop((volume, snapshot));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        device_size(&device.path),
        8 * MIB,
        "it vanished when the last user closed it"
    );
    bench.detach(&vol("a")).await;
    assert_eq!(driver.volume_in_use(&vol("a")).await.unwrap(), None);
    bench.detach_snapshot(&snap("s")).await;
    bench.delete(&["a"], &["s"]).await;
}

pub(crate) async fn what_is_mounted_is_not_removed(bench: &Bench) {
    let driver = &bench.driver;
    let directory = tempfile::tempdir().unwrap();
    let point = directory.path().to_str().unwrap();
    driver.create_volume(&vol("a"), 32 * MIB).await.unwrap();
    let device = bench.attach(&vol("a")).await;
    run("mkfs.ext4", &["-q", device.to_str().unwrap()]).await;
    run("mount", &[device.to_str().unwrap(), point]).await;
    for refused in [
        driver.delete_volume(&vol("a")).await,
        driver.remove_export(&vol("a")).await,
        driver
            .terminate_connection(&vol("a"), &bench.properties, false)
            .await,
    ] {
        let text = assert_error!(refused, DriverError::InUse { .. });
        assert!(
            text.contains(point),
            "{text} does not say where it is mounted"
        );
    }
    // A read-only connection to what is mounted read-write would lie to one of the two.
    let read_only = driver
        .initialize_connection(&vol("a"), &bench.properties, AccessMode::ReadOnly)
        .await;
    if let Ok(connection) = read_only {
        assert!(bench.connector.connect(&connection).await.is_err());
    }
    std::fs::write(directory.path().join("file"), "still writable").unwrap();
    run("umount", &[point]).await;
    bench.detach(&vol("a")).await;
    bench.delete(&["a"], &[]).await;
}
