//! Volumes that were there before: brought under management, let go, broken and killed in between.

use std::fs;

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{SIZE, World, content};
use crate::lab::{self, Client, Run, Volumes};

/// A manager, and something with content that is not its own.
fn begin(world: &World) -> (Run, Client, Volumes) {
    let path = world.storage.make_foreign("data", SIZE);
    content().write_to(&path).unwrap();
    let run = world.start();
    let (client, volumes) = (run.client(), run.volumes());
    (run, client, volumes)
}

#[test]
fn a_volume_is_adopted_used_and_let_go() {
    let world = World::new();
    let (run, mut client, mut volumes) = begin(&world);
    let mut backups = run.backups();
    run.block_on(async {
        let volume = lab::adopt(&mut volumes, "fake/data", "").await.unwrap();
        assert_eq!((volume.name.as_str(), volume.size_bytes), ("data", SIZE));
        assert_eq!(volume.status(), api::VolumeStatus::Available);
        assert_eq!(volume.metadata["owner"], "shop");
        world.assert_content(&volume.volume_id);
        let again = lab::adopt(&mut volumes, "fake/data", "data").await.unwrap();
        assert_eq!(again, volume);
        let other = lab::adopt(&mut volumes, "fake/data", "other").await;
        assert_eq!(other.unwrap_err().code(), Code::AlreadyExists);

        // All that is done with a volume is done with it; and it is never formatted.
        let done = lab::backed_up(&mut backups, "data", "b", false).await;
        world.assert_restores(&mut client, &done.snapshot_id).await;
        let id = volume.volume_id.as_str();
        let attach = api::AttachVolumeRequest {
            volume_id: id.to_owned(),
            read_only: false,
            as_attached: false,
        };
        let attached = client.attach_volume(attach).await.unwrap().into_inner();
        assert!(attached.has_content_source);
        let refused = lab::release(&mut volumes, id).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("detach"), "{refused}");
        let volume_id = id.to_owned();
        let detach = api::DetachVolumeRequest { volume_id };
        client.detach_volume(detach).await.unwrap();
        let cut = lab::snapshot_of(id, "s", "");
        let cut = lab::ready_snapshot(&mut client, &cut).await.unwrap();
        let refused = lab::release(&mut volumes, id).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(&cut.snapshot_id), "{refused}");
        let snapshot = &cut.snapshot_id;
        lab::delete_snapshot(&mut client, snapshot).await.unwrap();

        // By its name; what is kept for the next backup is no reason to stay.
        assert_eq!(
            lab::release(&mut volumes, "data").await.unwrap(),
            "fake/data"
        );
        assert!(lab::volumes(&mut client).await.is_empty());
        let gone = lab::release(&mut volumes, "data").await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
        world.assert_restores(&mut client, &done.snapshot_id).await;
    });
    run.stop();
    assert_eq!(world.storage.foreign(), ["data"]);
    let left = fs::read(world.dir.path().join("data/f-data")).unwrap();
    assert!(
        left == content().to_vec(),
        "its bytes are not what they were"
    );
    assert!(world.storage.leftovers().snapshots.is_empty());
}

#[test]
fn what_cannot_be_adopted_says_why() {
    let world = World::new();
    let (run, mut client, mut volumes) = begin(&world);
    world.storage.make_foreign("pool0", SIZE);
    run.block_on(async {
        for (source, name, code, says) in [
            ("fake/pool0", "", Code::FailedPrecondition, "it is a pool"),
            ("fake/none", "", Code::FailedPrecondition, "in no pool"),
            ("vg9/data", "", Code::FailedPrecondition, "in no pool"),
            ("data", "", Code::InvalidArgument, "VG/LV"),
            ("fake/-rf", "", Code::InvalidArgument, "-rf"),
            ("fake/data", "a\nb", Code::InvalidArgument, "control"),
            ("/dev/null", "", Code::InvalidArgument, "/dev/null"),
        ] {
            let refused = lab::adopt(&mut volumes, source, name).await.unwrap_err();
            assert_eq!(refused.code(), code, "{source}: {refused}");
            assert!(refused.message().contains(says), "{source}: {refused}");
        }
        let request = lab::empty_volume("taken", SIZE);
        let own = lab::available_volume(&mut client, &request).await.unwrap();
        let refused = lab::adopt(&mut volumes, "fake/data", "taken").await;
        assert_eq!(refused.unwrap_err().code(), Code::AlreadyExists);
        assert_eq!(lab::volumes(&mut client).await.len(), 1);

        // One that was made here gets a name when it is let go.
        let request = |name: &str| api::ReleaseVolumeRequest {
            volume_id: own.volume_id.clone(),
            lv_name: name.to_owned(),
        };
        for (name, code) in [
            ("a/b", Code::InvalidArgument),
            ("data", Code::AlreadyExists),
        ] {
            let refused = volumes.release_volume(request(name)).await.unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
            assert_eq!(lab::volumes(&mut client).await.len(), 1);
        }
        let released = volumes.release_volume(request("mine")).await.unwrap();
        assert_eq!(released.into_inner().released, "fake/mine");
    });
    assert!(run.findings(false).is_empty());
    run.stop();
    assert_eq!(world.storage.foreign(), ["data", "mine", "pool0"]);
}

