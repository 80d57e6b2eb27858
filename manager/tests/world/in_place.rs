//! Restores into volumes that are there: whole or not at all, whatever fails and whoever is killed.

use std::fs;

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};
use tonic::{Code, Status};

use crate::{
    lab::{self, Client, Run, Volumes},
    world::{SIZE, World, filled_volume, insist},
};

const OTHER: u8 = 9;

/// A volume whose first content has a cloud copy, and which holds another one since.
struct Scene {
    world: World,
    volume: String,
    snapshot: String,
}

impl Scene {
    fn new() -> (Self, Run) {
        let world = World::new();
        let run = world.start();
        Self::on(world, run)
    }

    /// With a manager that waits for long before it tries again what failed.
    fn patient() -> (Self, Run) {
        let world = World::new();
        let mut config = world.config();
        config.transfers.pause_first_seconds = 300;
        config.transfers.pause_max_seconds = 300;
        config.transfers.give_up_after_seconds = 3600;
        let run = Run::start(config, world.parts());
        Self::on(world, run)
    }

    fn on(world: World, run: Run) -> (Self, Run) {
        let mut client = run.client();
        let (volume, snapshot) = run.block_on(async {
            let volume = filled_volume(&world, &mut client).await.volume_id;
            let request = lab::snapshot_of(&volume, "first", "offsite");
            let snapshot = lab::ready_snapshot(&mut client, &request).await.unwrap();
            (volume, snapshot.snapshot_id)
        });
        let scene = Self {
            world,
            volume,
            snapshot,
        };
        fs::write(scene.file(), vec![OTHER; usize::try_from(SIZE).unwrap()]).unwrap();
        (scene, run)
    }

    fn file(&self) -> std::path::PathBuf {
        let id = self.volume.parse().unwrap();
        self.world.storage.volume_file(&id)
    }

    fn request(&self) -> api::RestoreVolumeRequest {
        api::RestoreVolumeRequest {
            volume_id: self.volume.clone(),
            snapshot_id: self.snapshot.clone(),
        }
    }

    fn id(&self) -> api::GetVolumeRequest {
        api::GetVolumeRequest {
            volume_id: self.volume.clone(),
        }
    }

    /// Restores, and waits for the end.
    async fn restore(&self, client: &mut Client, volumes: &mut Volumes) -> Result<(), Status> {
        volumes.restore_volume(self.request()).await?;
        let ended = client.wait_volume(self.id()).await?.into_inner();
        match ended.error.as_str() {
            "" => Ok(()),
            error => Err(Status::unknown(error)),
        }
    }

    fn is_as_it_was(&self) -> bool {
        fs::read(self.file()).unwrap() == vec![OTHER; usize::try_from(SIZE).unwrap()]
    }

    /// It holds the one or the other, and nothing is beside it.
    fn assert_whole(&self, when: &str) -> bool {
        let left = self.world.storage.leftovers();
        assert_eq!(left.volumes, [self.volume.as_str()], "{when}");
        assert!(left.attached.is_empty(), "{when}: {left:?}");
        let is_as_it_was = self.is_as_it_was();
        if !is_as_it_was {
            self.world.assert_content(&self.volume);
        }
        is_as_it_was
    }
}

async fn status(client: &mut Client, scene: &Scene) -> VolumeStatus {
    let volume = client.get_volume(scene.id()).await.unwrap().into_inner();
    volume.status()
}

#[test]
fn the_old_content_is_kept_until_the_new_is_complete() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    let mut catalog = run.catalog();
    run.block_on(async {
        let request = lab::snapshot_of(&scene.volume, "second", "offsite");
        let second = lab::ready_snapshot(&mut client, &request).await.unwrap();
        scene.world.faults.hold_call("replace_volume");
        let begun = volumes.restore_volume(scene.request()).await.unwrap();
        assert_eq!(begun.into_inner().status(), VolumeStatus::Restoring);
        scene.world.faults.happened().await;
        assert!(scene.is_as_it_was());
        let left = scene.world.storage.leftovers().volumes;
        let beside = left.into_iter().find(|id| *id != scene.volume).unwrap();
        // Asked again it is the same; anything else has to wait.
        volumes.restore_volume(scene.request()).await.unwrap();
        let mut other = scene.request();
        other.snapshot_id = second.snapshot_id;
        let refused = volumes.restore_volume(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let attach = api::AttachVolumeRequest {
            volume_id: scene.volume.clone(),
            ..Default::default()
        };
        let refused = client.attach_volume(attach).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let cut = lab::snapshot_of(&scene.volume, "meanwhile", "");
        let refused = client.create_snapshot(cut).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let refused = lab::delete_volume(&mut client, &beside).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(&scene.volume), "{refused}");
        // Nor does it become a volume of its own.
        let source = format!("fake/stockpot.v.{}", beside.replace('-', "."));
        let refused = lab::adopt(&mut volumes, &source, "beside").await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(&scene.volume), "{refused}");
        let checked = catalog.check_catalog(api::CheckCatalogRequest { local_only: true });
        let findings = checked.await.unwrap().into_inner().findings;
        assert!(!format!("{findings:?}").contains(&beside), "{findings:?}");
        scene.world.faults.clear();
        let done = client.wait_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(done.status(), VolumeStatus::Available);
        assert_eq!((done.error.as_str(), done.size_bytes), ("", SIZE));
        assert!(!scene.assert_whole("when it is done"));
    });
    run.stop();
}

