//! What a driver says of where data is and what changed, against the bytes themselves.

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path, sync::Arc};

use stockpot_driver::{
    ByteRange, DriverError, VolumeDriver,
    file::{FileConfig, FileDriver},
};

use crate::{
    contract::bench::{Bench, MIB, Nature, snap, vol, write},
    fixture::{Host, run},
    lvm_thin,
};

/// Blocks of the pool; what a write may at most make of itself.
const BLOCK: u64 = 64 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn ranges_lvm_thin() {
    let host = Host::new().await;
    tell_what_changed(Arc::new(lvm_thin(&host))).await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_file_xfs() {
    on_file_system("xfs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_file_btrfs() {
    on_file_system("btrfs").await;
}

async fn on_file_system(kind: &str) {
    let host = Host::new().await;
    let mounted = host.file_system(kind, 1 << 30).await;
    let driver = FileDriver::new(FileConfig::new(mounted.path().join("images")));
    tell_what_changed(Arc::new(driver)).await;
    mounted.unmount().await;
    host.close().await;
}

/// Copies share nothing, so all data counts as changed.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_file_copies() {
    let host = Host::new().await;
    let mounted = host.file_system("ext4", 256 << 20).await;
    let mut config = FileConfig::new(mounted.path().join("images"));
    config.allow_copy = true;
    let driver: Arc<dyn VolumeDriver> = Arc::new(FileDriver::new(config));
    driver.check().await.unwrap();
    let bench = Bench::new(driver.clone(), Nature::THIN).await;
    driver.create_volume(&vol("a"), 16 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| write(device, 4 * MIB, MIB, 1))
        .await;
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    driver.create_snapshot(&snap("t"), &vol("a")).await.unwrap();
    let changed = check(&bench, "s", "t").await;
    assert!((MIB..2 * MIB).contains(&total(&changed)), "{changed:?}");
    bench.delete(&["a"], &["s", "t"]).await;
    mounted.unmount().await;
    host.close().await;
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Writes and discards here and there; how many bytes that can come to in whole blocks.
fn scribble(device: &Path, dice: &mut Dice, size: u64, times: u64) -> u64 {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    let mut touched = 0;
    for _ in 0..times {
        let length = 4096 * (1 + dice.below(40));
        let offset = dice.below((size - length) / 4096) * 4096;
        let byte = u8::try_from(1 + dice.below(255)).unwrap();
        file.write_all_at(&vec![byte; usize::try_from(length).unwrap()], offset)
            .unwrap();
        touched += length + 2 * BLOCK;
    }
    file.sync_all().unwrap();
    touched
}

async fn discard(device: &Path, offset: u64, length: u64) {
    let (offset, length) = (offset.to_string(), length.to_string());
    let device = device.to_str().unwrap();
    run(
        "blkdiscard",
        &["--offset", &offset, "--length", &length, device],
    )
    .await;
}

fn total(ranges: &[ByteRange]) -> u64 {
    ranges.iter().map(|range| range.length_bytes).sum()
}

/// What the driver says has changed, after it was found to be true.
async fn check(bench: &Bench, base: &str, snapshot: &str) -> Vec<ByteRange> {
    let driver = &bench.driver;
    let changed = driver.changed_ranges(&snap(base), &snap(snapshot)).await;
    let changed = changed.unwrap().expect("it can tell");
    let allocated = driver.allocated_ranges(&snap(snapshot)).await.unwrap();
    let allocated = allocated.expect("it can tell");
    let old = bench
        .with_snapshot(&snap(base), |device| std::fs::read(device).unwrap())
        .await;
    let new = bench
        .with_snapshot(&snap(snapshot), |device| std::fs::read(device).unwrap())
        .await;
    for ranges in [&changed, &allocated] {
        let apart = |pair: &[ByteRange]| pair[0].end_bytes() < pair[1].offset_bytes;
        assert!(
            ranges.windows(2).all(apart),
            "not ascending and merged: {ranges:?}"
        );
        assert!(ranges.iter().all(|range| range.length_bytes > 0));
        assert!(
            ranges
                .last()
                .is_none_or(|range| range.end_bytes() <= new.len() as u64)
        );
    }
    let zero = vec![0; 512];
    for (at, sector) in new.chunks(512).enumerate() {
        let offset = at as u64 * 512;
        let before = old.get(at * 512..at * 512 + 512).unwrap_or(&zero);
        let within = |ranges: &[ByteRange]| {
            let after = ranges.partition_point(|range| range.end_bytes() <= offset);
            ranges
                .get(after)
                .is_some_and(|range| range.offset_bytes <= offset)
        };
        assert!(
            before == sector || within(&changed),
            "{base} to {snapshot}: byte {offset} differs and is not in {changed:?}"
        );
        assert!(
            sector == zero || within(&allocated),
            "{snapshot}: byte {offset} is data and is not in {allocated:?}"
        );
    }
    changed
}

async fn tell_what_changed(driver: Arc<dyn VolumeDriver>) {
    driver.check().await.unwrap();
    let bench = Bench::new(driver.clone(), Nature::THIN).await;
    let mut dice = Dice(20);
    driver.create_volume(&vol("a"), 64 * MIB).await.unwrap();
    driver
        .create_snapshot(&snap("s0"), &vol("a"))
        .await
        .unwrap();
    bench
        .with_volume(&vol("a"), |device| {
            scribble(device, &mut dice, 64 * MIB, 60)
        })
        .await;
    driver
        .create_snapshot(&snap("s1"), &vol("a"))
        .await
        .unwrap();
    assert!(total(&check(&bench, "s0", "s1").await) > MIB);
    assert_eq!(check(&bench, "s1", "s1").await, []);

    let device = bench.attach(&vol("a")).await;
    let mut most = scribble(&device, &mut dice, 64 * MIB, 25);
    discard(&device, 10 * MIB, 3 * MIB).await;
    // The last bytes of the volume, and zeroes over data.
    write(&device, 64 * MIB - 4096, 4096, 9);
    write(&device, 30 * MIB, 256 << 10, 0);
    most += 3 * MIB + 4 * BLOCK + (256 << 10);
    driver
        .create_snapshot(&snap("s2"), &vol("a"))
        .await
        .unwrap();
    let changed = check(&bench, "s1", "s2").await;
    assert!(total(&changed) <= most, "{} of {most}", total(&changed));

    driver.extend_volume(&vol("a"), 96 * MIB).await.unwrap();
    let grown = bench.attach(&vol("a")).await;
    write(&grown, 96 * MIB - 4096, 4096, 5);
    write(&grown, 70 * MIB, MIB, 6);
    bench.detach(&vol("a")).await;
    driver
        .create_snapshot(&snap("s3"), &vol("a"))
        .await
        .unwrap();
    let changed = check(&bench, "s2", "s3").await;
    assert!((MIB..2 * MIB).contains(&total(&changed)), "{changed:?}");
    check(&bench, "s1", "s3").await;
    // Backwards: the snapshot is the smaller one.
    check(&bench, "s3", "s1").await;

    // A volume made from a snapshot goes on from it, and a snapshot outlives its volume.
    driver
        .create_volume_from_snapshot(&vol("b"), 96 * MIB, &snap("s3"))
        .await
        .unwrap();
    bench.delete(&["a"], &[]).await;
    let most = bench
        .with_volume(&vol("b"), |device| {
            scribble(device, &mut dice, 96 * MIB, 10)
        })
        .await;
    driver
        .create_snapshot(&snap("s4"), &vol("b"))
        .await
        .unwrap();
    let changed = check(&bench, "s3", "s4").await;
    assert!(total(&changed) <= most, "{} of {most}", total(&changed));
    check(&bench, "s2", "s3").await;

    bench.delete(&["b"], &["s2"]).await;
    let error = driver.changed_ranges(&snap("s2"), &snap("s3")).await;
    assert!(
        matches!(error, Err(DriverError::NotFound { .. })),
        "{error:?}"
    );
    bench.delete(&[], &["s0", "s1", "s3", "s4"]).await;
}

/// Blocks behind the end of a volume that was made smaller come back when it grows: the base had them, and did not show
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_lvm_of_a_volume_that_shrank_and_grew() {
    let host = Host::new().await;
    let driver: Arc<dyn VolumeDriver> = Arc::new(lvm_thin(&host));
    driver.check().await.unwrap();
    let bench = Bench::new(driver.clone(), Nature::THIN).await;
    driver.create_volume(&vol("a"), 32 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| write(device, 0, 32 * MIB, 7))
        .await;
    driver
        .create_snapshot(&snap("large"), &vol("a"))
        .await
        .unwrap();
    let lv = format!("{}/stockpot.v.a", host.vg());
    run("lvreduce", &["--yes", "--force", "--size", "8m", &lv]).await;
    driver
        .create_snapshot(&snap("small"), &vol("a"))
        .await
        .unwrap();
    assert_eq!(check(&bench, "large", "small").await, []);
    run("lvextend", &["--size", "32m", &lv]).await;
    driver
        .create_snapshot(&snap("again"), &vol("a"))
        .await
        .unwrap();
    check(&bench, "small", "again").await;
    bench.delete(&["a"], &["large", "small", "again"]).await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_lvm_queue_for_the_frozen_metadata_and_mend_what_a_crash_left() {
    let host = Host::new().await;
    let driver: Arc<dyn VolumeDriver> = Arc::new(lvm_thin(&host));
    driver.check().await.unwrap();
    let bench = Bench::new(driver.clone(), Nature::THIN).await;
    driver.create_volume(&vol("a"), 16 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| write(device, MIB, MIB, 7))
        .await;
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    let pool = format!("{}-pool-tpool", host.vg().replace('-', "--"));
    let frozen = async || {
        let status = run("dmsetup", &["status", &pool]).await;
        status.split_whitespace().nth(6).unwrap() != "-"
    };
    let asked = (0..4).map(|_| {
        // Another driver is another process, as far as the kernel sees.
        let driver = lvm_thin(&host);
        tokio::spawn(async move { driver.allocated_ranges(&snap("s")).await.unwrap().unwrap() })
    });
    for answer in asked.collect::<Vec<_>>() {
        assert_eq!(total(&answer.await.unwrap()), MIB);
    }
    assert!(!frozen().await);

    let freeze = async || run("dmsetup", &["message", &pool, "0", "reserve_metadata_snap"]).await;
    freeze().await;
    // A change after the crash: the frozen metadata knows nothing of it.
    bench
        .with_volume(&vol("a"), |device| write(device, 4 * MIB, MIB, 8))
        .await;
    driver.create_snapshot(&snap("t"), &vol("a")).await.unwrap();
    assert_eq!(total(&check(&bench, "s", "t").await), MIB);
    assert!(!frozen().await);
    freeze().await;
    driver.check().await.unwrap();
    assert!(!frozen().await, "the check at the start leaves it");

    // A caller that goes away: what it began is ended.
    let (s, t) = (snap("s"), snap("t"));
    let asking = driver.changed_ranges(&s, &t);
    let gone = tokio::time::timeout(std::time::Duration::from_millis(60), asking).await;
    driver.changed_ranges(&s, &t).await.unwrap();
    assert!(!frozen().await, "{gone:?}");
    bench.delete(&["a"], &["s", "t"]).await;
    host.close().await;
}
