//! Uploads and restores that are cancelled, refused, or lose their manager, on a real thin pool.

use std::time::{Duration, Instant};

use stockpot_proto::stockpot::v1 as api;
use stockpot_test_fixtures::s3::{Action, Fault, FaultId, Op};
use tonic::Code;

use super::{
    BUCKET, Kind, World, assert_holds, attach, content, delete_all, detach, filled_volume,
    run_async, snapshot,
};
use crate::lab::{self, Client, PATIENCE, Run};

/// From now on the server takes this many parts of packs, and answers to none after them until [`answer_again`].
pub(super) fn answer_no_parts(world: &World, after: u64) -> FaultId {
    let silent = Fault::new(Action::Hang).on(Op::UploadPart).key("packs/");
    world.server.faults().inject(silent.after(after))
}

/// What was not answered is asked again, and everything is done.
pub(super) fn answer_again(world: &World) {
    world.server.faults().clear();
    world.server.restart().unwrap();
}

/// Waits until a request has come that is not answered.
pub(super) async fn until_silent(world: &World, silent: FaultId) {
    let deadline = Instant::now() + PATIENCE;
    while world.server.faults().fired(silent) == 0 {
        assert!(Instant::now() < deadline, "nobody asks for it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the upload of a snapshot waits for an answer, and tells how far it is.
pub(super) async fn until_sending(world: &World, silent: FaultId, client: &mut Client, id: &str) {
    until_silent(world, silent).await;
    let found = snapshot(client, id).await;
    assert_eq!(found.cloud(), api::CopyState::Pending, "{found:?}");
    assert!(found.progress.unwrap().bytes_done > 0);
}

/// A restore is not answered its second read of a pack.
fn silent_restore(world: &World) -> FaultId {
    let silent = Fault::new(Action::Hang).on(Op::GetObject).key("/packs/");
    world.server.faults().inject(silent.after(1))
}

#[test]
fn a_deletion_cancels_the_upload() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let silent = answer_no_parts(&world, 2);
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let cut = client.create_snapshot(request).await.unwrap().into_inner();
        let id = cut.snapshot_id;
        until_sending(&world, silent, &mut client, &id).await;
        let refused = lab::drop_local_copy(&mut client, &id).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        lab::delete_snapshot(&mut client, &id).await.unwrap();
        world.assert_tidy("after the deletion");
        assert!(lab::list(&mut client).await.is_empty());
        world.server.faults().clear();
        // The id is decided: a tombstone is there and no intent.
        let decided = world.server.keys_with_prefix(BUCKET, "site/snapshots/");
        assert_eq!(decided.len(), 1);
        assert!(
            world
                .server
                .keys_with_prefix(BUCKET, "site/intents/")
                .is_empty()
        );
        lab::delete_volume(&mut client, &volume).await.unwrap();
    });
    run.stop();
    world.close();
}

#[test]
fn a_refused_upload_is_told_once_and_tried_again() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        world.server.faults().inject(
            Fault::new(Action::access_denied())
                .on(Op::UploadPart)
                .key("packs/"),
        );
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        let refused = lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        world.assert_tidy("after the failure");
        world.server.faults().clear();
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(ready.snapshot_id, cut.snapshot_id);

        // The same for a restore: its volume is gone when the error is told.
        world
            .server
            .faults()
            .inject(Fault::new(Action::access_denied()).key("packs/"));
        let request = lab::volume_from("back", &ready.snapshot_id, api::SourceCopy::Cloud);
        let refused = lab::available_volume(&mut client, &request)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        world.assert_tidy("after the failed restore");
        world.server.faults().clear();
        let back = lab::available_volume(&mut client, &request).await.unwrap();
        assert_holds(&mut client, &back.volume_id, &content(1)).await;

        let volumes = [back.volume_id.as_str(), &volume];
        delete_all(&mut client, volumes, &ready.snapshot_id).await;
    });
    run.stop();
    world.close();
}

