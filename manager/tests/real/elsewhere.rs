//! From one kind of storage to the other, each time larger, by way of the bucket; the last step on a machine of another name that
//! knows nothing but the bucket.

use std::fs;

use stockpot_manager::Parts;
use stockpot_proto::stockpot::v1 as api;
use stockpot_test_fixtures::vg::ThrowAwayVg;

use super::{Kind, SIZE, World, assert_holds, content, filled_volume};
use crate::lab::{self, Run};

const MORE: u64 = 16 << 20;

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn from_thin_to_thick_to_files_and_to_another_machine() {
    let world = World::of_size(Kind::LvmThin, 2 << 30);
    let vg = world.volume_group().to_owned();
    let images = tempfile::tempdir().unwrap();
    let pools = format!(
        "[{{name: thin, driver: lvm-thin, volumeGroup: {vg}, thinPool: {}}},
          {{name: thick, driver: lvm-thick, volumeGroup: {vg}}},
          {{name: files, driver: file, directory: {}, allowCopy: true}}]",
        ThrowAwayVg::POOL,
        images.path().display()
    );
    let mut config = world.config();
    config.pools = serde_saphyr::from_str(&pools).unwrap();
    config.default_pool = Some("thin".to_owned());
    let parts = Parts::new(&config).unwrap();
    let run = Run::start(config.clone(), parts);
    let mut client = run.client();
    let (made, mut snapshots) = run.block_on(async {
        let mut volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let (mut made, mut snapshots) = (vec![volume.clone()], Vec::new());
        for (number, pool) in (1..).zip(["thick", "files"]) {
            let request = lab::snapshot_of(&volume, pool, "offsite");
            let snapshot = lab::ready_snapshot(&mut client, &request).await.unwrap();
            let mut request = lab::volume_from(pool, &snapshot.snapshot_id, api::SourceCopy::Cloud);
            pool.clone_into(&mut request.pool);
            request.required_bytes = SIZE + number * MORE;
            let copy = lab::available_volume(&mut client, &request).await.unwrap();
            assert_eq!(
                (copy.pool.as_str(), copy.size_bytes),
                (pool, SIZE + number * MORE)
            );
            assert_holds(&mut client, &copy.volume_id, &content(1)).await;
            volume = copy.volume_id;
            made.push(volume.clone());
            snapshots.push(snapshot.snapshot_id);
        }
        let request = lab::snapshot_of(&volume, "last", "offsite");
        let last = lab::ready_snapshot(&mut client, &request).await.unwrap();
        snapshots.push(last.snapshot_id);
        (made, snapshots)
    });
    run.stop();

    // Another machine: another name, another folder, no catalog.
    let machine = tempfile::tempdir().unwrap();
    let other = machine.path();
    fs::create_dir(other.join("profiles")).unwrap();
    for file in ["credentials", "key", "profiles/offsite.yaml"] {
        fs::copy(world.dir.path().join(file), other.join(file)).unwrap();
    }
    let mut elsewhere = lab::config(other);
    elsewhere.node_name = "node-2".to_owned();
    let pool = format!("[{{name: pool, driver: lvm-thick, volumeGroup: {vg}}}]");
    elsewhere.pools = serde_saphyr::from_str(&pool).unwrap();
    let parts = Parts::new(&elsewhere).unwrap();
    let run = Run::start(elsewhere, parts);
    let mut client = run.client();
    run.block_on(async {
        let from = snapshots.last().unwrap();
        let mut request = lab::volume_from("back", from, api::SourceCopy::Auto);
        request.required_bytes = SIZE + 3 * MORE;
        let back = lab::available_volume(&mut client, &request).await.unwrap();
        assert_eq!(back.size_bytes, SIZE + 3 * MORE);
        assert_holds(&mut client, &back.volume_id, &content(1)).await;
        lab::delete_volume(&mut client, &back.volume_id)
            .await
            .unwrap();
    });
    run.stop();

    let parts = Parts::new(&config).unwrap();
    let run = Run::start(config, parts);
    let mut client = run.client();
    run.block_on(async {
        while let Some(snapshot) = snapshots.pop() {
            lab::delete_snapshot(&mut client, &snapshot).await.unwrap();
        }
        for volume in made {
            lab::delete_volume(&mut client, &volume).await.unwrap();
        }
    });
    run.stop();
    world.close();
}
