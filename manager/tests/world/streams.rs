//! Snapshots sent to somebody, and volumes received from there: whole, damaged, given up, and killed at each call.

use std::net::TcpListener as Listener;

use stockpot_manager::{config::StreamsConfig, fakes::Fault};
use stockpot_proto::stockpot::v1::{self as api, StreamStatus, VolumeStatus};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{Code, Status};

use crate::{
    lab::{self, Client, Run, Streams},
    world::{SIZE, World, consistency::assert_explained, filled_volume},
};

/// Somebody who waits at an address.
struct Place {
    listener: Listener,
    address: String,
}

impl Place {
    fn new() -> Self {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    fn listen(&self) -> TcpListener {
        TcpListener::from_std(self.listener.try_clone().unwrap()).unwrap()
    }

    /// Everything that one connection sends.
    async fn take(&self) -> Vec<u8> {
        let (mut stream, _) = self.listen().accept().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    /// Gives these to one connection, and closes.
    async fn give(&self, bytes: &[u8]) {
        let (mut stream, _) = self.listen().accept().await.unwrap();
        // Whoever has seen enough closes before the end.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
    }
}

fn start(world: &World, place: &Place) -> Run {
    let quick = StreamsConfig {
        connect_within_seconds: 3,
        silent_seconds_max: 3,
        linger_seconds: 0,
        ..StreamsConfig::default()
    };
    start_with(world, place, quick)
}

fn start_with(world: &World, place: &Place, mut streams: StreamsConfig) -> Run {
    streams.allowed_destinations = vec![place.address.parse().unwrap()];
    let mut config = world.config();
    config.streams = streams;
    Run::start(config, world.parts())
}

async fn send(
    streams: &mut Streams,
    snapshot: &str,
    to: &str,
) -> Result<api::StreamProgress, Status> {
    let request = api::SendSnapshotRequest {
        snapshot_id: snapshot.to_owned(),
        destination: to.to_owned(),
        metadata: Default::default(),
    };
    end(streams.send_snapshot(request).await?.into_inner()).await
}

fn asked(name: &str, from: &str) -> api::ReceiveVolumeRequest {
    api::ReceiveVolumeRequest {
        name: name.to_owned(),
        source: from.to_owned(),
        ..Default::default()
    }
}

async fn receive(
    streams: &mut Streams,
    request: api::ReceiveVolumeRequest,
) -> Result<api::StreamProgress, Status> {
    end(streams.receive_volume(request).await?.into_inner()).await
}

async fn end(
    mut stream: tonic::Streaming<api::StreamProgress>,
) -> Result<api::StreamProgress, Status> {
    let mut last = None;
    while let Some(progress) = stream.message().await? {
        last = Some(progress);
    }
    Ok(last.unwrap())
}

async fn listed(streams: &mut Streams) -> Vec<api::Stream> {
    let listed = streams.list_streams(api::ListStreamsRequest::default());
    listed.await.unwrap().into_inner().streams
}

/// The stream of a volume with content, and the ids of both.
async fn sent(
    world: &World,
    (client, streams): (&mut Client, &mut Streams),
    place: &Place,
) -> (Vec<u8>, String, String) {
    let volume = filled_volume(world, client).await.volume_id;
    let snapshot = lab::cut(client, &lab::snapshot_of(&volume, "s", "")).await;
    let snapshot = snapshot.snapshot_id;
    let (bytes, done) = tokio::join!(place.take(), send(streams, &snapshot, &place.address));
    assert_eq!(done.unwrap().bytes_done, SIZE);
    (bytes, volume, snapshot)
}

#[test]
fn what_is_sent_comes_back_as_it_was() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let (bytes, volume, snapshot) = sent(&world, (&mut client, &mut streams), &place).await;
        // The holes were left out.
        assert!((bytes.len() as u64) < SIZE, "{}", bytes.len());
        world.assert_tidy("after sending");
        let (made, ()) = tokio::join!(
            receive(&mut streams, asked("copy", &place.address)),
            place.give(&bytes)
        );
        let made = made.unwrap();
        assert_eq!((made.bytes_done, made.bytes_total), (SIZE, SIZE));
        world.assert_content(&made.volume_id);
        let there = lab::available_volume(&mut client, &lab::empty_volume("copy", SIZE)).await;
        assert_eq!(there.unwrap().volume_id, made.volume_id);
        let streams = listed(&mut streams).await;
        let told =
            |stream: &api::Stream| (stream.sending, stream.status(), stream.volume_id.clone());
        assert_eq!(
            streams.iter().map(told).collect::<Vec<_>>(),
            [
                (true, StreamStatus::Done, volume),
                (false, StreamStatus::Done, made.volume_id)
            ]
        );
        lab::delete_snapshot(&mut client, &snapshot).await.unwrap();
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn a_larger_volume_reads_as_zeroes_beyond() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let mut request = asked("large", &place.address);
        request.size_bytes = 2 * SIZE;
        let (made, ()) = tokio::join!(receive(&mut streams, request), place.give(&bytes));
        world.assert_content(&made.unwrap().volume_id);
        let mut request = asked("small", &place.address);
        request.size_bytes = SIZE - 4096;
        let (refused, ()) = tokio::join!(receive(&mut streams, request), place.give(&bytes));
        assert_eq!(refused.unwrap_err().code(), Code::OutOfRange);
        assert_eq!(world.storage.leftovers().volumes.len(), 2);
    });
    run.stop();
}

