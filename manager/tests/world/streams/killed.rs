//! Managers killed at each call of a stream.

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, StreamStatus, VolumeStatus};

use super::{asked, begin, cut, has_old, receive, send, sent, settled, start, volume_there};
use crate::{
    lab,
    world::{SIZE, at_each_call},
};

/// Killed at the `number`-th call while a volume that is there is filled. `None` when that makes fewer calls.
fn killed_at(number: u64, fault: Fault, into_existing: bool) -> Option<&'static str> {
    let (world, place, run) = begin();
    let (mut client, mut streams) = (run.client(), run.streams());
    let (bytes, there) = run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let there = volume_there(&world, &mut client, SIZE).await;
        (bytes, there)
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
        at_each_call([Fault::Hang, Fault::DoneThenHang], |number, fault| {
            killed_at(number, fault, into_existing)
        });
    }
}

#[test]
fn a_sending_that_is_killed_has_failed() {
    for number in 1.. {
        let (world, place, run) = begin();
        let (mut client, mut streams) = (run.client(), run.streams());
        let snapshot = run.block_on(async {
            let (_, snapshot) = cut(&world, &mut client).await;
            snapshot
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
