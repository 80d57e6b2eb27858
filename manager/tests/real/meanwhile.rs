//! What becomes of a volume while one of its snapshots is uploaded: the upload holds the snapshot, and not the volume.

use std::{
    fs::OpenOptions,
    io::{Seek, SeekFrom},
    time::{Duration, Instant},
};

use stockpot_proto::stockpot::v1 as api;
use stockpot_test_fixtures::{
    image::{Fill, Image},
    s3::{Action, Fault, Op},
};

use super::{
    Kind, SIZE, World, assert_holds, attach, backups::logical_volumes, detach, filled_volume,
    snapshot,
};
use crate::lab::{self, Client, PATIENCE};

const MIB: u64 = 1 << 20;
const GROWN: u64 = SIZE + 32 * MIB;

fn content() -> Image {
    Image::new(SIZE)
        .extent(20 * MIB, 8 * MIB, Fill::Random(1))
        .extent(SIZE - MIB, MIB, Fill::Random(2))
}

/// Other bytes where there were some, and something in the new part.
fn grown() -> Image {
    Image::new(GROWN)
        .extent(20 * MIB, 8 * MIB, Fill::Random(3))
        .extent(SIZE - MIB, 2 * MIB, Fill::Random(4))
        .extent(GROWN - MIB, MIB, Fill::Random(5))
}

#[test]
fn a_volume_grows_and_is_cut_again_while_a_snapshot_is_uploaded() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content()).await.volume_id;
        let device = attach(&mut client, &volume).await;
        let silent = Fault::new(Action::Hang).on(Op::UploadPart).key("packs/");
        let silent = world.server.faults().inject(silent);
        let asked = ["first", "second"].map(|name| lab::snapshot_of(&volume, name, "offsite"));
        let first = lab::cut(&mut client, &asked[0]).await.snapshot_id;
        let deadline = Instant::now() + PATIENCE;
        while world.server.faults().fired(silent) == 0 {
            assert!(Instant::now() < deadline, "nothing is sent");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        let request = api::ExtendVolumeRequest {
            volume_id: volume.clone(),
            required_bytes: GROWN,
            ..Default::default()
        };
        let extended = client.extend_volume(request).await.unwrap().into_inner();
        assert_eq!(extended.size_bytes, GROWN);
        let mut device = OpenOptions::new().write(true).open(device).unwrap();
        assert_eq!(device.seek(SeekFrom::End(0)).unwrap(), GROWN);
        grown().write_extents(&device).unwrap();
        device.sync_all().unwrap();
        drop(device);
        let second = lab::cut(&mut client, &asked[1]).await.snapshot_id;
        detach(&mut client, &volume).await;

        // All that while the first one stood where it was.
        for id in [&first, &second] {
            let found = snapshot(&mut client, id).await;
            assert_eq!(found.cloud(), api::CopyState::Pending, "{found:?}");
        }
        world.server.faults().clear();
        world.server.restart().unwrap();
        for (request, (id, holds)) in asked.iter().zip([(&first, content()), (&second, grown())]) {
            let ready = lab::ready_snapshot(&mut client, request).await.unwrap();
            assert_eq!(
                (&ready.snapshot_id, ready.size_bytes),
                (id, holds.size_bytes())
            );
            assert_restores(&mut client, id, &holds).await;
        }
        world.assert_tidy("after the uploads");
        for id in [&first, &second] {
            lab::delete_snapshot(&mut client, id).await.unwrap();
        }
        assert_holds(&mut client, &volume, &grown()).await;
        lab::delete_volume(&mut client, &volume).await.unwrap();
        assert!(logical_volumes(&world).await.is_empty());
    });
    run.stop();
    assert!(world.keys("intents/").is_empty());
    world.close();
}

/// A cloud copy is as large as the volume was, and holds what it held.
async fn assert_restores(client: &mut Client, snapshot: &str, holds: &Image) {
    let request = lab::volume_from("back", snapshot, api::SourceCopy::Cloud);
    let back = lab::available_volume(client, &request).await.unwrap();
    assert_eq!(back.size_bytes, holds.size_bytes());
    assert_holds(client, &back.volume_id, holds).await;
    lab::delete_volume(client, &back.volume_id).await.unwrap();
}
