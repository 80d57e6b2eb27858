//! A volume that takes another one's place.

use std::{fs::File, time::Duration};

use stockpot_driver::DriverError;

use super::bench::{Bench, MIB, assert_error, holds, snap, vol, write};

async fn made(bench: &Bench, id: &str, size: u64, byte: u8) {
    bench.driver.create_volume(&vol(id), size).await.unwrap();
    let fill = |device: &std::path::Path| write(device, 0, 4 * MIB, byte);
    bench.with_volume(&vol(id), fill).await;
}

async fn assert_holds(bench: &Bench, id: &str, byte: u8) {
    let looked = bench
        .with_volume(&vol(id), |device| {
            holds(device, 0, 4 * MIB, byte) && holds(device, 4 * MIB, 4 * MIB, 0)
        })
        .await;
    assert!(looked, "volume {id} does not hold {byte}");
}

pub(crate) async fn one_volume_takes_the_place_of_another(bench: &Bench) {
    let driver = &bench.driver;
    made(bench, "a", 8 * MIB, 1).await;
    for (number, with) in ["t1", "t2"].into_iter().enumerate() {
        let byte = u8::try_from(number).unwrap() + 2;
        made(bench, with, 8 * MIB, byte).await;
        driver.check_replace(&vol("a")).await.unwrap();
        for _ in 0..2 {
            let info = driver.replace_volume(&vol("a"), &vol(with)).await.unwrap();
            assert_eq!((info.id, info.size_bytes), (vol("a"), 8 * MIB));
            assert_eq!(driver.volume(&vol(with)).await.unwrap(), None);
            assert_eq!(driver.list_volumes().await.unwrap().len(), 1);
        }
        assert_holds(bench, "a", byte).await;
    }
    // The one before is not what it was replaced by last.
    assert_error!(
        driver.replace_volume(&vol("a"), &vol("t1")).await,
        DriverError::NotFound { .. }
    );
    driver.check().await.unwrap();
    // It is a volume like any other, and the ids are free again.
    driver.extend_volume(&vol("a"), 16 * MIB).await.unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    driver.create_volume(&vol("t2"), 8 * MIB).await.unwrap();
    bench.delete(&["t2"], &["s"]).await;
    bench.delete(&["a"], &[]).await;
}

pub(crate) async fn snapshots_show_what_a_volume_held_before(bench: &Bench) {
    let driver = &bench.driver;
    made(bench, "a", 8 * MIB, 1).await;
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    made(bench, "t", 12 * MIB, 2).await;
    if !bench.nature.snapshots_stand_alone {
        for refused in [
            driver.check_replace(&vol("a")).await,
            driver.replace_volume(&vol("a"), &vol("t")).await.map(drop),
        ] {
            let text = assert_error!(refused, DriverError::InUse { .. });
            assert!(text.contains("snapshot s"), "{text} does not say which");
        }
        assert_holds(bench, "a", 1).await;
        bench.delete(&["a", "t"], &["s"]).await;
        return;
    }
    driver.replace_volume(&vol("a"), &vol("t")).await.unwrap();
    assert_holds(bench, "a", 2).await;
    let of = driver.snapshot(&snap("s")).await.unwrap().unwrap();
    assert_eq!((of.volume_id, of.size_bytes), (vol("a"), 8 * MIB));
    let kept = |device: &std::path::Path| holds(device, 0, 4 * MIB, 1);
    assert!(bench.with_snapshot(&snap("s"), kept).await);
    // Where the driver can tell, all that the two hold differs.
    driver.create_snapshot(&snap("n"), &vol("a")).await.unwrap();
    if let Some(ranges) = driver.changed_ranges(&snap("s"), &snap("n")).await.unwrap() {
        let told: u64 = ranges
            .iter()
            .filter(|range| range.offset_bytes < 4 * MIB)
            .map(|range| range.end_bytes().min(4 * MIB) - range.offset_bytes)
            .sum();
        assert_eq!(told, 4 * MIB, "{ranges:?}");
    }
    bench.delete(&["a"], &["s", "n"]).await;
}

pub(crate) async fn what_is_open_or_too_small_takes_no_place(bench: &Bench) {
    let driver = &bench.driver;
    made(bench, "a", 8 * MIB, 1).await;
    made(bench, "t", 8 * MIB, 2).await;
    for id in ["a", "t"] {
        let held = File::open(bench.attach(&vol(id)).await).unwrap();
        assert_error!(
            driver.replace_volume(&vol("a"), &vol("t")).await,
            DriverError::InUse { .. }
        );
        drop(held);
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.detach(&vol(id)).await;
    }
    driver.create_volume(&vol("small"), 4 * MIB).await.unwrap();
    assert_error!(
        driver.replace_volume(&vol("a"), &vol("small")).await,
        DriverError::OutOfRange(_)
    );
    for (id, with) in [("none", "t"), ("a", "none")] {
        assert_error!(
            driver.replace_volume(&vol(id), &vol(with)).await,
            DriverError::NotFound { .. }
        );
    }
    assert_error!(
        driver.check_replace(&vol("none")).await,
        DriverError::NotFound { .. }
    );
    assert_holds(bench, "a", 1).await;
    assert_holds(bench, "t", 2).await;
    bench.delete(&["a", "t", "small"], &[]).await;
}

/// The call is cut off anywhere; the next one finds it done or does it.
pub(crate) async fn a_replacement_that_was_cut_off_is_finished(bench: &Bench) {
    let driver = &bench.driver;
    made(bench, "a", 8 * MIB, 1).await;
    for delay_ms in [0, 40, 120, 300] {
        made(bench, "t", 8 * MIB, 2).await;
        let (a, t) = (vol("a"), vol("t"));
        let replacing = driver.replace_volume(&a, &t);
        let _ = tokio::time::timeout(Duration::from_millis(delay_ms), replacing).await;
        driver.replace_volume(&vol("a"), &vol("t")).await.unwrap();
        assert_holds(bench, "a", 2).await;
        assert_eq!(driver.list_volumes().await.unwrap().len(), 1);
        // The next one has another id: this one is used up.
        bench.delete(&["a"], &[]).await;
        made(bench, "a", 8 * MIB, 1).await;
    }
    bench.delete(&["a"], &[]).await;
}
