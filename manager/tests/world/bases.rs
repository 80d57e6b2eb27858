//! What an upload builds on, and what is kept for that.

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use stockpot_driver::Headroom;
use stockpot_manager::Config;
use stockpot_proto::stockpot::v1 as api;

use super::{SIZE, World, filled_volume};
use crate::lab::{self, Client, Run, until};

/// Changes 4 KiB of a volume.
fn change(world: &World, volume: &str, offset: u64, byte: u8) {
    let path = world.storage.volume_file(&volume.parse().unwrap());
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[byte; 4096], offset).unwrap();
}

async fn upload(client: &mut Client, volume: &str, name: &str) -> api::Snapshot {
    let request = lab::snapshot_of(volume, name, "offsite");
    lab::ready_snapshot(client, &request).await.unwrap()
}

async fn get(client: &mut Client, snapshot: &api::Snapshot) -> api::Snapshot {
    let snapshot_id = snapshot.snapshot_id.clone();
    let request = api::GetSnapshotRequest { snapshot_id };
    client.get_snapshot(request).await.unwrap().into_inner()
}

/// A volume made from a cloud copy holds what the snapshot's device does.
async fn assert_restores(world: &World, client: &mut Client, snapshot: &api::Snapshot) {
    let name = format!("back-{}", snapshot.snapshot_id);
    let request = lab::volume_from(&name, &snapshot.snapshot_id, api::SourceCopy::Cloud);
    let back = lab::available_volume(client, &request).await.unwrap();
    let file = |id: &str| std::fs::read(world.storage.volume_file(&id.parse().unwrap())).unwrap();
    let mut found = file(&back.volume_id);
    let expected = file(&snapshot.source_volume_id);
    found.resize(expected.len(), 0);
    assert!(found == expected, "{}", snapshot.name);
    lab::delete_volume(client, &back.volume_id).await.unwrap();
}

/// What an operator is shown of it.
async fn kept_in_pool(client: &mut Client) -> (u64, u64) {
    let request = api::GetCapacityRequest::default();
    let room = client.get_capacity(request).await.unwrap().into_inner();
    (room.kept_bases, room.kept_bases_bytes_max)
}

fn devices(world: &World) -> usize {
    world.storage.leftovers().snapshots.len()
}

#[test]
fn a_base_is_kept_as_long_as_it_is_needed() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let first = upload(&mut client, &volume, "first").await;
        assert_eq!((first.reason.as_str(), first.kept_as_base), ("full", false));
        assert!(
            first.reason_text.contains("no earlier snapshot"),
            "{first:?}"
        );
        lab::drop_local_copy(&mut client, &first.snapshot_id)
            .await
            .unwrap();
        let kept = get(&mut client, &first).await;
        assert!(kept.kept_as_base && kept.local() == api::CopyState::Deleted);
        assert_eq!(devices(&world), 1);
        assert_eq!(kept_in_pool(&mut client).await, (1, kept.size_bytes));
        // Asking again changes nothing, and no volume is made from it.
        lab::drop_local_copy(&mut client, &first.snapshot_id)
            .await
            .unwrap();
        let local = lab::volume_from("local", &first.snapshot_id, api::SourceCopy::Local);
        lab::available_volume(&mut client, &local)
            .await
            .unwrap_err();

        change(&world, &volume, 1 << 20, 9);
        let second = upload(&mut client, &volume, "second").await;
        assert_eq!(second.reason, "incremental", "{second:?}");
        assert_eq!(world.storage.asked_changes().len(), 1);
        assert!(sent(&second) < sent(&first), "{second:?}");
        given_back(&mut client, &first).await;
        assert_eq!(kept_in_pool(&mut client).await, (0, 0));
        assert_eq!(devices(&world), 1, "the second alone");
        assert_restores(&world, &mut client, &second).await;

        // Its cloud copy goes, and with it the use of its device.
        lab::drop_local_copy(&mut client, &second.snapshot_id)
            .await
            .unwrap();
        assert_eq!(devices(&world), 1);
        lab::delete_snapshot(&mut client, &second.snapshot_id)
            .await
            .unwrap();
        assert_eq!(devices(&world), 0);

        change(&world, &volume, 2 << 20, 9);
        let third = upload(&mut client, &volume, "third").await;
        assert_eq!(third.reason, "compared", "{third:?}");
        assert!(third.reason_text.contains("is gone"), "{third:?}");
        lab::drop_local_copy(&mut client, &third.snapshot_id)
            .await
            .unwrap();
        assert_restores(&world, &mut client, &third).await;
        lab::delete_volume(&mut client, &volume).await.unwrap();
        assert_eq!(devices(&world), 0, "the volume is gone");
        let left = get(&mut client, &third).await;
        assert!(!left.kept_as_base && left.ready);
    });
    run.stop();
}