#[test]
fn what_is_not_allowed_or_not_there_is_refused() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let snapshot = lab::cut(&mut client, &lab::snapshot_of(&volume, "s", "")).await;
        let snapshot = snapshot.snapshot_id;
        for (to, code) in [
            ("127.0.0.1:1", Code::PermissionDenied),
            ("192.0.2.1:9000", Code::PermissionDenied),
            ("nonsense", Code::InvalidArgument),
            ("", Code::InvalidArgument),
        ] {
            let refused = send(&mut streams, &snapshot, to).await.unwrap_err();
            assert_eq!(refused.code(), code, "{to}: {refused}");
            let refused = receive(&mut streams, asked("x", to)).await.unwrap_err();
            assert_eq!(refused.code(), code, "{to}: {refused}");
        }
        for id in ["", "snap-none", "\n"] {
            let refused = send(&mut streams, id, &place.address).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound, "{id}: {refused}");
        }
        let taken = receive(&mut streams, asked("source", &place.address)).await;
        assert_eq!(taken.unwrap_err().code(), Code::AlreadyExists);
        let unnamed = receive(&mut streams, asked("", &place.address)).await;
        assert_eq!(unnamed.unwrap_err().code(), Code::InvalidArgument);
        let mut into = asked("", &place.address);
        into.into_volume_id.clone_from(&volume);
        // What it has is of the snapshot, which has to stay right.
        let refused = receive(&mut streams, into.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("snapshots"), "{refused}");
        lab::delete_snapshot(&mut client, &snapshot).await.unwrap();
        world.storage.hold_device(&volume.parse().unwrap(), true);
        let refused = receive(&mut streams, into).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("in use"), "{refused}");
        assert!(listed(&mut streams).await.is_empty());
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn damaged_streams_leave_nothing() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let (bytes, _, snapshot) = sent(&world, (&mut client, &mut streams), &place).await;
        lab::delete_snapshot(&mut client, &snapshot).await.unwrap();
        let mut flipped = bytes.clone();
        flipped[50_000] ^= 1;
        let mut more = bytes.clone();
        more.extend([0; 100]);
        let mut announced = bytes.clone();
        announced[16..24].copy_from_slice(&(SIZE + 4096).to_le_bytes());
        let cases: [(&str, &[u8], Code); 7] = [
            ("nothing", b"", Code::DataLoss),
            ("fewer", &bytes[..bytes.len() / 2], Code::DataLoss),
            ("no end", &bytes[..bytes.len() - 1], Code::DataLoss),
            ("more", &more, Code::DataLoss),
            ("flipped", &flipped, Code::DataLoss),
            ("another size", &announced, Code::DataLoss),
            ("foreign", &[7; 4000], Code::InvalidArgument),
        ];
        for (what, bytes, code) in cases {
            let (refused, ()) = tokio::join!(
                receive(&mut streams, asked("copy", &place.address)),
                place.give(bytes)
            );
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), code, "{what}: {refused}");
            let left = world.storage.leftovers();
            assert_eq!((left.volumes.len(), left.attached.len()), (1, 0), "{what}");
        }
        let failed = listed(&mut streams).await;
        assert!(
            failed.iter().all(|s| s.status() == StreamStatus::Failed),
            "{failed:?}"
        );
        assert_eq!(failed.len(), 7);
    });
    run.stop();
}

#[test]
fn a_caller_who_goes_away_and_a_deletion_end_it() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
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
        // Small as it is, all may have been sent before.
        assert!(
            ended.is_ok() || ended.as_ref().unwrap_err().code() == Code::Aborted,
            "{ended:?}"
        );
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
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
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
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "committed", "offsite");
        lab::ready_snapshot(&mut client, &request).await.unwrap();
        volume
    });
    run.stop();
    // Nothing is uploaded with another key.
    std::fs::write(&key, [8; 32]).unwrap();
    let run = start(&world, &place);
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

