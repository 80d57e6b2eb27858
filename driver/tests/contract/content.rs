//! What the bytes of volumes, snapshots and copies are.

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use nix::libc::{EACCES, EPERM, EROFS};

use super::bench::{Bench, MIB, holds, snap, vol, write};
use crate::fixture::run;

pub(crate) async fn a_new_volume_reads_as_zeroes(bench: &Bench) {
    let driver = &bench.driver;
    for _ in 0..2 {
        // The second time, on blocks that the first time was written to.
        driver.create_volume(&vol("a"), 24 * MIB).await.unwrap();
        bench
            .with_volume(&vol("a"), |device| {
                assert!(holds(device, 0, 24 * MIB, 0));
                // One sector of each 64 KiB: what lies around it is given out with it.
                let file = OpenOptions::new().write(true).open(device).unwrap();
                for block in 0..384 {
                    file.write_all_at(&[0xEE; 512], block * 65536).unwrap();
                }
            })
            .await;
        bench
            .with_volume(&vol("a"), |device| {
                assert!(holds(device, 512, 65536 - 512, 0))
            })
            .await;
        bench.delete(&["a"], &[]).await;
    }
}

pub(crate) async fn a_snapshot_is_of_one_moment(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 16 * MIB).await.unwrap();
    let device = bench.attach(&vol("a")).await;
    write(&device, 0, MIB, 1);
    write(&device, 10 * MIB, MIB, 2);
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    write(&device, 0, MIB, 3);
    write(&device, 5 * MIB, MIB, 4);
    driver.create_snapshot(&snap("t"), &vol("a")).await.unwrap();
    write(&device, 10 * MIB, MIB, 5);
    bench.detach(&vol("a")).await;
    for _ in 0..2 {
        bench
            .with_snapshot(&snap("s"), |device| {
                assert!(holds(device, 0, MIB, 1) && holds(device, MIB, 9 * MIB, 0));
                assert!(holds(device, 10 * MIB, MIB, 2) && holds(device, 11 * MIB, 5 * MIB, 0));
                refuses_writes(device);
                assert!(holds(device, 0, MIB, 1));
            })
            .await;
    }
    bench
        .with_snapshot(&snap("t"), |device| {
            assert!(holds(device, 0, MIB, 3) && holds(device, 5 * MIB, MIB, 4));
            assert!(holds(device, 10 * MIB, MIB, 2));
        })
        .await;
    bench
        .with_volume(&vol("a"), |device| assert!(holds(device, 10 * MIB, MIB, 5)))
        .await;
    bench.delete(&["a"], &["s", "t"]).await;
}

/// Opening for writing fails, or else writing does.
fn refuses_writes(device: &std::path::Path) {
    let opened = OpenOptions::new().write(true).open(device);
    let error = opened.and_then(|file| {
        file.write_all_at(&[9; 4096], 0)
            .and_then(|()| file.sync_all())
    });
    let error = error.expect_err("a snapshot was written to");
    assert!(
        matches!(error.raw_os_error(), Some(EPERM | EROFS | EACCES)),
        "{error}"
    );
}

pub(crate) async fn a_snapshot_outlives_its_volume(bench: &Bench) {
    if !bench.nature.snapshots_stand_alone {
        return;
    }
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| write(device, MIB, MIB, 7))
        .await;
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    bench.delete(&["a"], &[]).await;
    // Another volume of the same id changes nothing.
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| write(device, 0, 8 * MIB, 8))
        .await;
    bench
        .with_snapshot(&snap("s"), |device| {
            assert!(holds(device, 0, MIB, 0) && holds(device, MIB, MIB, 7));
        })
        .await;
    bench.delete(&["a"], &["s"]).await;
}

pub(crate) async fn copies_go_their_own_way(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| write(device, 0, MIB, 1))
        .await;
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    driver
        .create_volume_from_snapshot(&vol("b"), 16 * MIB, &snap("s"))
        .await
        .unwrap();
    driver
        .create_cloned_volume(&vol("c"), 16 * MIB, &vol("a"))
        .await
        .unwrap();
    for id in ["b", "c"] {
        bench
            .with_volume(&vol(id), |device| {
                assert!(
                    holds(device, 0, MIB, 1) && holds(device, MIB, 15 * MIB, 0),
                    "{id}"
                );
                write(device, 0, MIB, 9);
                write(device, 15 * MIB, MIB, 9);
            })
            .await;
    }
    bench
        .with_volume(&vol("a"), |device| assert!(holds(device, 0, MIB, 1)))
        .await;
    bench
        .with_snapshot(&snap("s"), |device| assert!(holds(device, 0, MIB, 1)))
        .await;
    bench.delete(&["a", "b", "c"], &["s"]).await;
}