#[test]
fn an_adoption_that_fails_leaves_it_as_it_was() {
    for fault in [Fault::Fail, Fault::DoneThenFail] {
        let world = World::new();
        let (run, mut client, mut volumes) = begin(&world);
        run.block_on(async {
            world.faults.choose(1, fault);
            lab::adopt(&mut volumes, "fake/data", "").await.unwrap_err();
            assert_eq!(world.faults.clear(), Some("adopt_volume"));
            assert_eq!(world.storage.foreign(), ["data"], "{fault:?}");
            assert!(lab::volumes(&mut client).await.is_empty());
            let volume = lab::adopt(&mut volumes, "fake/data", "").await.unwrap();
            world.assert_content(&volume.volume_id);

            // A release that fails is done or not; either can be asked for again.
            world.faults.choose(1, fault);
            lab::release(&mut volumes, "data").await.unwrap_err();
            assert_eq!(world.faults.clear(), Some("release_volume"));
            let is_done = lab::volumes(&mut client).await.is_empty();
            assert_eq!(is_done, fault == Fault::DoneThenFail);
            assert_eq!(world.storage.foreign().is_empty(), !is_done);
            if !is_done {
                lab::release(&mut volumes, "data").await.unwrap();
            }
        });
        run.stop();
    }
}

/// The storage has done it and did not say so: asking again is enough, no start is needed.
#[test]
fn what_was_not_answered_is_settled_when_it_is_asked_for_again() {
    let world = World::new();
    let (run, mut client, mut volumes) = begin(&world);
    run.block_on(async {
        world.faults.choose(1, Fault::DoneUnanswered);
        lab::adopt(&mut volumes, "fake/data", "web")
            .await
            .unwrap_err();
        assert_eq!(world.faults.clear(), Some("adopt_volume"));
        assert!(lab::volumes(&mut client).await.is_empty());
        let volume = lab::adopt(&mut volumes, "fake/data", "web").await.unwrap();
        assert_eq!(volume.name, "web");
        world.assert_content(&volume.volume_id);

        world.faults.choose(1, Fault::DoneUnanswered);
        lab::release(&mut volumes, "web").await.unwrap_err();
        assert_eq!(world.faults.clear(), Some("release_volume"));
        let gone = lab::release(&mut volumes, "web").await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound, "{gone}");
        assert!(lab::volumes(&mut client).await.is_empty());
        let volume = lab::adopt(&mut volumes, "fake/data", "").await.unwrap();
        world.assert_content(&volume.volume_id);
    });
    assert!(run.findings(true).is_empty());
    run.stop();
}

#[test]
fn one_that_is_killed_is_finished_or_forgotten() {
    for (fault, is_done) in [(Fault::Hang, false), (Fault::DoneThenHang, true)] {
        let world = World::new();
        let (run, _client, mut volumes) = begin(&world);
        world.faults.choose(1, fault);
        run.block_on(async {
            tokio::select! {
                done = lab::adopt(&mut volumes, "fake/data", "web") => panic!("{done:?}"),
                name = world.faults.happened() => assert_eq!(name, "adopt_volume"),
            }
        });
        run.kill();
        world.faults.clear();
        let run = world.start();
        let (mut client, mut volumes) = (run.client(), run.volumes());
        run.block_on(async {
            let found = lab::volumes(&mut client).await;
            assert_eq!(found.len(), usize::from(is_done), "{found:?}");
            let volume = lab::adopt(&mut volumes, "fake/data", "web").await.unwrap();
            assert_eq!((volume.name.as_str(), volume.metadata.len()), ("web", 1));
            world.assert_content(&volume.volume_id);
            world.faults.choose(1, fault);
            tokio::select! {
                done = lab::release(&mut volumes, "web") => panic!("{done:?}"),
                name = world.faults.happened() => assert_eq!(name, "release_volume"),
            }
        });
        run.kill();
        world.faults.clear();
        let run = world.start();
        let (mut client, mut volumes) = (run.client(), run.volumes());
        run.block_on(async {
            let left = lab::volumes(&mut client).await;
            assert_eq!(left.len(), usize::from(!is_done), "{left:?}");
            if !is_done {
                world.assert_content(&left[0].volume_id);
                lab::release(&mut volumes, "web").await.unwrap();
            }
        });
        assert!(run.findings(true).is_empty());
        run.stop();
        assert_eq!(world.storage.foreign(), ["data"]);
    }
}