/// Waits until none is under way.
async fn settled(streams: &mut Streams) -> Vec<StreamStatus> {
    loop {
        let now: Vec<_> = listed(streams)
            .await
            .iter()
            .map(api::Stream::status)
            .collect();
        if !now.contains(&StreamStatus::Running) {
            return now;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// What the volume has before.
fn write_old(world: &World, volume: &str) {
    let path = world.storage.volume_file(&volume.parse().unwrap());
    std::fs::write(path, vec![5; usize::try_from(SIZE).unwrap()]).unwrap();
}

fn has_old(world: &World, volume: &str) -> bool {
    let path = world.storage.volume_file(&volume.parse().unwrap());
    std::fs::read(path)
        .is_ok_and(|bytes| bytes.len() as u64 == SIZE && bytes.iter().all(|b| *b == 5))
}

#[test]
fn a_volume_keeps_what_it_has_until_all_is_there() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let request = lab::empty_volume("there", SIZE);
        let there = lab::available_volume(&mut client, &request).await.unwrap();
        write_old(&world, &there.volume_id);
        let mut into = asked("", &place.address);
        into.into_volume_id.clone_from(&there.volume_id);
        let (refused, ()) = tokio::join!(
            receive(&mut streams, into.clone()),
            place.give(&bytes[..bytes.len() - 9])
        );
        assert_eq!(refused.unwrap_err().code(), Code::DataLoss);
        assert!(has_old(&world, &there.volume_id));
        assert_eq!(world.storage.leftovers().volumes.len(), 2);
        // As often as somebody likes.
        for _ in 0..2 {
            let (done, ()) = tokio::join!(receive(&mut streams, into.clone()), place.give(&bytes));
            assert_eq!(done.unwrap().volume_id, there.volume_id);
            world.assert_content(&there.volume_id);
        }
        assert_eq!(world.storage.leftovers().volumes.len(), 2);
    });
    run.stop();
    world.assert_tidy("at the end");
}

/// A call into an existing volume of which one step fails, whatever it has done; `None` when that makes fewer calls.
fn failed_at(number: u64) -> Option<&'static str> {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    let name = run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let request = lab::empty_volume("there", SIZE);
        let there = lab::available_volume(&mut client, &request).await.unwrap();
        write_old(&world, &there.volume_id);
        let mut into = asked("", &place.address);
        into.into_volume_id.clone_from(&there.volume_id);
        world.faults.choose(number, Fault::DoneThenFail);
        // One that fails early does not connect.
        let mut receiving = Box::pin(receive(&mut streams, into));
        let done = tokio::select! {
            done = &mut receiving => done,
            () = place.give(&bytes) => receiving.await,
        };
        let name = world.faults.clear();
        let when = format!("call {number} ({name:?})");
        match done {
            Ok(_) => world.assert_content(&there.volume_id),
            Err(error) => assert!(has_old(&world, &there.volume_id), "{when}: {error}"),
        }
        name
    });
    run.stop();
    name
}

#[test]
fn a_step_that_fails_after_it_was_done_loses_nothing() {
    let mut number = 1;
    while let Some(name) = failed_at(number) {
        eprintln!("call {number}: {name}");
        number += 1;
    }
    assert!(number > 5, "{number} calls");
}

