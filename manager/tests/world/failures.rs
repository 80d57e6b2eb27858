//! Every call that a flow makes to storage, host or bucket fails once.

use stockpot_manager::fakes::Fault;

use crate::world::{Flow, World, insist};

/// Breaks `flow` at its `number`-th call. `None` when it makes fewer.
fn broken_at(flow: Flow, number: u64, fault: Fault) -> Option<&'static str> {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let ids = run.block_on(flow.prepare(&world, &mut client));
    world.faults.choose(number, fault);
    let first = run.block_on(flow.go(&mut client, &ids));
    let name = world.faults.clear();
    let when = format!("{flow:?}, call {number} ({name:?}): {fault:?}");
    if first.is_err() {
        // What an operation that failed did is undone before it says so.
        world.assert_tidy(&when);
    }
    let again = run.block_on(insist(async || flow.go(&mut client, &ids).await));
    again.unwrap_or_else(|status| panic!("{when}: asked again: {status}"));
    run.block_on(flow.check(&world, &mut client, &when));
    run.stop();
    world.assert_tidy(&when);
    name
}

fn broken_everywhere(flow: Flow) {
    for fault in [Fault::Fail, Fault::DoneThenFail] {
        let mut number = 1;
        while let Some(name) = broken_at(flow, number, fault) {
            eprintln!("{flow:?}, call {number}: {name}: {fault:?}");
            number += 1;
        }
        assert!(number > 1, "{flow:?} makes calls");
    }
}

#[test]
fn an_upload_that_fails() {
    broken_everywhere(Flow::Upload);
}

#[test]
fn a_restore_that_fails() {
    broken_everywhere(Flow::Restore);
}

#[test]
fn a_local_copy_that_fails() {
    broken_everywhere(Flow::LocalCopy);
}

#[test]
fn a_deletion_that_fails() {
    broken_everywhere(Flow::Delete);
}

#[test]
fn an_attachment_that_fails() {
    broken_everywhere(Flow::Attach);
}
