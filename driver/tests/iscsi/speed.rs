//! What iSCSI costs: seconds to attach and to detach, and reading a snapshot that way, beside the local path and `dd`.
//! Figures are printed, never judged; that all ways read the same bytes is.

use std::{
    fs::OpenOptions,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use nix::libc;
use stockpot_driver::{AccessMode, ConnectionInfo, ConnectorProperties, SnapshotId, VolumeDriver};

use crate::{
    fixture::run,
    lab::{Lab, MIB, PORTALS},
};

/// How much one call reads, in bytes: as much as a worker of an upload asks for.
const BLOCK: usize = 2 << 20;
/// What addresses of direct I/O are multiples of, in bytes.
const ALIGNMENT: usize = 4096;

/// A number from the environment: the benchmark wants more than the test.
fn number(name: &str, usual: u64) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is the tests' own configuration"
    )]
    let given = std::env::var(name);
    given.map_or(usual, |text| text.parse().unwrap())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What differs from byte to byte and compresses badly.
fn content(at: u64) -> Vec<u8> {
    let words = (at / 8..).take(BLOCK / 8);
    words
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

fn fill(device: &Path, size_bytes: u64) {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    for at in (0..size_bytes).step_by(BLOCK) {
        file.write_all_at(&content(at), at).unwrap();
    }
    file.sync_all().unwrap();
}

/// Seconds to read a device from its first to its last byte past the page cache, and a sum of what it holds.
fn read_whole(device: &Path, size_bytes: u64) -> (f64, u64) {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(device)
        .unwrap();
    let mut memory = vec![0; BLOCK + ALIGNMENT];
    let aligned = memory.as_ptr().align_offset(ALIGNMENT);
    let block = &mut memory[aligned..aligned + BLOCK];
    let mut sum = 0_u64;
    let start = Instant::now();
    for at in (0..size_bytes).step_by(BLOCK) {
        file.read_exact_at(block, at).unwrap();
        // One word of each page: it is to tell contents apart, not to cost time.
        for word in block.chunks_exact(8).step_by(ALIGNMENT / 8) {
            sum = sum.rotate_left(5) ^ u64::from_le_bytes(word.try_into().unwrap());
        }
    }
    (start.elapsed().as_secs_f64(), sum)
}

async fn dd(device: &Path) -> f64 {
    let input = format!("if={}", device.display());
    let start = Instant::now();
    run(
        "dd",
        &[
            &input,
            "of=/dev/null",
            "bs=2M",
            "iflag=direct",
            "status=none",
        ],
    )
    .await;
    start.elapsed().as_secs_f64()
}

async fn attach_locally(lab: &Lab, id: &SnapshotId, here: &ConnectorProperties) -> PathBuf {
    lab.driver.create_export_snapshot(id).await.unwrap();
    let info = lab.driver.initialize_connection_snapshot(id, here).await;
    match info.unwrap() {
        ConnectionInfo::Local(local) => local.device_path,
        ConnectionInfo::Iscsi(_) => panic!("over iSCSI to itself"),
    }
}

async fn withdraw(lab: &Lab, id: &SnapshotId, who: &ConnectorProperties) {
    let ended = lab.driver.terminate_connection_snapshot(id, who, false);
    ended.await.unwrap();
    lab.driver.remove_export_snapshot(id).await.unwrap();
}

async fn filled_snapshot(lab: &Lab, here: &ConnectorProperties, mib: u64) -> SnapshotId {
    let volume = lab.volume("v", mib).await;
    lab.driver.create_export(&volume).await.unwrap();
    let mode = AccessMode::ReadWrite;
    let info = lab.driver.initialize_connection(&volume, here, mode).await;
    let ConnectionInfo::Local(local) = info.unwrap() else {
        panic!("over iSCSI to itself");
    };
    fill(&local.device_path, mib * MIB);
    let ended = lab.driver.terminate_connection(&volume, here, false);
    ended.await.unwrap();
    lab.driver.remove_export(&volume).await.unwrap();
    lab.snapshot("s", &volume).await
}

/// `STOCKPOT_TEST_SPEED_CYCLES` sets how often it is attached each way, `STOCKPOT_TEST_SPEED_MIB` how much is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_reads_the_same_by_every_path() {
    let cycles = number("STOCKPOT_TEST_SPEED_CYCLES", 2);
    let mib = number("STOCKPOT_TEST_SPEED_MIB", 16);
    let lab = Lab::new(&PORTALS[..1]).await;
    let here = ConnectorProperties {
        host: "storage".into(),
        ..lab.properties.clone()
    };
    let snapshot = filled_snapshot(&lab, &here, mib).await;

    let mut seconds: [Vec<f64>; 7] = Default::default();
    let mut sums = Vec::new();
    for cycle in 0..cycles {
        // Reading takes long and varies little: a few times are enough.
        let reads = cycle < 5;
        let mut note = |column: usize, value: f64| seconds[column].push(value);

        let start = Instant::now();
        let connection = lab.export_snapshot(&snapshot).await;
        let device = lab.connect(&connection).await.unwrap();
        note(0, start.elapsed().as_secs_f64());
        if reads {
            let (took, sum) = read_whole(&device.path, mib * MIB);
            note(1, took);
            sums.push(sum);
        }
        let start = Instant::now();
        lab.disconnect(&connection).await.unwrap();
        withdraw(&lab, &snapshot, &lab.properties).await;
        note(2, start.elapsed().as_secs_f64());

        let start = Instant::now();
        let device = attach_locally(&lab, &snapshot, &here).await;
        note(3, start.elapsed().as_secs_f64());
        if reads {
            let (took, sum) = read_whole(&device, mib * MIB);
            note(4, took);
            sums.push(sum);
            note(5, dd(&device).await);
        }
        let start = Instant::now();
        withdraw(&lab, &snapshot, &here).await;
        note(6, start.elapsed().as_secs_f64());
    }
    let first = sums.first().copied();
    assert!(
        sums.iter().all(|sum| Some(*sum) == first && *sum != 0),
        "{sums:?}"
    );
    print(seconds.map(median), cycles, mib);
    lab.close().await;
}

fn print([attach, iscsi, detach, attach_here, local, dd, detach_here]: [f64; 7], n: u64, mib: u64) {
    // After what the test runner has written on this line.
    println!();
    println!(
        "| a snapshot of {mib} MiB, medians of {n} | attach, s | detach, s | read, s | of dd's |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    println!(
        "| iSCSI, CHAP both ways | {attach:.3} | {detach:.3} | {iscsi:.3} | {:.2} |",
        iscsi / dd
    );
    println!(
        "| local | {attach_here:.3} | {detach_here:.3} | {local:.3} | {:.2} |",
        local / dd
    );
    println!("| dd of the local device | | | {dd:.3} | 1 |");
}
