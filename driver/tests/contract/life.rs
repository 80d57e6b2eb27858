//! How volumes and snapshots come, change and go.

use std::time::Duration;

use stockpot_driver::DriverError;

use super::bench::{Bench, MIB, assert_error, snap, vol};

pub(crate) async fn volumes_come_and_go(bench: &Bench) {
    let driver = &bench.driver;
    let granularity = driver.capacity().await.unwrap().granularity_bytes;
    let wanted = 5 * MIB + 1;
    let info = driver.create_volume(&vol("a"), wanted).await.unwrap();
    assert!(info.size_bytes >= wanted && info.size_bytes - wanted < granularity);
    assert_eq!(info.size_bytes % granularity, 0);
    assert_eq!(driver.create_volume(&vol("a"), wanted).await.unwrap(), info);
    assert_eq!(driver.volume(&vol("a")).await.unwrap(), Some(info.clone()));
    let other = driver.create_volume(&vol("b"), MIB).await.unwrap();
    let mut listed = driver.list_volumes().await.unwrap();
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(listed, [info, other]);
    for _ in 0..2 {
        bench.delete(&["a", "b"], &[]).await;
        assert_eq!(driver.volume(&vol("a")).await.unwrap(), None);
    }
}

pub(crate) async fn snapshots_come_and_go(bench: &Bench) {
    let driver = &bench.driver;
    let volume = driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    let info = driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    assert_eq!(
        (&info.volume_id, info.size_bytes),
        (&vol("a"), volume.size_bytes)
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let age_us = i64::try_from(now.as_micros()).unwrap() - info.created_at_us;
    assert!((0..60_000_000).contains(&age_us), "cut {age_us} us ago");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap(),
        info
    );
    assert_eq!(
        driver.snapshot(&snap("s")).await.unwrap(),
        Some(info.clone())
    );
    // A volume and a snapshot may have the same id.
    let same = driver.create_snapshot(&snap("a"), &vol("a")).await.unwrap();
    let mut listed = driver.list_snapshots().await.unwrap();
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(listed, [same, info.clone()]);
    assert_eq!(driver.list_volumes().await.unwrap(), [volume]);
    for _ in 0..2 {
        bench.delete(&[], &["s", "a"]).await;
        assert_eq!(driver.snapshot(&snap("s")).await.unwrap(), None);
    }
    bench.delete(&["a"], &[]).await;
}

pub(crate) async fn volumes_and_snapshots_go_in_the_order_that_their_kind_allows(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    let info = driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    if bench.nature.snapshots_stand_alone {
        // A repeated call is answered also when the volume is gone.
        bench.delete(&["a"], &[]).await;
        let again = driver.create_snapshot(&snap("s"), &vol("a")).await;
        assert_eq!(again.unwrap(), info);
        bench.delete(&[], &["s"]).await;
        return;
    }
    for _ in 0..2 {
        let refused = driver.delete_volume(&vol("a")).await;
        let text = assert_error!(refused, DriverError::InUse { .. });
        assert!(text.contains("snapshot s"), "{text} does not say which");
    }
    assert_eq!(driver.snapshot(&snap("s")).await.unwrap(), Some(info));
    // Nor does it grow while both are attached, and the refusal changes nothing.
    bench.attach(&vol("a")).await;
    let text = assert_error!(
        driver.extend_volume(&vol("a"), 16 * MIB).await,
        DriverError::InUse { .. }
    );
    assert!(text.contains("snapshot s"), "{text} does not say which");
    bench.detach(&vol("a")).await;
    let grown = driver.extend_volume(&vol("a"), 16 * MIB).await.unwrap();
    assert_eq!(grown.size_bytes, 16 * MIB);
    let kept = driver.snapshot(&snap("s")).await.unwrap().unwrap();
    assert_eq!(kept.size_bytes, 8 * MIB);
    bench.delete(&["a"], &["s"]).await;
}

pub(crate) async fn volumes_are_made_from_snapshots(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    for (id, size) in [("same", 8 * MIB), ("larger", 20 * MIB)] {
        let info = driver
            .create_volume_from_snapshot(&vol(id), size, &snap("s"))
            .await
            .unwrap();
        assert_eq!(info.size_bytes, size);
        assert_eq!(
            driver
                .create_volume_from_snapshot(&vol(id), size, &snap("s"))
                .await
                .unwrap(),
            info
        );
    }
    let smaller = driver
        .create_volume_from_snapshot(&vol("small"), MIB, &snap("s"))
        .await;
    assert_error!(smaller, DriverError::OutOfRange(_));
    // The snapshot may go while what was made from it stays, and the repeated call is still answered.
    bench.delete(&["a"], &["s"]).await;
    driver
        .create_volume_from_snapshot(&vol("same"), 8 * MIB, &snap("s"))
        .await
        .unwrap();
    bench.delete(&["same", "larger"], &[]).await;
}

