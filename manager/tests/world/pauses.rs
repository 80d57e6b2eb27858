//! Backups that are paused at each of their calls, over restarts, and resumed, cancelled or deleted then.

use std::time::Duration;

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};
use tonic::Code;

use super::backups::{assert_tidy, attach, begin, listed, status, until_shown};
use crate::{
    lab::{self, Backups, Client, PATIENCE},
    world::World,
};

/// Longer than a step that nobody stopped would take.
const A_MOMENT: Duration = Duration::from_millis(60);

async fn shown(backups: &mut Backups, id: &str) -> api::Backup {
    let shown = backups.get_backup(lab::backup(id)).await;
    shown.unwrap().into_inner()
}

/// A backup that stands still in the middle of its upload, the first of whose volume is done.
async fn paused(world: &World, backups: &mut Backups, volume: &str, in_use: bool) -> api::Backup {
    lab::backed_up(backups, volume, "first", in_use).await;
    world.faults.hold_call("put");
    lab::back_up(backups, volume, "b", in_use).await.unwrap();
    world.faults.happened().await;
    let pausing = tokio::spawn({
        let mut backups = backups.clone();
        async move { backups.pause_backup(lab::backup("b")).await }
    });
    until_shown(backups, "b", |now| now.paused).await;
    world.faults.clear();
    let paused = pausing.await.unwrap().unwrap().into_inner();
    assert!(paused.paused, "{paused:?}");
    assert_eq!(paused.status(), BackupStatus::Creating);
    paused
}

/// Nothing moves: no request reaches the bucket, and nothing is attached but what the node has.
async fn assert_still(world: &World, backups: &mut Backups, in_use: bool, when: &str) {
    let before = world.stores.content();
    assert_tidy(world, in_use, when);
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!(world.stores.content(), before, "{when}");
    let now = shown(backups, "b").await;
    assert!(now.paused, "{when}: {now:?}");
    assert_eq!(now.progress.unwrap().phase, "paused", "{when}");
}

#[test]
fn a_paused_backup_stands_still_over_a_restart() {
    for in_use in [false, true] {
        let world = World::new();
        let (run, mut client, mut backups, volume) = begin(&world, in_use);
        let held = if in_use {
            VolumeStatus::InUse
        } else {
            VolumeStatus::BackingUp
        };
        let begun = run.block_on(async {
            let begun = paused(&world, &mut backups, &volume, in_use).await;
            assert_still(&world, &mut backups, in_use, "paused").await;
            // Again is success.
            let again = backups.pause_backup(lab::backup("b")).await.unwrap();
            assert!(again.into_inner().paused);
            assert_eq!(status(&mut client, &volume).await, held);
            begun
        });
        drop((client, backups));
        run.stop();
        let run = world.start();
        (client, backups) = (run.client(), run.backups());
        run.block_on(async {
            assert_still(&world, &mut backups, in_use, "started again").await;
            assert_eq!(status(&mut client, &volume).await, held);
            if in_use {
                let there = world.storage.leftovers().snapshots;
                assert!(there.contains(&begun.temp_snapshot_id), "{there:?}");
            } else {
                let refused = client.attach_volume(attach(&volume)).await.unwrap_err();
                assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            }
            let resumed = backups.resume_backup(lab::backup("b")).await.unwrap();
            assert!(!resumed.into_inner().paused);
            let done = lab::cleaned(&mut backups, "b").await;
            assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
            assert!(!done.paused);
            let before = if in_use {
                held
            } else {
                VolumeStatus::Available
            };
            assert_eq!(status(&mut client, &volume).await, before);
            world.assert_restores(&mut client, &done.snapshot_id).await;
            // What has ended is neither paused nor resumed.
            let pause = backups.pause_backup(lab::backup("b")).await;
            let resume = backups.resume_backup(lab::backup("b")).await;
            for refused in [pause.unwrap_err(), resume.unwrap_err()] {
                assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
                assert!(refused.message().contains("available"), "{refused}");
            }
            let absent = backups.pause_backup(lab::backup("c")).await.unwrap_err();
            assert_eq!(absent.code(), Code::NotFound, "{absent}");
        });
        run.stop();
        assert_tidy(&world, in_use, "at the end");
    }
}