/// What the storage knows of the time before says nothing of what the volume holds now.
#[test]
fn the_next_upload_is_compared_and_those_behind_it_are_not() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.restore(&mut client, &mut volumes).await.unwrap();
        let request = lab::snapshot_of(&scene.volume, "second", "offsite");
        let second = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(second.reason, "compared");
        assert!(second.reason_text.contains("was restored"), "{second:?}");
        assert!(scene.world.storage.asked_changes().is_empty());
        let request = lab::snapshot_of(&scene.volume, "third", "offsite");
        let third = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(third.reason, "incremental", "{third:?}");
        for one in [second, third] {
            scene
                .world
                .assert_restores(&mut client, &one.snapshot_id)
                .await;
        }
        // Nor is the device of the first one kept for an upload to come.
        lab::drop_local_copy(&mut client, &scene.snapshot)
            .await
            .unwrap();
        let left = scene.world.storage.leftovers().snapshots;
        assert!(!left.contains(&scene.snapshot), "{left:?}");
    });
    run.stop();
}

#[test]
fn a_larger_volume_keeps_its_size_and_reads_as_zeroes_beyond() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        let request = api::ExtendVolumeRequest {
            volume_id: scene.volume.clone(),
            required_bytes: 2 * SIZE,
            limit_bytes: 0,
        };
        client.extend_volume(request).await.unwrap();
        let large = vec![OTHER; usize::try_from(2 * SIZE).unwrap()];
        fs::write(scene.file(), large).unwrap();
        scene.restore(&mut client, &mut volumes).await.unwrap();
        let volume = client.get_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(volume.size_bytes, 2 * SIZE);
        let found = fs::read(scene.file()).unwrap();
        let (head, tail) = found.split_at(usize::try_from(SIZE).unwrap());
        assert!(head.iter().any(|byte| *byte != OTHER));
        assert!(tail.iter().all(|byte| *byte == 0));
    });
    run.stop();
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    let refused = async |volumes: &mut Volumes, request: api::RestoreVolumeRequest| {
        let status = volumes.restore_volume(request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    run.block_on(async {
        let with = |volume: &str, snapshot: &str| api::RestoreVolumeRequest {
            volume_id: volume.to_owned(),
            snapshot_id: snapshot.to_owned(),
        };
        for (volume, snapshot) in [
            ("vol-none", scene.snapshot.as_str()),
            (&scene.volume, "snap-none"),
            (&scene.volume, "Not An Id"),
        ] {
            let (code, text) = refused(&mut volumes, with(volume, snapshot)).await;
            assert_eq!(code, Code::NotFound, "{text}");
        }
        let local = lab::snapshot_of(&scene.volume, "local", "");
        let local = lab::ready_snapshot(&mut client, &local).await.unwrap();
        let (code, text) = refused(&mut volumes, with(&scene.volume, &local.snapshot_id)).await;
        assert_eq!(code, Code::FailedPrecondition, "{text}");
        let small = lab::empty_volume("small", SIZE / 2);
        let small = lab::available_volume(&mut client, &small).await.unwrap();
        let (code, text) = refused(&mut volumes, with(&small.volume_id, &scene.snapshot)).await;
        assert_eq!(code, Code::OutOfRange, "{text}");
        assert!(text.contains("extend"), "{text}");
        lab::delete_volume(&mut client, &small.volume_id)
            .await
            .unwrap();

        let id = scene.volume.parse().unwrap();
        scene.world.storage.hold_device(&id, true);
        let (code, text) = refused(&mut volumes, scene.request()).await;
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.contains("mounted at /fake"), "{text}");
        scene.world.storage.hold_device(&id, false);
        let attach = api::AttachVolumeRequest {
            volume_id: scene.volume.clone(),
            ..Default::default()
        };
        let device = client.attach_volume(attach).await.unwrap().into_inner();
        let (code, text) = refused(&mut volumes, scene.request()).await;
        assert_eq!(code, Code::FailedPrecondition, "{text}");
        assert!(text.contains(&device.device_path), "{text}");
        let detach = api::DetachVolumeRequest {
            volume_id: scene.volume.clone(),
        };
        client.detach_volume(detach).await.unwrap();

        // Classic snapshots would go with the content that they are of.
        scene.world.storage.snapshots_pin_volumes();
        let (code, text) = refused(&mut volumes, scene.request()).await;
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.contains("because of snapshot"), "{text}");
        scene.world.storage.let_nothing_be_replaced();
        let (code, text) = refused(&mut volumes, scene.request()).await;
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.contains("restore to a new volume"), "{text}");
        assert_eq!(status(&mut client, &scene).await, VolumeStatus::Available);
        // Nothing is under way: that is success.
        let kept = volumes
            .cancel_restore(scene.id())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (kept.status(), kept.error.as_str()),
            (VolumeStatus::Available, "")
        );
    });
    assert!(scene.assert_whole("after all refusals"));
    run.stop();
}

