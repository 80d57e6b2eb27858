//! What is not allowed, not there or damaged leaves nothing.

use stockpot_proto::stockpot::v1::StreamStatus;
use tonic::Code;

use super::{asked, asked_into, begin, cut, listed, receive, send, sent};
use crate::{lab, world::SIZE};

#[test]
fn what_is_not_allowed_or_not_there_is_refused() {
    let (world, place, run) = begin();
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let (volume, snapshot) = cut(&world, &mut client).await;
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
        let into = asked_into(&volume, &place.address);
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
    let (world, place, run) = begin();
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
