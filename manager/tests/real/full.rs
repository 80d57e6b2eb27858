//! Storage that runs full while a snapshot of it is uploaded: the copy is whole or there is none, the volume is never harmed,
//! and whoever reads the message knows what to do.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{
    Kind, SIZE, World, assert_holds, attach,
    broken::{answer_again, answer_no_parts, until_sending},
    content, delete_all, detach, filled_volume, run_async, snapshot,
};
use crate::lab::{self, Client, Run};

const MIB: u64 = 1 << 20;

/// Takes all that is left in the volume group; the logical volume to remove for room.
async fn fill_group(vg: &str) -> String {
    let args = ["--yes", "--extents", "100%FREE", "--name", "filler", vg];
    run_async("lvcreate", &args).await;
    format!("{vg}/filler")
}

/// Overwrites 4 KiB at each of these offsets until that fails; which were taken.
fn overwrite(device: &Path, offsets: impl Iterator<Item = u64>) -> Vec<u64> {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    let mut taken = Vec::new();
    for offset in offsets {
        let wrote = file.write_all_at(&[9; 4096], offset);
        if wrote.and_then(|()| file.sync_data()).is_err() {
            break;
        }
        taken.push(offset);
    }
    taken
}

/// A pool of 112 MiB that cannot grow and whose writes fail at once when it is full, with a volume that nearly fills it.
fn start_small_pool(world: &World) -> Run {
    let mut config = world.config();
    let vg = world.volume_group();
    let pool = format!(
        "[{{name: pool, driver: lvm-thin, volumeGroup: {vg}, thinPool: small, poolSizeBytes: {}}}]",
        112 * MIB
    );
    config.pools = serde_saphyr::from_str(&pool).unwrap();
    config.pool_guard_seconds = 1;
    let parts = stockpot_manager::Parts::new(&config).unwrap();
    Run::start(config, parts)
}

async fn refused_with_figures(client: &mut Client, volume: &str) {
    let another = lab::empty_volume("another", MIB);
    let refused = [
        client.create_volume(another).await.map(drop).unwrap_err(),
        client
            .create_snapshot(lab::snapshot_of(volume, "another", ""))
            .await
            .map(drop)
            .unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let text = status.message();
        assert!(
            text.contains("% full") && text.contains("lvextend"),
            "{text}"
        );
    }
}

#[test]
fn a_pool_that_fills_during_an_upload_harms_nothing() {
    let world = World::new(Kind::LvmThin);
    let run = start_small_pool(&world);
    let mut client = run.client();
    let vg = world.volume_group().to_owned();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let pool = format!("{vg}/small");
        run_async("lvchange", &["--yes", "--errorwhenfull", "y", &pool]).await;
        let filler = fill_group(&vg).await;
        let silent = answer_no_parts(&world, 2);
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        until_sending(&world, silent, &mut client, &cut.snapshot_id).await;
        // Every block of the volume, until the pool has none left.
        let path = attach(&mut client, &volume).await;
        let taken = overwrite(&path, (0..SIZE / 65536).map(|block| block * 65536));
        let blocks = SIZE / 65536;
        assert!((taken.len() as u64) < blocks, "the pool did not fill");
        // It may be there all the same.
        let refused_at = taken.last().map_or(0, |last| last + 65536);
        refused_with_figures(&mut client, &volume).await;
        answer_again(&world);
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        // There is room again: the pool is made larger, and the volume has in each place what was there or what was written.
        run_async("lvremove", &["--yes", &filler]).await;
        let started = Instant::now();
        while overwrite(&path, [SIZE - 65536].into_iter()).is_empty() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "no room was made"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let taken = [&taken[..], &[SIZE - 65536]].concat();
        assert_old_or_new(&path, &taken, refused_at);
        detach(&mut client, &volume).await;
        // The cloud copy is what was cut.
        let request = lab::volume_from("back", &ready.snapshot_id, api::SourceCopy::Cloud);
        let back = lab::available_volume(&mut client, &request).await.unwrap();
        assert_holds(&mut client, &back.volume_id, &content(1)).await;
        let volumes = [back.volume_id.as_str(), &volume];
        delete_all(&mut client, volumes, &ready.snapshot_id).await;
    });
    run.stop();
    world.close();
}

fn assert_old_or_new(device: &Path, taken: &[u64], refused_at: u64) {
    let (device, old) = (File::open(device).unwrap(), content(1).to_vec());
    let mut found = vec![0; old.len()];
    device.read_exact_at(&mut found, 0).unwrap();
    for (offset, (found, old)) in (0u64..)
        .step_by(4096)
        .zip(found.chunks(4096).zip(old.chunks(4096)))
    {
        let is_new = found.iter().all(|byte| *byte == 9);
        let was_taken = taken.contains(&offset);
        let may_be_new = offset == refused_at;
        assert!(
            if was_taken {
                is_new
            } else {
                found == old || (may_be_new && is_new)
            },
            "at {offset}: neither what was there nor what was written"
        );
    }
}

/// A classic snapshot whose room runs out while it is read: its upload fails, is never committed, and says why; the volume
/// itself is untouched by that, and the next snapshot is uploaded.
#[test]
fn a_thick_snapshot_that_overflows_fails_its_upload() {
    let world = World::new(Kind::LvmThickTight);
    let run = world.start();
    let mut client = run.client();
    let vg = world.volume_group().to_owned();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let silent = answer_no_parts(&world, 2);
        let path = attach(&mut client, &volume).await;
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        let filler = fill_group(&vg).await;
        until_sending(&world, silent, &mut client, &cut.snapshot_id).await;
        let taken = overwrite(&path, (0..SIZE / 16384).map(|unit| unit * 16384));
        assert_eq!(
            taken.len() as u64,
            SIZE / 16384,
            "the volume itself goes on"
        );
        answer_again(&world);
        let refused = lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let text = refused.message();
        assert!(text.contains("void") && text.contains("add room"), "{text}");
        assert!(world.keys("snapshots/").is_empty(), "it was committed");
        assert!(!snapshot(&mut client, &cut.snapshot_id).await.ready);
        lab::delete_snapshot(&mut client, &cut.snapshot_id)
            .await
            .unwrap();
        assert_old_or_new(&path, &taken, SIZE);
        run_async("lvremove", &["--yes", &filler]).await;
        detach(&mut client, &volume).await;
        let request = lab::snapshot_of(&volume, "t", "offsite");
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        lab::delete_snapshot(&mut client, &ready.snapshot_id)
            .await
            .unwrap();
        lab::delete_volume(&mut client, &volume).await.unwrap();
    });
    run.stop();
    world.close();
}
