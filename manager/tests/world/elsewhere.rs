//! From the bucket to another pool, a larger volume, and another machine that knows nothing but the bucket.

use std::{collections::BTreeMap, sync::Arc};

use stockpot_manager::{
    Parts,
    fakes::{FakeHost, FakeStorage},
};
use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use crate::{
    lab::{self, Run},
    world::{SIZE, World, filled_volume},
};

/// The content, and zeroes up to the size.
fn assert_holds(storage: &FakeStorage, volume: &api::Volume) {
    let path = storage.volume_file(&volume.volume_id.parse().unwrap());
    let found = std::fs::read(path).unwrap();
    let expected = super::content().to_vec();
    let (head, tail) = found.split_at(expected.len());
    assert!(head == expected, "{volume:?}");
    assert!(tail.iter().all(|byte| *byte == 0), "{volume:?}");
}

#[test]
fn into_another_pool_and_larger() {
    let world = World::new();
    let dir = world.dir.path().join("second");
    std::fs::create_dir(&dir).unwrap();
    let second = FakeStorage::new(&dir, world.faults.clone());
    let mut config = world.config();
    let pools =
        "[{name: pool, driver: file, directory: /a}, {name: second, driver: file, directory: /b}]";
    config.pools = serde_saphyr::from_str(pools).unwrap();
    config.default_pool = Some("pool".to_owned());
    // Whatever is attached is a file, of whichever of the two.
    let parts = Parts {
        pools: BTreeMap::from([
            ("pool".to_owned(), world.storage.clone() as _),
            ("second".to_owned(), second.clone() as _),
        ]),
        connector: Arc::new(FakeHost(world.storage.clone())),
        stores: world.stores.clone(),
    };
    let run = Run::start(config, parts);
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let snapshot = lab::ready_snapshot(&mut client, &request).await.unwrap();
        let mut request = lab::volume_from("copy", &snapshot.snapshot_id, api::SourceCopy::Cloud);
        request.pool = "second".to_owned();
        request.required_bytes = 2 * SIZE + 1;
        let copy = lab::available_volume(&mut client, &request).await.unwrap();
        assert_eq!((copy.pool.as_str(), copy.size_bytes % 4096), ("second", 0));
        assert!(copy.size_bytes > 2 * SIZE);
        assert_holds(&second, &copy);
        // The local copy is in the other pool: what is left is the bucket's.
        request.name = "auto".to_owned();
        request.source = lab::volume_from("", &snapshot.snapshot_id, api::SourceCopy::Auto).source;
        let auto = lab::available_volume(&mut client, &request).await.unwrap();
        assert_holds(&second, &auto);
        request.name = "local".to_owned();
        request.source = lab::volume_from("", &snapshot.snapshot_id, api::SourceCopy::Local).source;
        let refused = client.create_volume(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        request.pool = "third".to_owned();
        let refused = client.create_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let small = api::CreateVolumeRequest {
            required_bytes: SIZE / 2,
            ..lab::volume_from("small", &snapshot.snapshot_id, api::SourceCopy::Cloud)
        };
        let refused = client.create_volume(small).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    });
    run.stop();
}

/// A machine of another name with an empty catalog: the snapshot's id and a profile are enough.
#[test]
fn on_another_machine() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let snapshot = run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "s", "offsite");
        lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap()
            .snapshot_id
    });
    run.stop();

    let machine = tempfile::tempdir().unwrap();
    let data = machine.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let storage = FakeStorage::new(&data, world.faults.clone());
    let mut config = lab::config(machine.path());
    config.node_name = "node-2".to_owned();
    lab::write_profile(machine.path(), "other-name", "{bucket: backups, prefix: a}");
    let parts = Parts {
        pools: BTreeMap::from([("pool".to_owned(), storage.clone() as _)]),
        connector: Arc::new(FakeHost(storage.clone())),
        stores: world.stores.clone(),
    };
    let run = Run::start(config, parts);
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        let mut request = lab::volume_from("back", &snapshot, api::SourceCopy::Auto);
        request.required_bytes = SIZE + 4096;
        let back = lab::available_volume(&mut client, &request).await.unwrap();
        assert_eq!(back.size_bytes, SIZE + 4096);
        assert_holds(&storage, &back);
        // And into a volume that this machine had before.
        let there = lab::empty_volume("there", 2 * SIZE);
        let there = lab::available_volume(&mut client, &there).await.unwrap();
        let request = api::RestoreVolumeRequest {
            volume_id: there.volume_id.clone(),
            snapshot_id: snapshot.clone(),
        };
        volumes.restore_volume(request).await.unwrap();
        let id = api::GetVolumeRequest {
            volume_id: there.volume_id,
        };
        let there = client.wait_volume(id).await.unwrap().into_inner();
        assert_eq!((there.error.as_str(), there.size_bytes), ("", 2 * SIZE));
        assert_holds(&storage, &there);
    });
    run.stop();
    let left = storage.leftovers();
    assert!(
        left.volumes.len() == 2 && left.attached.is_empty(),
        "{left:?}"
    );
}

/// What is on record comes from the profile that it was sent with, whatever another one's bucket shows.
#[test]
fn past_a_repository_that_shows_the_same_short_id() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let snapshot = run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let made = lab::ready_snapshot(&mut client, &request).await.unwrap();
        made.snapshot_id
    });
    let short_id = snapshot.split('-').nth(1).unwrap();
    lab::write_profile(world.dir.path(), "aaa", "{bucket: others}");
    run.block_on(async {
        let place = "s3://others at aws";
        world.stores.make_look_alike(place, short_id).await;
        // A listing asks every bucket, and is not misled by one.
        let listed = lab::list(&mut client).await;
        assert!(listed.iter().all(|one| one.ready), "{listed:?}");
        assert_eq!(listed.len(), 1);
        world.assert_restores(&mut client, &snapshot).await;
    });
    run.stop();
    world.forget_catalog();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        // Before anybody has looked into both: what is asked for decides, and not who was asked first.
        let request = lab::volume_from("early", &snapshot, api::SourceCopy::Cloud);
        let refused = client.create_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let listed = client.list_snapshots(api::ListSnapshotsRequest::default());
        let listed = listed.await.unwrap().into_inner();
        assert!(listed.snapshots.is_empty(), "{listed:?}");
        assert!(listed.warnings[0].contains("offsite and aaa"), "{listed:?}");
        let request = lab::volume_from("back", &snapshot, api::SourceCopy::Cloud);
        let refused = client.create_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("aaa and offsite"), "{refused}");
    });
    run.stop();
}
