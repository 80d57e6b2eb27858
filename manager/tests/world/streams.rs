//! Snapshots sent to somebody, and volumes received from there: whole, damaged, given up, and killed at each call.

mod beside;
mod into;
mod killed;
mod refused;
mod whole;

use std::net::TcpListener as Listener;

use stockpot_manager::config::StreamsConfig;
use stockpot_proto::stockpot::v1::{self as api, StreamStatus};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::Status;

use crate::{
    lab::{self, Client, Run, Streams},
    world::{SIZE, World, filled_volume},
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

/// A manager that may stream to a place.
fn begin() -> (World, Place, Run) {
    let (world, place) = (World::new(), Place::new());
    let run = start(&world, &place);
    (world, place, run)
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

/// For a volume that is there.
fn asked_into(volume: &str, from: &str) -> api::ReceiveVolumeRequest {
    api::ReceiveVolumeRequest {
        into_volume_id: volume.to_owned(),
        ..asked("", from)
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

/// The ids of a volume with content and of a snapshot of it.
async fn cut(world: &World, client: &mut Client) -> (String, String) {
    let volume = filled_volume(world, client).await.volume_id;
    let snapshot = lab::cut(client, &lab::snapshot_of(&volume, "s", "")).await;
    (volume, snapshot.snapshot_id)
}

/// The stream of a volume with content, and the ids of both.
async fn sent(
    world: &World,
    (client, streams): (&mut Client, &mut Streams),
    place: &Place,
) -> (Vec<u8>, String, String) {
    let (volume, snapshot) = cut(world, client).await;
    let (bytes, done) = tokio::join!(place.take(), send(streams, &snapshot, &place.address));
    assert_eq!(done.unwrap().bytes_done, SIZE);
    (bytes, volume, snapshot)
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

/// The id of another volume, with content of its own.
async fn volume_there(world: &World, client: &mut Client, size_bytes: u64) -> String {
    let request = lab::empty_volume("there", size_bytes);
    let there = lab::available_volume(client, &request).await.unwrap();
    write_old(world, &there.volume_id);
    there.volume_id
}

/// What is filled beside a volume that is there.
async fn spare(client: &mut Client) -> api::Volume {
    let volumes = lab::volumes(client).await;
    let spare = volumes
        .into_iter()
        .find(|volume| volume.name.starts_with("str"));
    spare.unwrap()
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
