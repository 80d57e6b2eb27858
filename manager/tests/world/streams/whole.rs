//! What was sent comes back as it was.

use stockpot_proto::stockpot::v1::{self as api, StreamStatus};
use tonic::Code;

use super::{asked, begin, listed, receive, sent};
use crate::{lab, world::SIZE};

#[test]
fn what_is_sent_comes_back_as_it_was() {
    let (world, place, run) = begin();
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
    let (world, place, run) = begin();
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