/// It is given back behind the commit that makes it useless.
async fn given_back(client: &mut Client, snapshot: &api::Snapshot) {
    until("it is given back", async || {
        (!get(client, snapshot).await.kept_as_base).then_some(())
    })
    .await;
}

#[test]
fn a_storage_that_cannot_tell_what_changed_is_compared() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        upload(&mut client, &volume, "first").await;
        change(&world, &volume, 1 << 20, 9);
        world.faults.break_call("changed_ranges");
        let second = upload(&mut client, &volume, "second").await;
        assert_eq!(second.reason, "compared", "{second:?}");
        assert!(
            second.reason_text.contains("was made to fail"),
            "{second:?}"
        );
        assert_restores(&world, &mut client, &second).await;
    });
    run.stop();
}

/// A volume made from a snapshot builds on its cloud copy: told, where the storage can compare the two.
#[test]
fn a_volume_made_from_a_snapshot_builds_on_that_snapshot() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let parent = filled_volume(&world, &mut client).await.volume_id;
        let cut = upload(&mut client, &parent, "cut").await;
        let full = sent(&cut);
        for (copy, reason) in [
            (api::SourceCopy::Local, "incremental"),
            (api::SourceCopy::Cloud, "incremental"),
            (api::SourceCopy::Cloud, "compared"),
        ] {
            if reason == "compared" {
                lab::drop_local_copy(&mut client, &cut.snapshot_id)
                    .await
                    .unwrap();
                let volume = parent.clone();
                lab::delete_volume(&mut client, &volume).await.unwrap();
                assert_eq!(devices(&world), 2, "of the children alone");
            }
            let name = format!("child-{copy:?}-{reason}");
            let request = lab::volume_from(&name, &cut.snapshot_id, copy);
            let child = lab::available_volume(&mut client, &request).await.unwrap();
            change(&world, &child.volume_id, 2 << 20, 9);
            let first = upload(&mut client, &child.volume_id, &name).await;
            assert_eq!(first.reason, reason, "{first:?}");
            assert!(first.reason_text.contains(&cut.snapshot_id), "{first:?}");
            assert!(sent(&first) < full / 2, "{} of {full}", sent(&first));
            assert_restores(&world, &mut client, &first).await;
            // From then on its own.
            change(&world, &child.volume_id, 1 << 20, 9);
            let second = upload(&mut client, &child.volume_id, &format!("{name}-2")).await;
            assert_eq!(second.reason, "incremental", "{second:?}");
            assert!(
                second.reason_text.contains(&first.snapshot_id),
                "{second:?}"
            );
            lab::delete_snapshot(&mut client, &first.snapshot_id)
                .await
                .unwrap();
            assert_restores(&world, &mut client, &second).await;
        }
        // Without that copy there is nothing to build on, and it is said.
        let request = lab::volume_from("late", &cut.snapshot_id, api::SourceCopy::Cloud);
        let late = lab::available_volume(&mut client, &request).await.unwrap();
        lab::delete_snapshot(&mut client, &cut.snapshot_id)
            .await
            .unwrap();
        let last = upload(&mut client, &late.volume_id, "late").await;
        assert_eq!(last.reason, "full", "{last:?}");
        assert_restores(&world, &mut client, &last).await;
    });
    run.stop();
}

fn sent(snapshot: &api::Snapshot) -> u64 {
    snapshot.progress.as_ref().unwrap().bytes_transferred
}

/// The storage says that nothing changed, and it is wrong: all is compared, and the reason names the chunk.
#[test]
fn a_storage_that_is_wrong_about_what_changed_is_found_out() {
    let world = World::new();
    let run = quick(&world, |config| {
        config.transfers.guard_share_ppm = Some(1_000_000);
    });
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let first = upload(&mut client, &volume, "first").await;
        change(&world, &volume, 1 << 20, 9);
        // What the storage compares with is not what was uploaded.
        let data = std::fs::read_dir(world.dir.path().join("data")).unwrap();
        let path = data
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_str().unwrap().contains(&first.snapshot_id));
        let file = OpenOptions::new().write(true).open(path.unwrap()).unwrap();
        file.write_all_at(&[9; 4096], 1 << 20).unwrap();
        let second = upload(&mut client, &volume, "second").await;
        assert_eq!(second.reason, "compared", "{second:?}");
        let named = format!("chunk {} was said to be unchanged", (1 << 20) / (64 << 10));
        assert!(second.reason_text.starts_with(&named), "{second:?}");
        assert_restores(&world, &mut client, &second).await;
    });
    run.stop();
}

