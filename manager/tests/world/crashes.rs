//! The manager is killed before and after every call that a flow makes, and started again.

use stockpot_manager::fakes::Fault;

use crate::world::{Flow, World, insist};

/// Kills the manager at the `number`-th call. `None` when the flow makes fewer.
fn killed_at(flow: Flow, number: u64, fault: Fault) -> Option<&'static str> {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let ids = run.block_on(flow.prepare(&world, &mut client));
    world.faults.choose(number, fault);
    let name = run.block_on(async {
        tokio::select! {
            done = flow.go(&mut client, &ids) => { done.unwrap(); None }
            name = world.faults.happened() => Some(name),
        }
    });
    let when = format!("{flow:?}, killed at call {number} ({name:?}): {fault:?}");
    drop(client);
    run.kill();
    world.faults.clear();
    let run = world.start();
    let mut client = run.client();
    let again = run.block_on(insist(async || flow.go(&mut client, &ids).await));
    again.unwrap_or_else(|status| panic!("{when}: asked again: {status}"));
    run.block_on(flow.check(&world, &mut client, &when));
    let left = world.storage.leftovers();
    assert!(left.attached.is_empty(), "{when}: {left:?}");
    run.stop();
    name
}

fn killed_everywhere(flow: Flow) {
    for fault in [Fault::Hang, Fault::DoneThenHang] {
        let mut number = 1;
        while let Some(name) = killed_at(flow, number, fault) {
            eprintln!("{flow:?}, call {number}: {name}: {fault:?}");
            number += 1;
        }
        assert!(number > 1, "{flow:?} makes calls");
    }
}

#[test]
fn an_upload_that_is_killed() {
    killed_everywhere(Flow::Upload);
}

#[test]
fn a_restore_that_is_killed() {
    killed_everywhere(Flow::Restore);
}

#[test]
fn a_local_copy_that_is_killed() {
    killed_everywhere(Flow::LocalCopy);
}

#[test]
fn a_deletion_that_is_killed() {
    killed_everywhere(Flow::Delete);
}

#[test]
fn an_attachment_that_is_killed() {
    killed_everywhere(Flow::Attach);
}

/// Nobody asks again: what was begun and acknowledged is finished, what was not is gone.
#[test]
fn recovery_alone() {
    for fault in [Fault::Hang, Fault::DoneThenHang] {
        for number in 1.. {
            let world = World::new();
            let run = world.start();
            let mut client = run.client();
            let ids = run.block_on(Flow::Upload.prepare(&world, &mut client));
            world.faults.choose(number, fault);
            let name = run.block_on(async {
                tokio::select! {
                    done = Flow::Upload.go(&mut client, &ids) => { done.unwrap(); None }
                    name = world.faults.happened() => Some(name),
                }
            });
            drop(client);
            run.kill();
            world.faults.clear();
            let run = world.start();
            let mut client = run.client();
            let when = format!("call {number} ({name:?}): {fault:?}");
            let cut = run.block_on(crate::lab::list(&mut client));
            for snapshot in &cut {
                let id = &snapshot.snapshot_id;
                let last = run.block_on(watch_to_the_end(&mut client, id));
                assert!(last.ready, "{when}: {last:?}");
                run.block_on(world.assert_restores(&mut client, id));
            }
            assert_eq!(
                world.storage.leftovers().snapshots.len(),
                cut.len(),
                "{when}"
            );
            assert!(world.storage.leftovers().attached.is_empty(), "{when}");
            run.stop();
            if name.is_none() {
                break;
            }
        }
    }
}

async fn watch_to_the_end(
    client: &mut crate::lab::Client,
    id: &str,
) -> stockpot_proto::stockpot::v1::Snapshot {
    let snapshot_id = id.to_owned();
    let request = stockpot_proto::stockpot::v1::GetSnapshotRequest { snapshot_id };
    let mut stream = client.watch_snapshot(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(snapshot) = stream.message().await.unwrap() {
        last = Some(snapshot);
    }
    last.unwrap()
}
