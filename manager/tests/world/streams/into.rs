//! Streams into volumes that are there: such a volume has what it had until all has come.

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, StreamStatus, VolumeStatus};
use tonic::Code;

use super::{asked_into, begin, has_old, receive, sent, settled, spare, start, volume_there};
use crate::{
    lab,
    world::{SIZE, consistency::assert_explained},
};

#[test]
fn a_volume_keeps_what_it_has_until_all_is_there() {
    let (world, place, run) = begin();
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let there = volume_there(&world, &mut client, SIZE).await;
        let into = asked_into(&there, &place.address);
        let (refused, ()) = tokio::join!(
            receive(&mut streams, into.clone()),
            place.give(&bytes[..bytes.len() - 9])
        );
        assert_eq!(refused.unwrap_err().code(), Code::DataLoss);
        assert!(has_old(&world, &there));
        assert_eq!(world.storage.leftovers().volumes.len(), 2);
        // As often as somebody likes.
        for _ in 0..2 {
            let (done, ()) = tokio::join!(receive(&mut streams, into.clone()), place.give(&bytes));
            assert_eq!(done.unwrap().volume_id, there);
            world.assert_content(&there);
        }
        assert_eq!(world.storage.leftovers().volumes.len(), 2);
    });
    run.stop();
    world.assert_tidy("at the end");
}

/// A call into an existing volume of which one step fails, whatever it has done; `None` when that makes fewer calls.
fn failed_at(number: u64) -> Option<&'static str> {
    let (world, place, run) = begin();
    let (mut client, mut streams) = (run.client(), run.streams());
    let name = run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let there = volume_there(&world, &mut client, SIZE).await;
        let into = asked_into(&there, &place.address);
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
            Ok(_) => world.assert_content(&there),
            Err(error) => assert!(has_old(&world, &there), "{when}: {error}"),
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
    let (world, place, run) = begin();
    let (mut client, mut streams) = (run.client(), run.streams());
    let mut catalog = run.catalog();
    run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let there = volume_there(&world, &mut client, 2 * SIZE).await;
        let into = asked_into(&there, &place.address);
        // The old content goes when all has come.
        world.faults.hold_call("replace_volume");
        let asking = async {
            world.faults.happened().await;
            let volume_id = there.clone();
            let now = client.get_volume(api::GetVolumeRequest { volume_id });
            let now = now.await.unwrap().into_inner();
            assert_eq!(now.status(), VolumeStatus::Restoring);
            assert_explained(&mut catalog, "replacing", 0).await;
            let volume_id = spare(&mut client).await.volume_id;
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
        world.assert_content(&there);
        let volumes = lab::volumes(&mut client).await;
        let now = volumes.iter().find(|v| v.volume_id == there);
        assert_eq!(now.unwrap().size_bytes, 2 * SIZE);
    });
    run.stop();
    world.assert_tidy("at the end");
}

/// Somebody has the volume open when all has come: it keeps what it has, and is told why.
#[test]
fn a_storage_that_refuses_loses_nothing() {
    for is_killed in [false, true] {
        let (world, place, run) = begin();
        let (mut client, mut streams) = (run.client(), run.streams());
        let (there, spare) = run.block_on(async {
            let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
            let there = volume_there(&world, &mut client, 2 * SIZE).await;
            let into = asked_into(&there, &place.address);
            world.faults.hold_call("replace_volume");
            let receiving = {
                let mut streams = streams.clone();
                tokio::spawn(async move { receive(&mut streams, into).await })
            };
            place.give(&bytes).await;
            world.faults.happened().await;
            world.storage.hold_device(&there.parse().unwrap(), true);
            let spare = spare(&mut client).await;
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
    let (world, place, run) = begin();
    let (mut client, mut streams) = (run.client(), run.streams());
    run.block_on(async {
        let (bytes, ..) = sent(&world, (&mut client, &mut streams), &place).await;
        let there = volume_there(&world, &mut client, SIZE).await;
        let into = asked_into(&there, &place.address);
        world.faults.hold_call("replace_volume");
        let losing = async {
            world.faults.happened().await;
            world.storage.lose_volume(&there.parse().unwrap());
            world.faults.clear();
        };
        let (done, (), ()) = tokio::join!(receive(&mut streams, into), place.give(&bytes), losing);
        let refused = done.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
        let spare = spare(&mut client).await.volume_id;
        assert!(refused.message().contains(&spare), "{refused}");
        world.assert_content(&spare);
        // It is a volume like any other from here on.
        lab::delete_volume(&mut client, &spare).await.unwrap();
        lab::delete_volume(&mut client, &there).await.unwrap();
    });
    run.stop();
    world.assert_tidy("at the end");
}
