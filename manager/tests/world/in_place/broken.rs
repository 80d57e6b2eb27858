//! Restores of which each call fails, or at each call of which the manager is killed.

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::VolumeStatus;

use super::{Scene, status};
use crate::world::{at_each_call, insist};

/// Its call of that number fails. What is said is what is true, and asked again it is done.
fn failed_at(number: u64, fault: Fault) -> Option<&'static str> {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    scene.world.faults.choose(number, fault);
    let first = run.block_on(scene.restore(&mut client, &mut volumes));
    let name = scene.world.faults.clear();
    let when = format!("call {number} ({name:?}): {fault:?}: {first:?}");
    assert_eq!(scene.assert_whole(&when), first.is_err(), "{when}");
    let again = run.block_on(insist(async || {
        scene.restore(&mut client, &mut volumes).await
    }));
    again.unwrap_or_else(|status| panic!("{when}: asked again: {status}"));
    assert!(!scene.assert_whole(&when), "{when}");
    run.stop();
    name
}

#[test]
fn each_of_its_calls_fails() {
    at_each_call([Fault::Fail, Fault::DoneThenFail], failed_at);
}

/// The manager is killed at the call of that number. The next one goes on, nobody asking.
fn killed_at(number: u64, fault: Fault) -> Option<&'static str> {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    let mut looking = run.client();
    scene.world.faults.choose(number, fault);
    let (name, was_begun) = run.block_on(async {
        let restoring = scene.restore(&mut client, &mut volumes);
        let name = tokio::select! {
            done = restoring => { done.unwrap(); None }
            name = scene.world.faults.happened() => Some(name),
        };
        (name, status(&mut looking, &scene).await)
    });
    let when = format!("call {number} ({name:?}): {fault:?}");
    drop((client, volumes, looking));
    run.kill();
    scene.world.faults.clear();
    let run = scene.world.start();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    let ended = run.block_on(scene.ended(&mut client));
    assert_eq!(ended.status(), VolumeStatus::Available, "{when}");
    let is_as_it_was = scene.assert_whole(&when);
    if was_begun == VolumeStatus::Restoring {
        assert!(!is_as_it_was && ended.error.is_empty(), "{when}: {ended:?}");
    }
    run.block_on(scene.restore(&mut client, &mut volumes))
        .unwrap_or_else(|status| panic!("{when}: asked again: {status}"));
    assert!(!scene.assert_whole(&when), "{when}");
    run.stop();
    name
}

#[test]
fn killed_at_each_of_its_calls() {
    at_each_call([Fault::Hang, Fault::DoneThenHang], killed_at);
}

/// Killed while it is being given up: the next start ends that.
#[test]
fn killed_while_it_is_cancelled() {
    for fault in [Fault::Hang, Fault::DoneThenHang] {
        for number in 1.. {
            let (scene, run) = Scene::patient();
            let mut volumes = run.volumes();
            let name = run.block_on(async {
                scene.held_at_the_end(&mut volumes).await;
                while scene.world.storage.asked_replacements() == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                scene.world.faults.choose(number, fault);
                tokio::select! {
                    done = volumes.cancel_restore(scene.id()) => { done.unwrap(); None }
                    name = scene.world.faults.happened() => Some(name),
                }
            });
            let when = format!("call {number} ({name:?}): {fault:?}");
            drop(volumes);
            run.kill();
            scene.world.faults.clear();
            scene.hold_device(false);
            let run = scene.world.start();
            let mut client = run.client();
            let ended = run.block_on(scene.ended(&mut client));
            assert_eq!(ended.status(), VolumeStatus::Available, "{when}");
            // Until the storage had refused to put it in place it was not given up.
            let is_as_it_was = scene.assert_whole(&when);
            assert_eq!(
                ended.error.contains("cancelled"),
                is_as_it_was,
                "{when}: {ended:?}"
            );
            run.stop();
            if name.is_none() {
                assert!(is_as_it_was && number > 2, "{when}");
                break;
            }
        }
    }
}