/// What is kept only for the next upload does not stand in its way.
#[test]
fn a_base_is_given_back_for_it() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    scene.world.storage.snapshots_pin_volumes();
    run.block_on(async {
        lab::drop_local_copy(&mut client, &scene.snapshot)
            .await
            .unwrap();
        assert_eq!(scene.world.storage.leftovers().snapshots.len(), 1);
        scene.restore(&mut client, &mut volumes).await.unwrap();
    });
    assert!(!scene.assert_whole("at the end"));
    assert!(scene.world.storage.leftovers().snapshots.is_empty());
    run.stop();
}

#[test]
fn one_that_is_cancelled_leaves_the_volume_as_it_was() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        // Nothing comes out of the bucket.
        let get = scene.world.faults.clone();
        volumes.restore_volume(scene.request()).await.unwrap();
        get.hold_call("create_export");
        let cancelling = {
            let (mut volumes, id) = (volumes.clone(), scene.id());
            tokio::spawn(async move { volumes.cancel_restore(id).await })
        };
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        get.clear();
        let cancelled = cancelling.await.unwrap().unwrap().into_inner();
        assert_eq!(cancelled.status(), VolumeStatus::Available);
        // It may have been quicker.
        let is_as_it_was = scene.assert_whole("cancelled");
        assert_eq!(
            cancelled.error.contains("cancelled"),
            is_as_it_was,
            "{cancelled:?}"
        );
        // The error is told until something else is done with it.
        scene.restore(&mut client, &mut volumes).await.unwrap();
        let volume = client.get_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(volume.error, "");
    });
    assert!(!scene.assert_whole("restored in the end"));
    run.stop();
}

/// The storage says at the last moment whether it is too late.
#[test]
fn one_that_cannot_be_put_in_place_can_be_cancelled() {
    let (scene, run) = Scene::patient();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.world.faults.hold_call("replace_volume");
        volumes.restore_volume(scene.request()).await.unwrap();
        scene.world.faults.happened().await;
        let id = scene.volume.parse().unwrap();
        scene.world.storage.hold_device(&id, true);
        scene.world.faults.clear();
        let cancelled = volumes
            .cancel_restore(scene.id())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(cancelled.status(), VolumeStatus::Available);
        assert_eq!(
            cancelled.error_code,
            u32::try_from(i32::from(Code::Cancelled)).unwrap()
        );
        assert_eq!(status(&mut client, &scene).await, VolumeStatus::Available);
    });
    assert!(scene.assert_whole("cancelled late"));
    run.stop();
}

/// What somebody may have written to the volume meanwhile is not thrown away, and the restore does not wait for ever.
#[test]
fn a_volume_that_comes_into_use_keeps_what_it_holds() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        let id = scene.volume.parse().unwrap();
        let mount = async |volumes: &mut Volumes| {
            scene.world.faults.hold_call("replace_volume");
            volumes.restore_volume(scene.request()).await.unwrap();
            scene.world.faults.happened().await;
            scene.world.storage.hold_device(&id, true);
            scene.world.faults.clear();
        };
        mount(&mut volumes).await;
        let volume = client.wait_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(volume.status(), VolumeStatus::Available);
        for said in ["mounted at /fake", "while it was being restored"] {
            assert!(volume.error.contains(said), "{volume:?}");
        }
        assert!(scene.assert_whole("after it was mounted"));
        // Who only has a look at the device is no user.
        scene.world.storage.hold_device(&id, false);
        mount(&mut volumes).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        scene.world.storage.hold_device(&id, false);
        let volume = client.wait_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(volume.error, "");
    });
    assert!(!scene.assert_whole("after it was looked at"));
    run.stop();
}

