//! Uploads from which the bucket is out of reach, or whose snapshot is void.

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use crate::{
    lab::{self, Run},
    world::{World, filled_volume},
};

#[test]
fn a_bucket_out_of_reach_hides_nothing_and_stops_no_cut() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "one", "offsite");
        lab::ready_snapshot(&mut client, &request).await.unwrap();
        world.stores.set_out_of_reach(true);
        let listed = lab::list(&mut client).await;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].cloud(), api::CopyState::Unknown);
        assert!(!listed[0].ready);
        let request = lab::snapshot_of(&volume, "two", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        assert!(cut.cut_at.is_some() && !cut.ready);
        // All attempts are used up while nobody answers: then it is an error, once.
        let failed = lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap_err();
        assert_eq!(failed.code(), Code::Unavailable);
        world.stores.set_out_of_reach(false);
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(ready.snapshot_id, cut.snapshot_id);
        assert_eq!(ready.cut_at, cut.cut_at);
        assert_eq!(
            lab::list(&mut client)
                .await
                .iter()
                .filter(|s| s.ready)
                .count(),
            2
        );
    });
    run.stop();
}

#[test]
fn an_upload_outlasts_a_bucket_that_is_long_out_of_reach() {
    let world = World::new();
    let mut config = world.config();
    config.transfers.give_up_after_seconds = 24 * 60 * 60;
    let run = Run::start(config, world.parts());
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        // The repository is there, and known.
        let request = lab::snapshot_of(&volume, "one", "offsite");
        lab::ready_snapshot(&mut client, &request).await.unwrap();
        world.stores.set_out_of_reach(true);
        let request = lab::snapshot_of(&volume, "two", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        // Each attempt ends with the first request that finds nobody.
        while world.stores.unanswered() < 100 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        world.stores.set_out_of_reach(false);
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(ready.snapshot_id, cut.snapshot_id);
        assert_eq!(ready.cloud(), api::CopyState::Present);
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn a_void_snapshot_is_never_uploaded() {
    // Void from the start, and while it is read.
    for checks in [0, 1] {
        let world = World::new();
        let run = world.start();
        let mut client = run.client();
        run.block_on(async {
            let volume = filled_volume(&world, &mut client).await.volume_id;
            world.storage.void_snapshots_after(checks);
            let request = lab::snapshot_of(&volume, "s", "offsite");
            let refused = lab::ready_snapshot(&mut client, &request).await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert!(refused.message().contains("is void"), "{refused}");
            let listed = lab::list(&mut client).await;
            assert!(listed.iter().all(|snapshot| !snapshot.ready), "{listed:?}");
        });
        world.assert_tidy("after a void snapshot");
        let (keys, _) = world.stores.content();
        let committed = keys.iter().filter(|key| key.contains("/snapshots/"));
        assert_eq!(committed.count(), 0, "{keys:?}");
        run.stop();
    }
}