#[test]
fn nobody_gets_at_what_is_to_replace_a_content() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    let mut catalog = run.catalog();
    run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let request = lab::empty_volume("there", 2 * SIZE);
        let there = lab::available_volume(&mut client, &request).await.unwrap();
        let mut into = asked("", &place.address);
        into.into_volume_id.clone_from(&there.volume_id);
        // The old content goes when all has come.
        world.faults.hold_call("replace_volume");
        let asking = async {
            world.faults.happened().await;
            let volume_id = there.volume_id.clone();
            let now = client.get_volume(api::GetVolumeRequest { volume_id });
            let now = now.await.unwrap().into_inner();
            assert_eq!(now.status(), VolumeStatus::Restoring);
            assert_explained(&mut catalog, "replacing", 0).await;
            let volumes = client.list_volumes(api::ListVolumesRequest::default());
            let volumes = volumes.await.unwrap().into_inner().volumes;
            let spare = volumes.iter().find(|volume| volume.name.starts_with("str"));
            let volume_id = spare.unwrap().volume_id.clone();
            let request = api::DeleteVolumeRequest {
                volume_id: volume_id.clone(),
            };
            let deleted = client.delete_volume(request).await.unwrap_err();
            let request = api::AttachVolumeRequest {
                volume_id: volume_id.clone(),
                ..Default::default()
            };
            let attached = client.attach_volume(request).await.unwrap_err();
            let request = lab::snapshot_of(&volume_id, "of-spare", "");
            let cut = client.create_snapshot(request).await.unwrap_err();
            for refused in [deleted, attached, cut] {
                assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            }
            world.faults.clear();
        };
        let (done, (), ()) = tokio::join!(receive(&mut streams, into), place.give(&bytes), asking);
        done.unwrap();
        world.assert_content(&there.volume_id);
        let volumes = lab::volumes(&mut client).await;
        let now = volumes.iter().find(|v| v.volume_id == there.volume_id);
        assert_eq!(now.unwrap().size_bytes, 2 * SIZE);
    });
    run.stop();
    world.assert_tidy("at the end");
}

/// Somebody has the volume open when all has come: it keeps what it has, and is told why.
#[test]
fn a_storage_that_refuses_loses_nothing() {
    for is_killed in [false, true] {
        let (world, place) = (World::new(), Place::new());
        let run = start(&world, &place);
        let (mut client, mut streams) = (run.client(), run.streams());
        let (there, spare) = run.block_on(async {
            let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
            let request = lab::empty_volume("there", 2 * SIZE);
            let there = lab::available_volume(&mut client, &request).await.unwrap();
            let there = there.volume_id;
            write_old(&world, &there);
            let mut into = asked("", &place.address);
            into.into_volume_id.clone_from(&there);
            world.faults.hold_call("replace_volume");
            let receiving = {
                let mut streams = streams.clone();
                tokio::spawn(async move { receive(&mut streams, into).await })
            };
            place.give(&bytes).await;
            world.faults.happened().await;
            world.storage.hold_device(&there.parse().unwrap(), true);
            let volumes = lab::volumes(&mut client).await;
            let spare = volumes.iter().find(|volume| volume.name.starts_with("str"));
            let spare = spare.unwrap().clone();
            if !is_killed {
                world.faults.clear();
                let refused = receiving.await.unwrap().unwrap_err();
                assert!(refused.message().contains("mounted"), "{refused}");
            }
            (there, spare)
        });
        // As large as what it was for, though less had come.
        assert_eq!(spare.size_bytes, 2 * SIZE);
        drop((client, streams));
        let run = match is_killed {
            true => {
                run.kill();
                world.faults.clear();
                start(&world, &place)
            }
            false => run,
        };
        let (mut client, mut streams) = (run.client(), run.streams());
        run.block_on(async {
            let ended = settled(&mut streams).await;
            assert_eq!(ended, [StreamStatus::Done, StreamStatus::Failed]);
            assert!(has_old(&world, &there), "killed: {is_killed}");
            let volumes = lab::volumes(&mut client).await;
            assert!(
                volumes
                    .iter()
                    .all(|volume| volume.volume_id != spare.volume_id)
            );
            let now = volumes.iter().find(|volume| volume.volume_id == there);
            assert_eq!(now.unwrap().status(), VolumeStatus::Available);
        });
        assert_eq!(world.storage.leftovers().volumes.len(), 2);
        run.stop();
        world.assert_tidy("at the end");
    }
}

