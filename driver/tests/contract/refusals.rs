//! What is refused, and how.

use stockpot_driver::{AccessMode, DriverError};

use super::bench::{Bench, MIB, assert_error, assert_figures, snap, vol};

pub(crate) async fn what_is_not_there_is_not_found(bench: &Bench) {
    let (driver, properties) = (&bench.driver, &bench.properties);
    let (volume, snapshot) = (vol("none"), snap("none"));
    assert_eq!(driver.volume(&volume).await.unwrap(), None);
    assert_eq!(driver.snapshot(&snapshot).await.unwrap(), None);
    for refused in [
        driver.create_snapshot(&snap("s"), &volume).await.map(drop),
        driver
            .create_volume_from_snapshot(&vol("a"), MIB, &snapshot)
            .await
            .map(drop),
        driver
            .create_cloned_volume(&vol("a"), MIB, &volume)
            .await
            .map(drop),
        driver.extend_volume(&volume, MIB).await.map(drop),
        driver.create_export(&volume).await,
        driver.create_export_snapshot(&snapshot).await,
        driver
            .initialize_connection(&volume, properties, AccessMode::ReadWrite)
            .await
            .map(drop),
        driver
            .initialize_connection_snapshot(&snapshot, properties)
            .await
            .map(drop),
    ] {
        let text = assert_error!(refused, DriverError::NotFound { .. });
        assert!(text.contains("none"), "{text}");
    }
    // The undoing calls have nothing to undo.
    driver
        .terminate_connection(&volume, properties, false)
        .await
        .unwrap();
    driver.remove_export(&volume).await.unwrap();
    driver
        .terminate_connection_snapshot(&snapshot, properties, true)
        .await
        .unwrap();
    driver.remove_export_snapshot(&snapshot).await.unwrap();
    bench.delete(&["none"], &["none"]).await;
}

pub(crate) async fn impossible_sizes_are_refused_with_figures(bench: &Bench) {
    let driver = &bench.driver;
    assert_error!(
        driver.create_volume(&vol("a"), 0).await,
        DriverError::InvalidArgument(_)
    );
    let total = driver.capacity().await.unwrap().total_bytes;
    for size in [u64::MAX, i64::MAX.unsigned_abs(), 1 << 60, total * 20 + MIB] {
        assert_figures(driver.create_volume(&vol("a"), size).await);
    }
    if !bench.nature.thin {
        driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
        assert_figures(driver.create_volume(&vol("b"), total).await);
        assert_figures(driver.extend_volume(&vol("a"), total + 8 * MIB).await);
        assert_figures(
            driver
                .create_cloned_volume(&vol("b"), total, &vol("a"))
                .await,
        );
        bench.delete(&["a"], &[]).await;
        return;
    }
    // Each of them would fit, but not all together.
    driver.create_volume(&vol("a"), total * 15).await.unwrap();
    assert_figures(driver.create_volume(&vol("b"), total * 15).await);
    assert_figures(driver.extend_volume(&vol("a"), total * 25).await);
    assert_figures(
        driver
            .create_cloned_volume(&vol("b"), total * 15, &vol("a"))
            .await,
    );
    bench.delete(&["a"], &[]).await;
}

pub(crate) async fn another_of_the_same_id_is_refused(bench: &Bench) {
    let driver = &bench.driver;
    let (a, b) = (vol("a"), vol("b"));
    driver.create_volume(&a, 8 * MIB).await.unwrap();
    driver.create_volume(&b, 8 * MIB).await.unwrap();
    driver.create_snapshot(&snap("s"), &a).await.unwrap();
    driver
        .create_volume_from_snapshot(&vol("c"), 8 * MIB, &snap("s"))
        .await
        .unwrap();
    for refused in [
        driver.create_volume(&a, 16 * MIB).await.map(drop),
        driver.create_volume(&vol("c"), 8 * MIB).await.map(drop),
        driver
            .create_volume_from_snapshot(&a, 8 * MIB, &snap("s"))
            .await
            .map(drop),
        driver
            .create_volume_from_snapshot(&vol("c"), 16 * MIB, &snap("s"))
            .await
            .map(drop),
        driver
            .create_cloned_volume(&vol("c"), 8 * MIB, &a)
            .await
            .map(drop),
        driver.create_snapshot(&snap("s"), &b).await.map(drop),
    ] {
        assert_error!(refused, DriverError::AlreadyExists { .. });
    }
    assert_eq!(
        driver.volume(&a).await.unwrap().unwrap().size_bytes,
        8 * MIB
    );
    bench.delete(&["a", "b", "c"], &["s"]).await;
}
