//! A snapshot to whoever listens, and back: as a new volume, and into one that is there, on real storage.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use stockpot_manager::Parts;
use stockpot_proto::stockpot::v1 as api;

use super::{Kind, SIZE, World, assert_holds, content, filled_volume};
use crate::lab::{self, Run};

#[test]
fn there_and_back_on_lvm_thin() {
    there_and_back(Kind::LvmThin);
}

#[test]
fn there_and_back_on_lvm_thick() {
    there_and_back(Kind::LvmThick);
}

#[test]
fn there_and_back_on_image_files() {
    there_and_back(Kind::File);
}

/// Gives bytes to whoever connects next.
fn give(listener: &TcpListener, bytes: &[u8]) -> thread::JoinHandle<()> {
    let (listener, bytes) = (listener.try_clone().unwrap(), bytes.to_vec());
    thread::spawn(move || listener.accept().unwrap().0.write_all(&bytes).unwrap())
}

async fn end(mut stream: tonic::Streaming<api::StreamProgress>) -> api::StreamProgress {
    let mut last = None;
    while let Some(progress) = stream.message().await.unwrap() {
        last = Some(progress);
    }
    last.unwrap()
}

#[expect(clippy::too_many_lines, reason = "one story")]
fn there_and_back(kind: Kind) {
    let world = World::new(kind);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut config = world.config();
    config.streams.allowed_destinations = vec![address.parse().unwrap()];
    config.streams.linger_seconds = 0;
    let parts = Parts::new(&config).unwrap();
    let run = Run::start(config, parts);
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let image = content(1);
        let source = filled_volume(&mut client, &image).await.volume_id;
        let snapshot = lab::cut(&mut client, &lab::snapshot_of(&source, "s", "")).await;
        let snapshot = snapshot.snapshot_id;
        let taking = {
            let listener = listener.try_clone().unwrap();
            thread::spawn(move || {
                let mut bytes = Vec::new();
                listener
                    .accept()
                    .unwrap()
                    .0
                    .read_to_end(&mut bytes)
                    .unwrap();
                bytes
            })
        };
        let request = api::SendSnapshotRequest {
            snapshot_id: snapshot.clone(),
            destination: address.clone(),
            metadata: Default::default(),
        };
        let sent = streams.send_snapshot(request).await.unwrap().into_inner();
        assert_eq!(end(sent).await.bytes_done, SIZE);
        let bytes = taking.join().unwrap();
        assert!((bytes.len() as u64) < SIZE / 2, "{} bytes", bytes.len());
        lab::delete_snapshot(&mut client, &snapshot).await.unwrap();
        world.assert_tidy("after sending");

        let giving = give(&listener, &bytes);
        let request = api::ReceiveVolumeRequest {
            name: "new".to_owned(),
            source: address.clone(),
            ..Default::default()
        };
        let received = streams.receive_volume(request).await.unwrap().into_inner();
        let new = end(received).await.volume_id;
        giving.join().unwrap();
        assert_holds(&mut client, &new, &image).await;

        // What the volume has is gone to the last byte.
        let other = lab::empty_volume("other", SIZE + (16 << 20));
        let other = lab::available_volume(&mut client, &other).await.unwrap();
        let other = other.volume_id;
        let path = super::attach(&mut client, &other).await;
        let mut device = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        device.write_all(&vec![9; 100 << 20]).unwrap();
        device.sync_all().unwrap();
        drop(device);
        super::detach(&mut client, &other).await;
        let giving = give(&listener, &bytes);
        let request = api::ReceiveVolumeRequest {
            source: address.clone(),
            into_volume_id: other.clone(),
            ..Default::default()
        };
        let received = streams.receive_volume(request).await.unwrap().into_inner();
        end(received).await;
        giving.join().unwrap();
        assert_holds(&mut client, &other, &image).await;
        for volume in [source, new, other] {
            lab::delete_volume(&mut client, &volume).await.unwrap();
        }
    });
    run.stop();
    world.close();
}
