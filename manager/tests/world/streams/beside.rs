//! A stream beside its caller's leaving, deletions, backups, uploads and a check of the catalog.

use stockpot_manager::config::StreamsConfig;
use stockpot_proto::stockpot::v1::{self as api, StreamStatus};
use stockpot_test_fixtures::image::{Fill, Image};
use tonic::Code;

use super::{
    Place, asked, asked_into, begin, end, listed, receive, send, sent, settled, start, start_with,
};
use crate::{
    lab::{self, Client, Run},
    world::{World, consistency::assert_explained, filled_volume},
};

/// More than is on its way where nobody takes anything, in bytes.
const LARGE: u64 = 32 << 20;

/// A manager that waits long for whoever takes nothing.
fn start_patient(world: &World, place: &Place) -> Run {
    let patient = StreamsConfig {
        silent_seconds_max: 600,
        linger_seconds: 0,
        ..StreamsConfig::default()
    };
    start_with(world, place, patient)
}

async fn large_volume(world: &World, client: &mut Client) -> String {
    let request = lab::empty_volume("source", LARGE);
    let volume = lab::available_volume(client, &request).await.unwrap();
    let path = world
        .storage
        .volume_file(&volume.volume_id.parse().unwrap());
    let content = Image::new(LARGE).extent(0, LARGE, Fill::Random(1));
    content.write_to(&path).unwrap();
    volume.volume_id
}

