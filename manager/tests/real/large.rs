//! A thin volume of 1 TiB with little in it: what an upload costs depends on what changed, not on the volume's size.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use stockpot_manager::{Parts, config::PoolConfig};
use stockpot_proto::stockpot::v1 as api;
use stockpot_test_fixtures::{
    image::{Fill, Image},
    vg::ThrowAwayVg,
};

use super::{Kind, Storage, World, attach, detach};
use crate::lab::{self, Client, Run};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 1 << 40;

/// Pieces that the data lies in, as far apart as can be.
const PIECES: u64 = 16;

/// How much is written, in MiB, unless `STOCKPOT_TEST_THIN_MIB` says otherwise.
#[expect(
    clippy::disallowed_methods,
    reason = "it is the tests' own configuration"
)]
fn written_mib() -> u64 {
    let given = std::env::var("STOCKPOT_TEST_THIN_MIB");
    given.map_or(64, |text| text.parse().unwrap())
}

/// A part of each piece.
fn image(bytes: u64, part: u64) -> Image {
    let length = bytes / PIECES;
    (0..PIECES).fold(Image::new(SIZE), |image, piece| {
        let at = piece * (SIZE / PIECES) + part * length;
        image.extent(at, length, Fill::Text(part * PIECES + piece))
    })
}

/// Bytes read from the disk below the volume group, by whomever.
fn bytes_read(vg: &ThrowAwayVg) -> u64 {
    let name = vg.device().file_name().unwrap();
    let stat = Path::new("/sys/block").join(name).join("stat");
    let stat = fs::read_to_string(stat).unwrap();
    // Documentation/block/stat.rst: the third field is sectors read.
    let sectors: u64 = stat.split_whitespace().nth(2).unwrap().parse().unwrap();
    sectors * 512
}

struct Cost {
    seconds: f64,
    requests: u64,
    all_requests: usize,
    read: u64,
    sent: u64,
    reason: String,
}

impl Cost {
    fn print(&self, what: &str) {
        println!(
            "| {what} | {} | {:.2} | {} | {} | {:.1} | {:.1} |",
            self.reason,
            self.seconds,
            self.requests,
            self.all_requests,
            self.read as f64 / MIB as f64,
            self.sent as f64 / MIB as f64,
        );
    }
}

/// Patient: the guest has one processor, and gigabytes are moved.
fn patiently<T>(run: &Run, work: impl Future<Output = T>) -> T {
    run.block_within(Duration::from_secs(1500), work)
}

async fn write(client: &mut Client, volume: &str, image: &Image) {
    let path = attach(client, volume).await;
    let device = fs::OpenOptions::new().write(true).open(&path).unwrap();
    image.write_extents(&device).unwrap();
    device.sync_all().unwrap();
    drop(device);
    detach(client, volume).await;
}

async fn upload(world: &World, client: &mut Client, volume: &str, name: &str) -> Cost {
    let Some(Storage::LvmThin(vg)) = &world.storage else {
        panic!("a thin pool is needed");
    };
    let (before, asked) = (bytes_read(vg), world.server.journal().total());
    let start = Instant::now();
    let request = lab::snapshot_of(volume, name, "offsite");
    let snapshot: api::Snapshot = lab::ready_snapshot(client, &request).await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let progress = snapshot.progress.unwrap();
    Cost {
        seconds,
        requests: progress.requests,
        all_requests: world.server.journal().total() - asked,
        read: bytes_read(vg) - before,
        sent: progress.bytes_transferred,
        reason: snapshot.reason,
    }
}

#[test]
fn a_terabyte_costs_what_changed_in_it() {
    let written = written_mib() * MIB;
    let world = World::of_size(Kind::LvmThin, (1 << 30) + 4 * written);
    let mut config = world.config();
    // What is promised is a multiple of what there is.
    if let Some(PoolConfig::LvmThin { limits, .. }) = config.pools.first_mut() {
        limits.over_provisioning_ratio = 1_000_000;
    }
    let run = Run::start(config.clone(), Parts::new(&config).unwrap());
    let mut client = run.client();
    patiently(&run, async {
        let request = lab::empty_volume("large", SIZE);
        let volume = lab::available_volume(&mut client, &request).await.unwrap();
        let volume = volume.volume_id;
        write(&mut client, &volume, &image(written, 0)).await;
        let mib = written / MIB;
        // After what the test runner has written on this line.
        println!();
        println!(
            "| 1 TiB thin volume | how | s | requests of the upload | all requests | MiB read from the disk | MiB sent |"
        );
        println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
        let full = upload(&world, &mut client, &volume, "full").await;
        full.print(&format!("{mib} MiB written: first upload"));
        let same = upload(&world, &mut client, &volume, "same").await;
        same.print("unchanged");
        write(&mut client, &volume, &image(written, 1)).await;
        let more = upload(&world, &mut client, &volume, "more").await;
        more.print(&format!("{mib} MiB more"));

        assert_eq!(full.reason, "full");
        assert!(
            full.read < written + written / 10 + 8 * MIB,
            "{}",
            full.read
        );
        assert_eq!(same.reason, "incremental");
        assert!(same.requests < 20, "{} requests", same.requests);
        // The sample and the pool's own metadata.
        assert!(same.read < 8 * MIB, "{} bytes read", same.read);
        assert_eq!(same.sent, 0);
        assert_eq!(more.reason, "incremental");
        assert!(
            more.read < written + written / 10 + 8 * MIB,
            "{}",
            more.read
        );
        for snapshot in lab::list(&mut client).await {
            lab::delete_snapshot(&mut client, &snapshot.snapshot_id)
                .await
                .unwrap();
        }
        lab::delete_volume(&mut client, &volume).await.unwrap();
    });
    run.stop();
    world.close();
}