#[test]
fn what_it_waits_for_is_said() {
    let world = World::new();
    let mut config = world.config();
    config.transfers.pause_first_seconds = 1;
    config.transfers.pause_max_seconds = 1;
    config.transfers.give_up_after_seconds = 3600;
    let run = Run::start(config, world.parts());
    let (scene, run) = Scene::on(world, run);
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.world.faults.hold_call("create_volume");
        volumes.restore_volume(scene.request()).await.unwrap();
        scene.world.faults.happened().await;
        scene.world.stores.set_out_of_reach(true);
        scene.world.faults.clear();
        loop {
            let volume = client.get_volume(scene.id()).await.unwrap().into_inner();
            let phase = volume.progress.unwrap_or_default().phase;
            if phase.starts_with("waits: ") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        scene.world.stores.set_out_of_reach(false);
        let volume = client.wait_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(volume.error, "");
    });
    assert!(!scene.assert_whole("when the bucket is back"));
    run.stop();
}

/// What cannot be removed at once is removed later, nobody asking again.
#[test]
fn one_whose_cancelling_fails_is_undone_all_the_same() {
    let (scene, run) = Scene::patient();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.world.faults.hold_call("replace_volume");
        volumes.restore_volume(scene.request()).await.unwrap();
        scene.world.faults.happened().await;
        let id = scene.volume.parse().unwrap();
        scene.world.storage.hold_device(&id, true);
        scene.world.faults.clear();
        // The step is asked for once more and refused; then the volume beside would be removed.
        scene.world.faults.fail_once("delete_volume");
        volumes.cancel_restore(scene.id()).await.unwrap_err();
        let volume = client.wait_volume(scene.id()).await.unwrap().into_inner();
        assert_eq!(volume.status(), VolumeStatus::Available);
        assert!(volume.error.contains("cancelled"), "{volume:?}");
    });
    assert!(scene.assert_whole("undone behind"));
    run.stop();
}

#[test]
fn a_volume_can_be_deleted_meanwhile() {
    let (scene, run) = Scene::new();
    let (mut client, mut volumes) = (run.client(), run.volumes());
    run.block_on(async {
        scene.world.faults.hold_call("create_volume");
        volumes.restore_volume(scene.request()).await.unwrap();
        scene.world.faults.happened().await;
        let deleting = {
            let (mut client, id) = (client.clone(), scene.volume.clone());
            tokio::spawn(async move { lab::delete_volume(&mut client, &id).await })
        };
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        scene.world.faults.clear();
        deleting.await.unwrap().unwrap();
        let gone = client.get_volume(scene.id()).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
    });
    run.stop();
    let left = scene.world.storage.leftovers();
    assert!(
        left.volumes.is_empty() && left.attached.is_empty(),
        "{left:?}"
    );
}

/// Every call of it fails once. What is said is what is true, and asked again it is done.
#[test]
fn each_of_its_calls_fails() {
    for fault in [Fault::Fail, Fault::DoneThenFail] {
        for number in 1.. {
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
            if name.is_none() {
                assert!(number > 5, "it makes calls");
                break;
            }
        }
    }
}

/// The manager is killed before and after every call. The next one goes on, nobody asking.
#[test]
fn killed_at_each_of_its_calls() {
    for fault in [Fault::Hang, Fault::DoneThenHang] {
        for number in 1.. {
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
            let ended = run.block_on(client.wait_volume(scene.id()));
            let ended = ended.unwrap().into_inner();
            assert_eq!(ended.status(), VolumeStatus::Available, "{when}");
            let is_as_it_was = scene.assert_whole(&when);
            if was_begun == VolumeStatus::Restoring {
                assert!(!is_as_it_was && ended.error.is_empty(), "{when}: {ended:?}");
            }
            run.block_on(scene.restore(&mut client, &mut volumes))
                .unwrap_or_else(|status| panic!("{when}: asked again: {status}"));
            assert!(!scene.assert_whole(&when), "{when}");
            run.stop();
            if name.is_none() {
                assert!(number > 5, "it makes calls");
                break;
            }
        }
    }
}

/// Killed while it is being given up: the next start ends that.
#[test]
fn killed_while_it_is_cancelled() {
    for fault in [Fault::Hang, Fault::DoneThenHang] {
        for number in 1.. {
            let (scene, run) = Scene::patient();
            let mut volumes = run.volumes();
            let name = run.block_on(async {
                scene.world.faults.hold_call("replace_volume");
                volumes.restore_volume(scene.request()).await.unwrap();
                scene.world.faults.happened().await;
                let id = scene.volume.parse().unwrap();
                scene.world.storage.hold_device(&id, true);
                scene.world.faults.clear();
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
            let id = scene.volume.parse().unwrap();
            scene.world.storage.hold_device(&id, false);
            let run = scene.world.start();
            let mut client = run.client();
            let ended = run.block_on(client.wait_volume(scene.id()));
            let ended = ended.unwrap().into_inner();
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