pub(crate) async fn volumes_are_cloned(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    for _ in 0..2 {
        let info = driver
            .create_cloned_volume(&vol("b"), 12 * MIB, &vol("a"))
            .await
            .unwrap();
        assert_eq!(info.size_bytes, 12 * MIB);
    }
    assert_error!(
        driver.create_cloned_volume(&vol("c"), MIB, &vol("a")).await,
        DriverError::OutOfRange(_)
    );
    bench.delete(&["a"], &[]).await;
    driver
        .create_cloned_volume(&vol("c"), 12 * MIB, &vol("b"))
        .await
        .unwrap();
    bench.delete(&["b", "c"], &[]).await;
}

pub(crate) async fn volumes_grow(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    for _ in 0..2 {
        assert_eq!(
            driver
                .extend_volume(&vol("a"), 16 * MIB)
                .await
                .unwrap()
                .size_bytes,
            16 * MIB
        );
    }
    // Never smaller; and the call that made it is still answered.
    assert_eq!(
        driver
            .extend_volume(&vol("a"), MIB)
            .await
            .unwrap()
            .size_bytes,
        16 * MIB
    );
    assert_eq!(
        driver
            .create_volume(&vol("a"), 8 * MIB)
            .await
            .unwrap()
            .size_bytes,
        16 * MIB
    );
    bench.delete(&["a"], &[]).await;
}

pub(crate) async fn every_id_is_usable(bench: &Bench) {
    let driver = &bench.driver;
    let longest = format!("a{}", "-".repeat(62));
    for id in [longest.as_str(), "pvmove0", "lvol0-tmeta", "pool"] {
        driver.create_volume(&vol(id), MIB).await.unwrap();
        driver.create_snapshot(&snap(id), &vol(id)).await.unwrap();
        bench
            .with_snapshot(&snap(id), |device| assert!(device.exists()))
            .await;
        bench.delete(&[id], &[id]).await;
    }
}

pub(crate) async fn calls_at_the_same_time_agree(bench: &Bench) {
    let calls = (0..4).map(|n| {
        let driver = bench.driver.clone();
        tokio::spawn(async move {
            let same = driver.create_volume(&vol("same"), 8 * MIB).await.unwrap();
            driver
                .create_volume(&vol(&format!("own-{n}")), MIB)
                .await
                .unwrap();
            let snapshot = driver
                .create_snapshot(&snap("same"), &vol("same"))
                .await
                .unwrap();
            driver
                .delete_volume(&vol(&format!("own-{n}")))
                .await
                .unwrap();
            (same, snapshot)
        })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    bench.delete(&["same"], &["same"]).await;
}

pub(crate) async fn a_call_that_was_cut_off_is_finished_by_the_next(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    for delay_ms in [0, 30, 120] {
        let delay = Duration::from_millis(delay_ms);
        let (b, s) = (vol("b"), snap("s"));
        let larger = driver.create_volume_from_snapshot(&b, 16 * MIB, &s);
        let _ = tokio::time::timeout(delay, larger).await;
        let info = driver
            .create_volume_from_snapshot(&vol("b"), 16 * MIB, &snap("s"))
            .await
            .unwrap();
        assert_eq!(info.size_bytes, 16 * MIB);
        let _ = tokio::time::timeout(delay, driver.create_snapshot(&snap("t"), &vol("b"))).await;
        driver.create_snapshot(&snap("t"), &vol("b")).await.unwrap();
        let _ = tokio::time::timeout(delay, driver.delete_snapshot(&snap("t"))).await;
        driver.delete_snapshot(&snap("t")).await.unwrap();
        let _ = tokio::time::timeout(delay, driver.delete_volume(&vol("b"))).await;
        bench.delete(&["b"], &[]).await;
        assert_eq!(driver.volume(&vol("b")).await.unwrap(), None);
    }
    bench.delete(&["a"], &["s"]).await;
}

pub(crate) async fn capacity_tells_the_room(bench: &Bench) {
    let driver = &bench.driver;
    let before = driver.capacity().await.unwrap();
    assert!(before.available_bytes > 100 * MIB && before.available_bytes <= before.total_bytes);
    assert!(before.maximum_volume_bytes >= before.available_bytes);
    assert!(before.granularity_bytes.is_power_of_two());
    driver.create_volume(&vol("a"), 100 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| {
            super::bench::write(device, 0, 32 * MIB, 1)
        })
        .await;
    let after = driver.capacity().await.unwrap();
    assert!(
        before.available_bytes - after.available_bytes > 30 * MIB,
        "{before:?} {after:?}"
    );
    assert_eq!(
        before.maximum_volume_bytes - after.maximum_volume_bytes,
        100 * MIB
    );
    bench.delete(&["a"], &[]).await;
}