fn quick(world: &World, change: impl FnOnce(&mut Config)) -> Run {
    let mut config = world.config();
    config.pool_guard_seconds = 1;
    change(&mut config);
    Run::start(config, world.parts())
}

/// A volume, and a snapshot of it that was uploaded and whose local copy its owner removed.
async fn first_alone_in_the_bucket(world: &World, client: &mut Client) -> (String, api::Snapshot) {
    let volume = filled_volume(world, client).await.volume_id;
    let first = upload(client, &volume, "first").await;
    lab::drop_local_copy(client, &first.snapshot_id)
        .await
        .unwrap();
    (volume, first)
}

#[test]
fn without_the_setting_no_base_is_kept() {
    let world = World::new();
    let run = quick(&world, |config| config.transfers.keep_base = false);
    let mut client = run.client();
    run.block_on(async {
        first_alone_in_the_bucket(&world, &mut client).await;
        assert_eq!(devices(&world), 0);
    });
    run.stop();
}

#[test]
fn a_pool_that_is_nearly_full_gets_bases_back_and_then_grows() {
    let world = World::new();
    let run = quick(&world, |_| {});
    let mut client = run.client();
    run.block_on(async {
        let (volume, first) = first_alone_in_the_bucket(&world, &mut client).await;
        assert!(get(&mut client, &first).await.kept_as_base);
        // The guard is quicker than its next look where something new is made.
        world.storage.limit_snapshots(0, 1);
        let request = lab::snapshot_of(&volume, "local", "");
        lab::cut(&mut client, &request).await;
        assert!(!get(&mut client, &first).await.kept_as_base);
        assert_eq!(devices(&world), 1);
        // With nothing to give back, the pool grows.
        let headroom = grown(&world).await;
        assert_eq!(headroom.text, "1 snapshots of 1");
    });
    run.stop();
    assert_eq!(SIZE % 4096, 0);
}

/// Waits until the pool has room again.
async fn grown(world: &World) -> Headroom {
    let driver = world.parts().pools["pool"].clone();
    until("somebody looks after the pool", async || {
        let headroom = driver.headroom().await.unwrap().unwrap();
        (!headroom.is_low).then_some(headroom)
    })
    .await
}

#[test]
fn where_writes_wait_the_pool_grows_before_bases_are_given_back() {
    let world = World::new();
    let run = quick(&world, |_| {});
    let mut client = run.client();
    run.block_on(async {
        let (_, first) = first_alone_in_the_bucket(&world, &mut client).await;
        world.storage.let_writes_wait();
        world.storage.limit_snapshots(0, 1);
        let headroom = grown(&world).await;
        assert_eq!(headroom.text, "1 snapshots of 1", "the base was given back");
        assert!(get(&mut client, &first).await.kept_as_base);
    });
    run.stop();
}

/// Snapshots that pin their volume, and a volume with one that is in the bucket as well.
async fn pinned_volume(world: &World, client: &mut Client) -> (String, api::Snapshot) {
    world.storage.snapshots_pin_volumes();
    let volume = filled_volume(world, client).await.volume_id;
    let kept = upload(client, &volume, "kept").await;
    (volume, kept)
}

/// Only its cloud copy is wanted from now on: what stays of it is a base.
async fn keep_as_base_only(client: &mut Client, snapshot: &api::Snapshot) {
    lab::drop_local_copy(client, &snapshot.snapshot_id)
        .await
        .unwrap();
    assert!(get(client, snapshot).await.kept_as_base);
}

async fn assert_base_given_back(client: &mut Client, snapshot: &api::Snapshot) {
    let left = get(client, snapshot).await;
    assert!(!left.kept_as_base && left.ready);
}

#[test]
fn a_base_does_not_keep_its_volume_from_growing() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let (volume, kept) = pinned_volume(&world, &mut client).await;
        let request = api::ExtendVolumeRequest {
            volume_id: volume,
            required_bytes: 2 * SIZE,
            ..Default::default()
        };
        // Somebody wants that one.
        let refused = client.extend_volume(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        keep_as_base_only(&mut client, &kept).await;
        let grown = client.extend_volume(request).await.unwrap().into_inner();
        assert_eq!(grown.size_bytes, 2 * SIZE);
        assert_base_given_back(&mut client, &kept).await;
    });
    run.stop();
}

#[test]
fn a_base_does_not_keep_its_volume() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let (volume, kept) = pinned_volume(&world, &mut client).await;
        let refused = lab::delete_volume(&mut client, &volume).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(refused.message().contains(&kept.snapshot_id), "{refused}");
        keep_as_base_only(&mut client, &kept).await;
        lab::delete_volume(&mut client, &volume).await.unwrap();
        assert_base_given_back(&mut client, &kept).await;
    });
    assert_eq!(devices(&world), 0);
    run.stop();
}
