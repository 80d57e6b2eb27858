//! Deletions whose repository cannot be asked, and what is told of uploads and buckets.

use std::fs;

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use crate::lab::{self, Client};
use crate::world::{World, filled_volume};

const ULID: &str = "01k0abcdefghjkmnpqrstvwxyz";

#[test]
fn a_snapshot_that_nothing_knows() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let elsewhere = format!("snap-0123abcd-{ULID}");
        let refused = lab::delete_snapshot(&mut client, &elsewhere).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let says = "no profile leads to repository 0123abcd";
        assert!(refused.message().contains(says), "{refused}");
        lab::drop_local_copy(&mut client, &elsewhere).await.unwrap();
        for id in [&format!("snap-{ULID}"), "snap-unknown", "No Id/At all", ""] {
            lab::delete_snapshot(&mut client, id).await.unwrap();
        }
    });
    run.stop();
}

#[test]
fn a_failed_upload_does_not_need_its_repository_to_be_deleted() {
    let world = World::new();
    let key = world.dir.path().join("key");
    fs::write(&key, [7; 32]).unwrap();
    let topology = format!(
        "{{bucket: backups, prefix: a, key: {{file: {}}}}}",
        key.display()
    );
    lab::write_profile(world.dir.path(), "offsite", &topology);
    let run = world.start();
    let mut client = run.client();
    let (volume, committed) = run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "committed", "offsite");
        let committed = lab::ready_snapshot(&mut client, &request).await.unwrap();
        (volume, committed.snapshot_id)
    });
    run.stop();
    fs::write(&key, [8; 32]).unwrap();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let local = failed(&mut client, &volume, "local").await;
        let both = failed(&mut client, &volume, "both").await;
        let gone = failed(&mut client, &volume, "gone").await;
        for _ in 0..2 {
            lab::drop_local_copy(&mut client, &local).await.unwrap();
            lab::delete_snapshot(&mut client, &both).await.unwrap();
        }
        lab::delete_snapshot(&mut client, &local).await.unwrap();
        // What is committed stays until its repository can be told; its local copy needs nobody.
        let refused = lab::delete_snapshot(&mut client, &committed).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
        lab::drop_local_copy(&mut client, &committed).await.unwrap();
        let refused = lab::delete_snapshot(&mut client, &committed).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);

        // While the bucket does not answer nobody knows whether its key is wrong.
        world.stores.set_out_of_reach(true);
        let refused = lab::delete_snapshot(&mut client, &gone).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
        lab::drop_local_copy(&mut client, &gone).await.unwrap();
        assert!(world.storage.leftovers().snapshots.is_empty());
        world.stores.set_out_of_reach(false);
        let profile = world.dir.path().join("profiles/offsite.yaml");
        fs::remove_file(&profile).unwrap();
        for _ in 0..2 {
            lab::delete_snapshot(&mut client, &gone).await.unwrap();
        }
        let left: Vec<_> = lab::list(&mut client).await;
        assert_eq!(left.len(), 1, "{left:?}");

        lab::write_profile(world.dir.path(), "offsite", &topology);
        fs::write(&key, [7; 32]).unwrap();
        lab::delete_snapshot(&mut client, &committed).await.unwrap();
        assert!(lab::list(&mut client).await.is_empty());
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn a_snapshot_of_which_nothing_was_sent_needs_no_repository_to_be_deleted() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "committed", "offsite");
        let committed = lab::ready_snapshot(&mut client, &request).await.unwrap();
        // Whose upload fails, the row with its local copy stays.
        let failed = async |client: &mut Client, name: &str| {
            let request = lab::snapshot_of(&volume, name, "offsite");
            let id = lab::cut(client, &request).await.snapshot_id;
            lab::ready_snapshot(client, &request).await.unwrap_err();
            id
        };
        world.stores.set_refusing(true);
        let unsent = failed(&mut client, "unsent").await;
        for _ in 0..2 {
            lab::delete_snapshot(&mut client, &unsent).await.unwrap();
        }
        let refused = lab::delete_snapshot(&mut client, &committed.snapshot_id).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
        // Of this one something may be there: its repository has to be told.
        world.stores.set_refusing(false);
        world.faults.break_call("put");
        let begun = failed(&mut client, "begun").await;
        world.stores.set_refusing(true);
        let refused = lab::delete_snapshot(&mut client, &begun).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
        world.stores.set_refusing(false);
        world.faults.break_call("nothing");
        for id in [&begun, &committed.snapshot_id] {
            lab::delete_snapshot(&mut client, id).await.unwrap();
        }
        assert!(lab::list(&mut client).await.is_empty());
        assert!(world.storage.leftovers().snapshots.is_empty());
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn what_an_upload_sent_is_told_afterwards() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let id = run.block_on(async {
        let volume = filled_volume(&world, &mut client).await;
        let request = lab::snapshot_of(&volume.volume_id, "s", "offsite");
        let id = lab::cut(&mut client, &request).await.snapshot_id;
        let request = api::GetSnapshotRequest {
            snapshot_id: id.clone(),
        };
        let mut told = client.watch_snapshot(request).await.unwrap().into_inner();
        let mut last = None;
        while let Some(snapshot) = told.message().await.unwrap() {
            last = Some(snapshot);
        }
        let last = last.unwrap();
        assert!(last.ready);
        assert_final(last.progress.as_ref(), volume.size_bytes);
        id
    });
    run.stop();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let request = api::GetSnapshotRequest { snapshot_id: id };
        let found = client.get_snapshot(request).await.unwrap().into_inner();
        assert_final(found.progress.as_ref(), found.size_bytes);
    });
    run.stop();
}

#[test]
fn a_list_says_which_bucket_is_missing_from_it() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "s", "offsite");
        lab::ready_snapshot(&mut client, &request).await.unwrap();
    });
    run.stop();
    world.forget_catalog();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        world.stores.set_out_of_reach(true);
        let request = api::ListSnapshotsRequest::default();
        let listed = client.list_snapshots(request.clone()).await.unwrap();
        let listed = listed.into_inner();
        assert!(listed.snapshots.is_empty());
        assert_eq!(listed.warnings.len(), 1);
        assert!(listed.warnings[0].contains("profile offsite"), "{listed:?}");
        world.stores.set_out_of_reach(false);
        let listed = client.list_snapshots(request).await.unwrap().into_inner();
        assert_eq!((listed.snapshots.len(), listed.warnings.len()), (1, 0));
    });
    run.stop();
}

/// A snapshot whose upload was given up because of the key.
async fn failed(client: &mut Client, volume: &str, name: &str) -> String {
    let request = lab::snapshot_of(volume, name, "offsite");
    let id = lab::cut(client, &request).await.snapshot_id;
    let refused = lab::ready_snapshot(client, &request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    id
}

fn assert_final(progress: Option<&api::Progress>, size_bytes: u64) {
    let progress = progress.unwrap();
    assert_eq!(progress.phase, "done");
    assert_eq!(progress.bytes_total, size_bytes);
    assert_eq!(progress.bytes_done, size_bytes);
    assert!(progress.bytes_transferred > 300_000, "{progress:?}");
    assert!(progress.requests > 3, "{progress:?}");
}