#[test]
fn a_caller_who_goes_away_and_a_deletion_end_it() {
    let (world, place) = (World::new(), Place::new());
    let run = start_patient(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let volume = large_volume(&world, &mut client).await;
        let snapshot = lab::cut(&mut client, &lab::snapshot_of(&volume, "s", "")).await;
        let snapshot = snapshot.snapshot_id;
        let request = api::SendSnapshotRequest {
            snapshot_id: snapshot.clone(),
            destination: place.address.clone(),
            metadata: Default::default(),
        };
        world.faults.hold_call("connect");
        let begun = streams.send_snapshot(request.clone()).await.unwrap();
        world.faults.happened().await;
        let again = streams.send_snapshot(request.clone()).await.unwrap_err();
        assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
        let local = lab::drop_local_copy(&mut client, &snapshot)
            .await
            .unwrap_err();
        assert_eq!(local.code(), Code::FailedPrecondition, "{local}");
        drop(begun);
        world.faults.clear();
        assert_eq!(settled(&mut streams).await, [StreamStatus::Failed]);
        world.assert_tidy("the caller went away");

        // Nobody takes what is sent; the deletion does not wait for that.
        let (begun, _connection) = tokio::join!(streams.send_snapshot(request), async {
            place.listen().accept().await.unwrap()
        });
        lab::delete_snapshot(&mut client, &snapshot).await.unwrap();
        let ended = end(begun.unwrap().into_inner()).await;
        assert_eq!(ended.unwrap_err().code(), Code::Aborted);
        assert!(world.storage.leftovers().snapshots.is_empty());
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn streams_that_wait_keep_nobody_else_from_the_bucket() {
    let (world, place) = (World::new(), Place::new());
    let few = StreamsConfig {
        streams_max: 3,
        ..StreamsConfig::default()
    };
    let run = start_with(&world, &place, few);
    let (mut client, mut streams, mut backups) = (run.client(), run.streams(), run.backups());
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        // More than have a turn, and nobody gives them anything.
        let mut begun = Vec::new();
        for name in ["a", "b", "c"] {
            let request = asked(name, &place.address);
            begun.push(streams.receive_volume(request).await.unwrap());
        }
        let refused = streams.receive_volume(asked("d", &place.address)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
        assert!(refused.message().contains("streamsMax"), "{refused}");
        let done = lab::backed_up(&mut backups, &volume, "b", false).await;
        world.assert_restores(&mut client, &done.snapshot_id).await;
        let now = listed(&mut streams).await;
        assert!(
            now.iter().all(|s| s.status() == StreamStatus::Running),
            "{now:?}"
        );
        drop(begun);
        assert_eq!(settled(&mut streams).await, [StreamStatus::Failed; 3]);
        // Their places are free again.
        drop(
            streams
                .receive_volume(asked("d", &place.address))
                .await
                .unwrap(),
        );
        settled(&mut streams).await;
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn what_a_backup_reads_is_not_sent() {
    let (world, place, run) = begin();
    let (mut client, mut streams, mut backups) = (run.client(), run.streams(), run.backups());
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        lab::backed_up(&mut backups, &volume, "first", false).await;
        let snapshot = lab::cut(&mut client, &lab::snapshot_of(&volume, "s", "")).await;
        let snapshot = snapshot.snapshot_id;
        world.faults.hold_call("put");
        let request = api::CreateBackupRequest {
            name: "b".to_owned(),
            snapshot_id: snapshot.clone(),
            ..Default::default()
        };
        let begun = backups.create_backup(request).await.unwrap().into_inner();
        world.faults.happened().await;
        let refused = send(&mut streams, &snapshot, &place.address).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(&begun.backup_id), "{refused}");
        world.faults.clear();
        lab::cleaned(&mut backups, "b").await;
        let (done, _) = tokio::join!(send(&mut streams, &snapshot, &place.address), place.take());
        done.unwrap();
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn what_is_sent_is_not_uploaded_meanwhile() {
    let (world, place) = (World::new(), Place::new());
    let key = world.dir.path().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    let topology = format!(
        "{{bucket: backups, prefix: a, key: {{file: {}}}}}",
        key.display()
    );
    lab::write_profile(world.dir.path(), "offsite", &topology);
    let run = start(&world, &place);
    let mut client = run.client();
    let volume = run.block_on(async {
        let volume = large_volume(&world, &mut client).await;
        let request = lab::snapshot_of(&volume, "committed", "offsite");
        lab::ready_snapshot(&mut client, &request).await.unwrap();
        volume
    });
    run.stop();
    // Nothing is uploaded with another key.
    std::fs::write(&key, [8; 32]).unwrap();
    let run = start_patient(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let snapshot_id = lab::cut(&mut client, &request).await.snapshot_id;
        lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap_err();
        world.faults.hold_call("connect");
        let sending = api::SendSnapshotRequest {
            snapshot_id: snapshot_id.clone(),
            destination: place.address.clone(),
            metadata: Default::default(),
        };
        let (begun, _connection) = tokio::join!(streams.send_snapshot(sending), async {
            place.listen().accept().await.unwrap()
        });
        world.faults.happened().await;
        let refused = client.create_snapshot(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
        assert!(refused.message().contains("being sent"), "{refused}");
        drop(begun);
        world.faults.clear();
        assert_eq!(settled(&mut streams).await, [StreamStatus::Failed]);
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn a_check_of_the_catalog_knows_what_a_stream_has_attached() {
    let (world, place, run) = begin();
    let (mut client, mut streams) = (run.client(), run.streams());
    let mut catalog = run.catalog();
    run.block_on(async {
        let (bytes, volume, snapshot) = sent(&world, (&mut client, &mut streams), &place).await;
        world.faults.hold_call("connect");
        let checking = async {
            world.faults.happened().await;
            assert_explained(&mut catalog, "sending", 1).await;
            world.faults.clear();
        };
        let (done, _, ()) = tokio::join!(
            send(&mut streams, &snapshot, &place.address),
            place.take(),
            checking
        );
        done.unwrap();
        lab::delete_snapshot(&mut client, &snapshot).await.unwrap();
        let into = asked_into(&volume, &place.address);
        for request in [asked("new", &place.address), into] {
            world.faults.hold_call("connect");
            let checking = async {
                world.faults.happened().await;
                assert_explained(&mut catalog, "receiving", 1).await;
                world.faults.clear();
            };
            let (done, (), ()) =
                tokio::join!(receive(&mut streams, request), place.give(&bytes), checking);
            done.unwrap();
        }
    });
    assert!(run.findings(true).is_empty());
    run.stop();
}