#[test]
fn a_paused_backup_is_cancelled_or_deleted() {
    for in_use in [false, true] {
        for delete in [false, true] {
            let world = World::new();
            let (run, mut client, mut backups, volume) = begin(&world, in_use);
            run.block_on(async {
                let begun = paused(&world, &mut backups, &volume, in_use).await;
                if delete {
                    backups.delete_backup(lab::backup("b")).await.unwrap();
                    assert_eq!(listed(&mut backups).await.len(), 1);
                } else {
                    let cancelled = backups.cancel_backup(lab::backup("b")).await.unwrap();
                    let cancelled = cancelled.into_inner();
                    assert_eq!(cancelled.status(), BackupStatus::Cancelled, "{cancelled:?}");
                    assert!(!cancelled.paused);
                    lab::cleaned(&mut backups, "b").await;
                }
                let before = if in_use {
                    VolumeStatus::InUse
                } else {
                    VolumeStatus::Available
                };
                assert_eq!(status(&mut client, &volume).await, before);
                let there = world.storage.leftovers().snapshots;
                assert!(!there.contains(&begun.snapshot_id), "{there:?}");
                lab::backed_up(&mut backups, &volume, "again", in_use).await;
            });
            run.stop();
            assert_tidy(&world, in_use, "at the end");
        }
    }
}

/// What a backup came to that was paused at its `number`-th call.
enum Met {
    /// It makes fewer calls.
    NoSuchCall,
    /// It was not on record yet, or had ended already.
    TooEarlyOrLate,
    /// Objects of packs when it was paused, and in the end.
    Paused(usize, usize),
}

fn packs(world: &World) -> usize {
    let keys = world.stores.content().0;
    keys.iter().filter(|key| key.contains("packs/")).count()
}

/// Pauses a backup while its `number`-th call is made; every other time it is started again before it is resumed.
fn paused_at(in_use: bool, number: u64) -> Met {
    let world = World::new();
    let (mut run, mut client, mut backups, volume) = begin(&world, in_use);
    world.faults.choose(number, Fault::Wait);
    let when = format!("in use: {in_use}, call {number}");
    let answer = run.block_on(async {
        let going = tokio::spawn(whole(backups.clone(), volume.clone(), in_use));
        let hit = tokio::select! {
            _ = world.faults.happened() => true,
            () = ended(&going) => false,
        };
        let pausing = tokio::spawn({
            let mut backups = backups.clone();
            async move { backups.pause_backup(lab::backup("b")).await }
        });
        tokio::time::sleep(A_MOMENT).await;
        world.faults.clear();
        let answer = pausing.await.unwrap();
        if answer.is_err() {
            going.await.unwrap();
        }
        hit.then_some(answer)
    });
    let Some(answer) = answer else {
        return Met::NoSuchCall;
    };
    if let Err(refused) = answer {
        let known = [Code::NotFound, Code::FailedPrecondition];
        assert!(known.contains(&refused.code()), "{when}: {refused}");
        run.stop();
        return Met::TooEarlyOrLate;
    }
    run.block_on(assert_still(&world, &mut backups, in_use, &when));
    let before = packs(&world);
    if number.is_multiple_of(2) {
        drop((client, backups));
        run.kill();
        run = world.start();
        (client, backups) = (run.client(), run.backups());
    }
    run.block_on(async {
        assert_still(&world, &mut backups, in_use, &when).await;
        backups.resume_backup(lab::backup("b")).await.unwrap();
        check(&world, &mut client, &mut backups, &when).await;
    });
    run.stop();
    assert_tidy(&world, in_use, &when);
    Met::Paused(before, packs(&world))
}

async fn whole(mut backups: Backups, volume: String, in_use: bool) {
    lab::back_up(&mut backups, &volume, "b", in_use)
        .await
        .unwrap();
    // One that is paused is watched for ever, or until its manager ends.
    let watching = lab::ended(&mut backups, "b");
    let _ = tokio::time::timeout(PATIENCE, watching).await;
}

async fn ended(task: &tokio::task::JoinHandle<()>) {
    while !task.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn check(world: &World, client: &mut Client, backups: &mut Backups, when: &str) {
    let done = lab::cleaned(backups, "b").await;
    assert_eq!(done.status(), BackupStatus::Available, "{when}: {done:?}");
    world.assert_restores(client, &done.snapshot_id).await;
}

#[test]
fn paused_at_each_call() {
    for in_use in [false, true] {
        let (mut paused, mut most, mut least) = (0, 0, usize::MAX);
        for number in 1.. {
            match paused_at(in_use, number) {
                Met::NoSuchCall => break,
                Met::TooEarlyOrLate => {}
                Met::Paused(before, after) => {
                    paused += 1;
                    most = most.max(before);
                    least = least.min(after);
                    // The data that was there is not sent again: at most the map, which nobody adopts.
                    let sent = after - before;
                    assert!(
                        before == 0 || sent < least,
                        "call {number}: {before} packs, {after} in the end"
                    );
                }
            }
        }
        eprintln!("in use: {in_use}: paused {paused} times, with up to {most} packs sent");
        assert!(paused > 5 && most > 0, "{paused}, {most}");
    }
}