/// What is received is the only copy when the volume itself is lost.
#[test]
fn what_was_received_for_a_volume_that_is_lost_stays() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let request = lab::empty_volume("there", SIZE);
        let there = lab::available_volume(&mut client, &request).await.unwrap();
        let mut into = asked("", &place.address);
        into.into_volume_id.clone_from(&there.volume_id);
        world.faults.hold_call("replace_volume");
        let losing = async {
            world.faults.happened().await;
            world.storage.lose_volume(&there.volume_id.parse().unwrap());
            world.faults.clear();
        };
        let (done, (), ()) = tokio::join!(receive(&mut streams, into), place.give(&bytes), losing);
        let refused = done.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
        let volumes = lab::volumes(&mut client).await;
        let spare = volumes.iter().find(|volume| volume.name.starts_with("str"));
        let spare = spare.unwrap().volume_id.clone();
        assert!(refused.message().contains(&spare), "{refused}");
        world.assert_content(&spare);
        // It is a volume like any other from here on.
        lab::delete_volume(&mut client, &spare).await.unwrap();
        lab::delete_volume(&mut client, &there.volume_id)
            .await
            .unwrap();
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn a_check_of_the_catalog_knows_what_a_stream_has_attached() {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
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
        let mut into = asked("", &place.address);
        into.into_volume_id = volume;
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

/// Killed at the `number`-th call while a volume that is there is filled. `None` when that makes fewer calls.
fn killed_at(number: u64, fault: Fault, into_existing: bool) -> Option<&'static str> {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    let (bytes, there) = run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let request = lab::empty_volume("there", SIZE);
        let there = lab::available_volume(&mut client, &request).await.unwrap();
        write_old(&world, &there.volume_id);
        (bytes, there.volume_id)
    });
    let mut request = asked("new", &place.address);
    if into_existing {
        request.into_volume_id.clone_from(&there);
    }
    world.faults.choose(number, fault);
    let name = run.block_on(async {
        let giving = place.give(&bytes);
        let working = async { tokio::join!(receive(&mut streams, request), giving) };
        tokio::select! {
            (done, ()) = working => { done.unwrap(); None }
            name = world.faults.happened() => Some(name),
        }
    });
    drop((client, streams));
    run.kill();
    world.faults.clear();
    let run = start(&world, &place);
    let (mut client, mut streams) = (run.client(), run.streams());
    let when = format!("killed at call {number} ({name:?}): {fault:?}, into {into_existing}");
    run.block_on(async {
        let now = settled(&mut streams).await;
        let left = world.storage.leftovers();
        assert!(left.attached.is_empty(), "{when}: {left:?}");
        // The first is the one that was sent; killed early, there is no other.
        let is_done = now[1..] == [StreamStatus::Done];
        match (into_existing, is_done) {
            (true, true) => world.assert_content(&there),
            _ => assert!(has_old(&world, &there), "{when}"),
        }
        let volumes = client
            .list_volumes(api::ListVolumesRequest::default())
            .await;
        let volumes = volumes.unwrap().into_inner().volumes;
        // A new volume is there if its stream is done, and only then.
        let expected = if is_done && !into_existing { 3 } else { 2 };
        assert_eq!(volumes.len(), expected, "{when}: {volumes:?}");
        assert_eq!(volumes.len(), left.volumes.len(), "{when}: {volumes:?}");
        assert!(
            volumes
                .iter()
                .all(|volume| volume.status() == VolumeStatus::Available),
            "{when}: {volumes:?}"
        );
        for volume in volumes.iter().filter(|volume| volume.name == "new") {
            world.assert_content(&volume.volume_id);
        }
        assert_eq!(lab::list(&mut client).await.len(), 1, "{when}");
    });
    run.stop();
    name
}

#[test]
fn killed_at_each_call() {
    for into_existing in [false, true] {
        for fault in [Fault::Hang, Fault::DoneThenHang] {
            let mut number = 1;
            while let Some(name) = killed_at(number, fault, into_existing) {
                eprintln!("call {number}: {name}: {fault:?}, into {into_existing}");
                number += 1;
            }
            assert!(number > 5, "{number} calls");
        }
    }
}

#[test]
fn a_sending_that_is_killed_has_failed() {
    for number in 1.. {
        let (world, place) = (World::new(), Place::new());
        let run = start(&world, &place);
        let (mut client, mut streams) = (run.client(), run.streams());
        let snapshot = run.block_on(async {
            let volume = filled_volume(&world, &mut client).await.volume_id;
            let snapshot = lab::cut(&mut client, &lab::snapshot_of(&volume, "s", "")).await;
            snapshot.snapshot_id
        });
        world.faults.choose(number, Fault::DoneThenHang);
        let name = run.block_on(async {
            let working =
                async { tokio::join!(send(&mut streams, &snapshot, &place.address), place.take()) };
            tokio::select! {
                (done, _) = working => { done.unwrap(); None }
                name = world.faults.happened() => Some(name),
            }
        });
        drop((client, streams));
        run.kill();
        world.faults.clear();
        let run = start(&world, &place);
        let mut streams = run.streams();
        run.block_on(async {
            let expected = match name {
                Some(_) => StreamStatus::Failed,
                None => StreamStatus::Done,
            };
            assert_eq!(settled(&mut streams).await, [expected], "{name:?}");
            world.assert_tidy("after the next start");
            // The snapshot is there, and can be sent.
            let (done, _) =
                tokio::join!(send(&mut streams, &snapshot, &place.address), place.take());
            done.unwrap();
        });
        run.stop();
        if name.is_none() {
            assert!(number > 3);
            return;
        }
    }
}