pub(crate) async fn a_mounted_volume_gives_a_whole_snapshot(bench: &Bench) {
    let driver = &bench.driver;
    let directory = tempfile::tempdir().unwrap();
    let point = directory.path().to_str().unwrap();
    driver.create_volume(&vol("a"), 24 * MIB).await.unwrap();
    let device = bench.attach(&vol("a")).await;
    run("mkfs.ext4", &["-q", device.to_str().unwrap()]).await;
    run("mount", &[device.to_str().unwrap(), point]).await;
    // Not synced: the driver has to see to that.
    let file = directory.path().join("file");
    std::fs::write(&file, vec![6; 5 << 20]).unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    run("umount", &[point]).await;
    bench.detach(&vol("a")).await;
    driver
        .create_volume_from_snapshot(&vol("b"), 24 * MIB, &snap("s"))
        .await
        .unwrap();
    let device = bench.attach(&vol("b")).await;
    run("mount", &[device.to_str().unwrap(), point]).await;
    let found = std::fs::read(&file).unwrap();
    assert!(found.len() == 5 << 20 && found.iter().all(|byte| *byte == 6));
    run("umount", &[point]).await;
    run("e2fsck", &["-f", "-n", device.to_str().unwrap()]).await;
    bench.detach(&vol("b")).await;
    bench.delete(&["a", "b"], &["s"]).await;
}

pub(crate) async fn ranges_cover_all_data(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 32 * MIB).await.unwrap();
    bench
        .with_volume(&vol("a"), |device| {
            write(device, 3 * MIB, 4096, 1);
            write(device, 20 * MIB, MIB, 2);
            write(device, 32 * MIB - 4096, 4096, 3);
        })
        .await;
    let info = driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    if let Some(ranges) = driver.allocated_ranges(&snap("s")).await.unwrap() {
        let mut end = 0;
        bench
            .with_snapshot(&snap("s"), |device| {
                for range in &ranges {
                    assert!(
                        range.length_bytes > 0 && range.offset_bytes >= end,
                        "{ranges:?}"
                    );
                    assert!(holds(device, end, range.offset_bytes - end, 0));
                    end = range.offset_bytes + range.length_bytes;
                }
                assert!(end <= info.size_bytes && holds(device, end, info.size_bytes - end, 0));
            })
            .await;
        let total: u64 = ranges.iter().map(|range| range.length_bytes).sum();
        assert!((MIB..4 * MIB).contains(&total), "{ranges:?}");
    }
    bench.delete(&["a"], &["s"]).await;
}

pub(crate) async fn what_differs_is_told(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("a"), 16 * MIB).await.unwrap();
    let device = bench.attach(&vol("a")).await;
    write(&device, 0, 8 * MIB, 1);
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    for (offset, length) in [(MIB + 512, 512), (3 * MIB, MIB), (16 * MIB - 4096, 4096)] {
        write(&device, offset, length, 2);
    }
    // Written with what it held: it may be told, and need not.
    write(&device, 6 * MIB, 4096, 1);
    driver.create_snapshot(&snap("t"), &vol("a")).await.unwrap();
    // What comes after the later one is none of its business.
    write(&device, 12 * MIB, MIB, 3);
    bench.detach(&vol("a")).await;
    for (base, snapshot) in [("s", "t"), ("t", "s")] {
        let told = driver.changed_ranges(&snap(base), &snap(snapshot)).await;
        let Some(ranges) = told.unwrap() else {
            continue;
        };
        let (before, after) = (content(bench, base).await, content(bench, snapshot).await);
        let mut end = 0;
        for range in &ranges {
            assert!(
                range.length_bytes > 0 && range.offset_bytes >= end,
                "{ranges:?}"
            );
            end = range.offset_bytes + range.length_bytes;
        }
        assert!(end <= after.len() as u64, "{ranges:?}");
        let covered = |offset: u64| {
            ranges
                .iter()
                .any(|r| (r.offset_bytes..r.offset_bytes + r.length_bytes).contains(&offset))
        };
        for (at, (a, b)) in (0u64..).zip(before.chunks(512).zip(after.chunks(512))) {
            let is_covered = a == b || (covered(at * 512) && covered(at * 512 + 511));
            assert!(is_covered, "sector {at} differs: {ranges:?}");
        }
    }
    let same = driver.changed_ranges(&snap("s"), &snap("s")).await.unwrap();
    assert!(same.is_none_or(|ranges| ranges.is_empty()));
    bench.delete(&["a"], &["s", "t"]).await;
}

async fn content(bench: &Bench, id: &str) -> Vec<u8> {
    bench
        .with_snapshot(&snap(id), |device| std::fs::read(device).unwrap())
        .await
}

pub(crate) async fn what_a_volume_grows_by_reads_as_zeroes(bench: &Bench) {
    let driver = &bench.driver;
    driver.create_volume(&vol("old"), 24 * MIB).await.unwrap();
    bench
        .with_volume(&vol("old"), |device| write(device, 0, 24 * MIB, 0xDD))
        .await;
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    bench.delete(&["old"], &[]).await;
    let device = bench.attach(&vol("a")).await;
    write(&device, 0, 8 * MIB, 5);
    driver.extend_volume(&vol("a"), 32 * MIB).await.unwrap();
    assert!(holds(&device, 0, 8 * MIB, 5) && holds(&device, 8 * MIB, 24 * MIB, 0));
    bench.detach(&vol("a")).await;
    bench.delete(&["a"], &[]).await;
}