/// A volume group that is away for a moment is no reason to believe that nothing is attached, or that a source is gone.
#[test]
fn a_volume_group_that_is_away() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let mut client = run.client();
    let vg = world.volume_group().to_owned();
    let away = format!("{vg}-away");
    run.block_on(async {
        let request = lab::empty_volume("v", super::SIZE);
        let volume = lab::available_volume(&mut client, &request).await.unwrap();
        let id = volume.volume_id;
        attach(&mut client, &id).await;
        let cut = lab::cut(&mut client, &lab::snapshot_of(&id, "s", "")).await;

        run_async("vgrename", &[&vg, &away]).await;
        let request = api::DetachVolumeRequest {
            volume_id: id.clone(),
        };
        let refused = client.detach_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal, "{refused}");
        assert!(refused.message().contains(&vg), "{refused}");
        let copy = lab::volume_from("copy", &cut.snapshot_id, api::SourceCopy::Local);
        let refused = client.create_volume(copy).await.unwrap_err();
        assert_eq!(refused.code(), Code::Internal, "{refused}");
        run_async("vgrename", &[&away, &vg]).await;

        detach(&mut client, &id).await;
        lab::delete_snapshot(&mut client, &cut.snapshot_id)
            .await
            .unwrap();
        lab::delete_volume(&mut client, &id).await.unwrap();
    });
    run.stop();
    world.close();
}

fn end(world: &World, run: Run, kill: bool) {
    if kill {
        run.kill();
    } else {
        run.stop();
        world.assert_tidy("after the stop");
    }
    world.server.faults().clear();
}

/// Stopped in good order, or killed, in the middle of an upload and of a restore: the next start finishes both.
fn restarted(kill: bool) {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let mut client = run.client();
    let (volume, request) = run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let silent = answer_no_parts(&world, 2);
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        until_sending(&world, silent, &mut client, &cut.snapshot_id).await;
        (volume, request)
    });
    drop(client);
    end(&world, run, kill);
    let run = world.start();
    let mut client = run.client();
    let back = run.block_on(async {
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        let silent = silent_restore(&world);
        let request = lab::volume_from("back", &ready.snapshot_id, api::SourceCopy::Cloud);
        let begun = client
            .create_volume(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(begun.status(), api::VolumeStatus::Restoring);
        until_silent(&world, silent).await;
        request
    });
    drop(client);
    end(&world, run, kill);
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume_back = lab::available_volume(&mut client, &back).await.unwrap();
        assert_holds(&mut client, &volume_back.volume_id, &content(1)).await;
        for id in [&volume_back.volume_id, &volume] {
            lab::delete_volume(&mut client, id).await.unwrap();
        }
        for snapshot in lab::list(&mut client).await {
            lab::delete_snapshot(&mut client, &snapshot.snapshot_id)
                .await
                .unwrap();
        }
    });
    run.stop();
    world.close();
}

#[test]
fn stopped_in_the_middle() {
    restarted(false);
}

#[test]
fn killed_in_the_middle() {
    restarted(true);
}

#[test]
fn a_deletion_cancels_the_restore() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        let silent = silent_restore(&world);
        let request = lab::volume_from("back", &ready.snapshot_id, api::SourceCopy::Cloud);
        let begun = client.create_volume(request).await.unwrap().into_inner();
        until_silent(&world, silent).await;
        // Neither does the snapshot's deletion wait for the restore, nor the volume's.
        lab::delete_snapshot(&mut client, &ready.snapshot_id)
            .await
            .unwrap();
        lab::delete_volume(&mut client, &begun.volume_id)
            .await
            .unwrap();
        world.assert_tidy("after the deletion");
        world.server.faults().clear();
        lab::delete_volume(&mut client, &volume).await.unwrap();
        let volumes = client
            .list_volumes(api::ListVolumesRequest::default())
            .await
            .unwrap();
        assert!(volumes.into_inner().volumes.is_empty());
    });
    run.stop();
    world.close();
}

#[test]
fn the_volume_may_go_while_its_snapshot_is_uploaded() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let silent = answer_no_parts(&world, 2);
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        until_sending(&world, silent, &mut client, &cut.snapshot_id).await;
        lab::delete_volume(&mut client, &volume).await.unwrap();
        answer_again(&world);
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        let request = lab::volume_from("back", &ready.snapshot_id, api::SourceCopy::Cloud);
        let back = lab::available_volume(&mut client, &request)
            .await
            .unwrap()
            .volume_id;
        assert_holds(&mut client, &back, &content(1)).await;
        lab::delete_volume(&mut client, &back).await.unwrap();
        lab::delete_snapshot(&mut client, &ready.snapshot_id)
            .await
            .unwrap();
    });
    run.stop();
    world.close();
}
