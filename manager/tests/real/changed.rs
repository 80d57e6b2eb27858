//! Only what changed goes to the bucket: told by a real thin pool, by the exception table of a classic snapshot, by image
//! files that share blocks.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
};

use stockpot_proto::stockpot::v1 as api;

use super::{
    Kind, SIZE, World, assert_holds, attach, content, detach, filled_volume, run_async, snapshot,
};
use crate::lab::{self, Client};

const MIB: u64 = 1 << 20;

#[test]
fn only_what_changed_on_lvm_thin() {
    only_what_changed(Kind::LvmThin);
}

#[test]
fn only_what_changed_on_lvm_thick() {
    only_what_changed(Kind::LvmThick);
}

#[test]
fn only_what_changed_on_image_files() {
    only_what_changed(Kind::File);
}

async fn upload(client: &mut Client, volume: &str, name: &str) -> api::Snapshot {
    let request = lab::snapshot_of(volume, name, "offsite");
    lab::ready_snapshot(client, &request).await.unwrap()
}

/// Random bytes in three places, and a discard (zeroes where the storage does not know discards).
async fn change(client: &mut Client, volume: &str, kind: Kind) {
    let path = attach(client, volume).await;
    let device = OpenOptions::new().write(true).open(&path).unwrap();
    let noise: Vec<u8> = (0..MIB).map(|at| (at * at / 7 % 251) as u8).collect();
    for offset in [MIB, 33 * MIB, SIZE - MIB] {
        device.write_all_at(&noise, offset).unwrap();
    }
    device.sync_all().unwrap();
    drop(device);
    let how = match kind {
        Kind::LvmThick | Kind::LvmThickTight => "--zeroout",
        Kind::LvmThin | Kind::File => "--verbose",
    };
    let offset = (40 * MIB).to_string();
    let length = (4 * MIB).to_string();
    let device = path.to_str().unwrap();
    let range = ["--offset", &offset, "--length", &length];
    run_async("blkdiscard", &[&[how][..], &range, &[device]].concat()).await;
    detach(client, volume).await;
}

async fn bytes_of(client: &mut Client, volume: &str) -> Vec<u8> {
    let path = attach(client, volume).await;
    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut File::open(&path).unwrap(), &mut found).unwrap();
    detach(client, volume).await;
    found
}

fn only_what_changed(kind: Kind) {
    let world = World::new(kind);
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let first = upload(&mut client, &volume, "first").await;
        assert_eq!(first.reason, "full", "{first:?}");
        lab::drop_local_copy(&mut client, &first.snapshot_id)
            .await
            .unwrap();
        assert!(snapshot(&mut client, &first.snapshot_id).await.kept_as_base);
        change(&mut client, &volume, kind).await;
        let expected = bytes_of(&mut client, &volume).await;
        let discarded = &expected[40 << 20..44 << 20];
        assert!(discarded.iter().all(|byte| *byte == 0), "discarded");
        let second = upload(&mut client, &volume, "second").await;
        assert_eq!(second.reason, "incremental", "{second:?}");
        assert!(
            second.reason_text.contains(&first.snapshot_id),
            "{second:?}"
        );
        let sent = second.progress.as_ref().unwrap().bytes_transferred;
        assert!(sent < 5 * MIB, "{sent} bytes for 3 MiB");

        // A third one, and the restore of each.
        let third = upload(&mut client, &volume, "third").await;
        assert_eq!(third.reason, "incremental", "{third:?}");
        assert!(
            third.progress.as_ref().unwrap().bytes_transferred < MIB,
            "{third:?}"
        );
        for (id, name) in [(&second, "back-2"), (&third, "back-3")] {
            let request = lab::volume_from(name, &id.snapshot_id, api::SourceCopy::Cloud);
            let back = lab::available_volume(&mut client, &request).await.unwrap();
            assert!(
                bytes_of(&mut client, &back.volume_id).await == expected,
                "{name}"
            );
            lab::delete_volume(&mut client, &back.volume_id)
                .await
                .unwrap();
        }
        let request = lab::volume_from("back-1", &first.snapshot_id, api::SourceCopy::Cloud);
        let back = lab::available_volume(&mut client, &request).await.unwrap();
        assert_holds(&mut client, &back.volume_id, &content(1)).await;
        lab::delete_volume(&mut client, &back.volume_id)
            .await
            .unwrap();

        // Without any local snapshot the next one is compared, and says so.
        for id in [&first, &second, &third] {
            lab::drop_local_copy(&mut client, &id.snapshot_id)
                .await
                .unwrap();
        }
        assert!(snapshot(&mut client, &third.snapshot_id).await.kept_as_base);
        lab::delete_snapshot(&mut client, &third.snapshot_id)
            .await
            .unwrap();
        let fourth = upload(&mut client, &volume, "fourth").await;
        assert_eq!(fourth.reason, "compared", "{fourth:?}");
        assert!(fourth.reason_text.contains("is gone"), "{fourth:?}");
        for id in [&first, &second, &fourth] {
            lab::delete_snapshot(&mut client, &id.snapshot_id)
                .await
                .unwrap();
        }
        lab::delete_volume(&mut client, &volume).await.unwrap();
    });
    run.stop();
    world.close();
}
