//! Rules that callers rely on: which code when, and what is the same when it is asked for again.

use std::fs;

use stockpot_proto::stockpot::v1::{self as api, profiles_client::ProfilesClient};
use tonic::Code;

use crate::lab::{self, Client, Run};
use crate::world::{SIZE, World, filled_volume};

#[test]
fn refused_before_the_cut() {
    let world = World::new();
    let profiles = world.dir.path().join("profiles");
    fs::write(
        profiles.join("local.yaml"),
        "{name: local, snapshotProperties: {}}",
    )
    .unwrap();
    let mixed = "{name: mixed, provisioningProperties: {ioConnectivity: {}},
                  snapshotProperties: {topology: {bucket: bbb}}}";
    fs::write(profiles.join("mixed.yaml"), mixed).unwrap();
    fs::write(
        profiles.join("broken.yaml"),
        "{name: broken, snapshotPropertys: {}}",
    )
    .unwrap();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        for (profile, says) in [
            ("unknown", "no profile unknown"),
            ("local", "no topology"),
            ("mixed", "provisioningProperties"),
            ("broken", "snapshotPropertys"),
        ] {
            let request = lab::snapshot_of(&volume, "s", profile);
            let refused = client.create_snapshot(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{profile}");
            assert!(refused.message().contains(says), "{profile}: {refused}");
        }
        // What a repository cannot hold.
        let many = (0..257).map(|n| (format!("k{n}"), String::new())).collect();
        let long = [("k".repeat(129), String::new())].into();
        let nameless = [(String::new(), "v".to_owned())].into();
        for metadata in [many, long, nameless] {
            let mut request = lab::snapshot_of(&volume, "s", "offsite");
            request.metadata = metadata;
            let refused = client.create_snapshot(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
        let request = lab::snapshot_of("vol-absent", "s", "");
        assert_eq!(refused_snapshot(&mut client, request).await, Code::NotFound);
        assert!(lab::list(&mut client).await.is_empty());
        let listed = client
            .list_profiles(api::ListProfilesRequest {})
            .await
            .unwrap();
        let names: Vec<_> = listed
            .into_inner()
            .profiles
            .into_iter()
            .map(|p| (p.name, p.has_topology))
            .collect();
        let expected = [("local", false), ("mixed", false), ("offsite", true)];
        assert_eq!(names, expected.map(|(name, has)| (name.to_owned(), has)));
    });
    assert!(world.storage.leftovers().snapshots.is_empty());
    run.stop();
}

#[test]
fn volume_names_are_idempotent_with_their_properties() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await;
        let same = client
            .create_volume(lab::empty_volume("source", SIZE))
            .await
            .unwrap();
        assert_eq!(same.into_inner().volume_id, volume.volume_id);
        let larger = lab::empty_volume("source", SIZE + 1);
        assert_eq!(
            refused_volume(&mut client, larger).await,
            Code::AlreadyExists
        );
        let smaller = lab::empty_volume("source", SIZE - 4096);
        assert_eq!(
            refused_volume(&mut client, smaller.clone()).await,
            Code::AlreadyExists
        );
        // The storage rounds up: it is what that becomes, or one of a range.
        let ranged = api::CreateVolumeRequest {
            limit_bytes: 2 * SIZE,
            ..smaller
        };
        for good in [lab::empty_volume("source", SIZE - 4095), ranged] {
            let same = client.create_volume(good).await.unwrap().into_inner();
            assert_eq!(same.volume_id, volume.volume_id);
        }
        let mut labelled = lab::empty_volume("source", SIZE);
        labelled.metadata.insert("a".to_owned(), "b".to_owned());
        assert_eq!(
            refused_volume(&mut client, labelled).await,
            Code::AlreadyExists
        );
        for (bad, code) in [
            (lab::empty_volume("", SIZE), Code::InvalidArgument),
            (lab::empty_volume("none", 0), Code::InvalidArgument),
            (
                api::CreateVolumeRequest {
                    limit_bytes: 5000,
                    ..lab::empty_volume("odd", 4097)
                },
                Code::OutOfRange,
            ),
            (
                api::CreateVolumeRequest {
                    pool: "other".to_owned(),
                    ..lab::empty_volume("p", SIZE)
                },
                Code::InvalidArgument,
            ),
        ] {
            assert_eq!(refused_volume(&mut client, bad).await, code);
        }
    });
    run.stop();
}

#[test]
fn snapshot_names_are_idempotent_with_their_properties() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await;
        let request = lab::snapshot_of(&volume.volume_id, "s", "");
        let snapshot = lab::cut(&mut client, &request).await;
        assert!(snapshot.ready);
        assert_eq!(snapshot.cloud(), api::CopyState::None);
        let again = lab::cut(&mut client, &request).await;
        assert_eq!(again, snapshot);
        let mut other = request.clone();
        other.profile = "offsite".to_owned();
        assert_eq!(
            refused_snapshot(&mut client, other).await,
            Code::AlreadyExists
        );
        let second = lab::available_volume(&mut client, &lab::empty_volume("second", SIZE))
            .await
            .unwrap();
        let mut other = request.clone();
        other.source_volume_id = second.volume_id;
        assert_eq!(
            refused_snapshot(&mut client, other).await,
            Code::AlreadyExists
        );
    });
    run.stop();
}

#[test]
fn copies_and_sizes_of_a_source() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "local", "");
        let local = lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap()
            .snapshot_id;
        let request = lab::snapshot_of(&volume, "both", "offsite");
        let both = lab::ready_snapshot(&mut client, &request)
            .await
            .unwrap()
            .snapshot_id;

        let cloud = lab::volume_from("a", &local, api::SourceCopy::Cloud);
        assert_eq!(
            refused_volume(&mut client, cloud).await,
            Code::FailedPrecondition
        );
        for copy in [
            api::SourceCopy::Local,
            api::SourceCopy::Cloud,
            api::SourceCopy::Auto,
        ] {
            let mut small = lab::volume_from("small", &both, copy);
            small.required_bytes = SIZE - 1;
            assert_eq!(refused_volume(&mut client, small).await, Code::OutOfRange);
            let mut limited = lab::volume_from("limited", &both, copy);
            limited.limit_bytes = SIZE - 1;
            assert_eq!(refused_volume(&mut client, limited).await, Code::OutOfRange);
            let request = lab::volume_from(&format!("from-{copy:?}"), &both, copy);
            let made = lab::available_volume(&mut client, &request).await.unwrap();
            world.assert_content(&made.volume_id);
        }
        let mut larger = lab::volume_from("larger", &both, api::SourceCopy::Local);
        larger.required_bytes = 2 * SIZE;
        let made = lab::available_volume(&mut client, &larger).await.unwrap();
        assert_eq!(made.size_bytes, 2 * SIZE);
        let absent = lab::volume_from("b", "snap-absent", api::SourceCopy::Auto);
        assert_eq!(refused_volume(&mut client, absent).await, Code::NotFound);

        let mut clone = lab::empty_volume("clone", SIZE);
        clone.source = Some(api::create_volume_request::Source::VolumeId(volume.clone()));
        let made = lab::available_volume(&mut client, &clone).await.unwrap();
        world.assert_content(&made.volume_id);
        assert_eq!(made.source_volume_id, volume);
    });
    run.stop();
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn an_attached_volume_is_kept_and_survives_a_restart() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let volume_id = run.block_on(async {
        let volume_id = filled_volume(&world, &mut client).await.volume_id;
        let request = api::AttachVolumeRequest {
            volume_id: volume_id.clone(),
            read_only: false,
            as_attached: false,
        };
        let first = client
            .attach_volume(request.clone())
            .await
            .unwrap()
            .into_inner();
        let again = client
            .attach_volume(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(first, again);
        assert!(!first.has_content_source);
        let shown = client.get_volume(api::GetVolumeRequest {
            volume_id: volume_id.clone(),
        });
        assert_eq!(
            shown.await.unwrap().into_inner().device_path,
            first.device_path
        );
        let read_only = api::AttachVolumeRequest {
            read_only: true,
            as_attached: false,
            ..request
        };
        assert_eq!(
            client.attach_volume(read_only).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        let refused = lab::delete_volume(&mut client, &volume_id)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        // A snapshot of a volume in use is the usual case.
        let request = lab::snapshot_of(&volume_id, "live", "offsite");
        lab::ready_snapshot(&mut client, &request).await.unwrap();
        volume_id
    });
    drop(client);
    run.kill();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let request = api::GetVolumeRequest {
            volume_id: volume_id.clone(),
        };
        let volume = client.get_volume(request).await.unwrap().into_inner();
        assert_eq!(volume.status(), api::VolumeStatus::InUse);
        let request = api::ExtendVolumeRequest {
            volume_id: volume_id.clone(),
            required_bytes: SIZE + 1,
            limit_bytes: 0,
        };
        let grown = client.extend_volume(request).await.unwrap().into_inner();
        assert_eq!(grown.size_bytes, SIZE + 4096);
        for _ in 0..2 {
            let request = api::DetachVolumeRequest {
                volume_id: volume_id.clone(),
            };
            client.detach_volume(request).await.unwrap();
        }
        lab::delete_volume(&mut client, &volume_id).await.unwrap();
        lab::delete_volume(&mut client, &volume_id).await.unwrap();
        // Its snapshots live on.
        assert_eq!(lab::list(&mut client).await.len(), 1);
    });
    run.stop();
    world.assert_tidy("at the end");
}

#[test]
fn a_volume_does_not_shrink() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume_id = filled_volume(&world, &mut client).await.volume_id;
        let extend = |required_bytes, limit_bytes| api::ExtendVolumeRequest {
            volume_id: volume_id.clone(),
            required_bytes,
            limit_bytes,
        };
        // Again is success, smaller only where a range allows it.
        for _ in 0..2 {
            let grown = client.extend_volume(extend(SIZE + 1, 0)).await.unwrap();
            assert_eq!(grown.into_inner().size_bytes, SIZE + 4096);
        }
        let smaller = client.extend_volume(extend(SIZE, 0)).await.unwrap_err();
        assert_eq!(smaller.code(), Code::OutOfRange, "{smaller}");
        assert!(smaller.message().contains("already"), "{smaller}");
        let ranged = client.extend_volume(extend(SIZE, 2 * SIZE)).await.unwrap();
        assert_eq!(ranged.into_inner().size_bytes, SIZE + 4096);
    });
    run.stop();
}

#[test]
fn a_restore_that_no_pool_could_hold_is_refused_at_once() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "one", "offsite");
        let snapshot = lab::ready_snapshot(&mut client, &request).await.unwrap();
        let huge = api::CreateVolumeRequest {
            required_bytes: 2 << 40,
            ..lab::volume_from("huge", &snapshot.snapshot_id, api::SourceCopy::Cloud)
        };
        let refused = client.create_volume(huge).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        assert!(refused.message().contains("pool pool"), "{refused}");
        assert_eq!(lab::volumes(&mut client).await.len(), 1);
    });
    run.stop();
}

#[test]
fn a_profile_that_alone_leads_to_copies_stays_unless_it_is_forced() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let mut profiles = ProfilesClient::new(run.channel());
    run.block_on(async {
        let delete = |name: &str, force| api::DeleteProfileRequest {
            profile: name.to_owned(),
            force,
        };
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "one", "offsite");
        lab::ready_snapshot(&mut client, &request).await.unwrap();
        let refused = profiles.delete_profile(delete("offsite", false)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("1 cloud copy"), "{refused}");
        // Another way to the same place, once it was gone.
        lab::write_profile(world.dir.path(), "second", "{bucket: backups, prefix: a}");
        profiles
            .delete_profile(delete("offsite", false))
            .await
            .unwrap();
        assert_eq!(
            lab::list(&mut client).await[0].cloud(),
            api::CopyState::Present
        );
        let refused = profiles.delete_profile(delete("second", false)).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
        profiles
            .delete_profile(delete("second", true))
            .await
            .unwrap();
        assert_eq!(
            lab::list(&mut client).await[0].cloud(),
            api::CopyState::Unknown
        );
    });
    run.stop();
}

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
fn pages_of_snapshots_and_volumes() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        for n in 0..5 {
            let request = lab::snapshot_of(
                &volume,
                &format!("s{n}"),
                if n % 2 == 0 { "" } else { "offsite" },
            );
            lab::ready_snapshot(&mut client, &request).await.unwrap();
        }
        let mut told = Vec::new();
        let mut starting_token = String::new();
        loop {
            let request = api::ListSnapshotsRequest {
                max_entries: 2,
                starting_token,
                ..Default::default()
            };
            let (ids, next) = page(&mut client, request).await;
            told.extend(ids);
            starting_token = next;
            if starting_token.is_empty() {
                break;
            }
        }
        assert_eq!(told.len(), 5);
        let one = api::ListSnapshotsRequest {
            snapshot_id: told[3].clone(),
            ..Default::default()
        };
        let only = (vec![told[3].clone()], String::new());
        assert_eq!(page(&mut client, one).await, only);
        let none = api::ListSnapshotsRequest {
            source_volume_id: "vol-x".to_owned(),
            ..Default::default()
        };
        assert!(page(&mut client, none).await.0.is_empty());
        let request = api::ListSnapshotsRequest {
            starting_token: "x".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            client.list_snapshots(request).await.unwrap_err().code(),
            Code::Aborted
        );
        let request = api::ListVolumesRequest {
            max_entries: 1,
            ..Default::default()
        };
        let page = client.list_volumes(request).await.unwrap().into_inner();
        assert_eq!((page.volumes.len(), page.next_token.as_str()), (1, ""));
    });
    run.stop();
}

#[test]
fn many_callers_of_one_name_get_one_thing() {
    let world = World::new();
    let run = world.start();
    let client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client.clone()).await.volume_id;
        let asked = (0..8).map(|_| {
            let mut client = client.clone();
            let request = lab::snapshot_of(&volume, "s", "offsite");
            async move { lab::ready_snapshot(&mut client, &request).await.unwrap() }
        });
        let got = futures::future::join_all(asked).await;
        assert!(got.iter().all(|s| s.snapshot_id == got[0].snapshot_id));
        let asked = (0..8).map(|_| {
            let mut client = client.clone();
            let request = lab::volume_from("v", &got[0].snapshot_id, api::SourceCopy::Cloud);
            async move { lab::available_volume(&mut client, &request).await.unwrap() }
        });
        let got = futures::future::join_all(asked).await;
        assert!(got.iter().all(|v| v.volume_id == got[0].volume_id));
        world.assert_content(&got[0].volume_id);
        let deleted = (0..8).map(|_| {
            let (mut client, id) = (client.clone(), got[0].volume_id.clone());
            async move { lab::delete_volume(&mut client, &id).await.unwrap() }
        });
        futures::future::join_all(deleted).await;
        assert_eq!(world.storage.leftovers().volumes, [volume]);
    });
    run.stop();
    world.assert_tidy("at the end");
}

/// The code with which a volume is refused.
async fn refused_volume(client: &mut Client, request: api::CreateVolumeRequest) -> Code {
    client.create_volume(request).await.unwrap_err().code()
}

/// The code with which a snapshot is refused.
async fn refused_snapshot(client: &mut Client, request: api::CreateSnapshotRequest) -> Code {
    client.create_snapshot(request).await.unwrap_err().code()
}

/// The ids on a page, and the token of the next one.
async fn page(client: &mut Client, request: api::ListSnapshotsRequest) -> (Vec<String>, String) {
    let page = client.list_snapshots(request).await.unwrap().into_inner();
    let ids = page.snapshots.into_iter().map(|s| s.snapshot_id);
    (ids.collect(), page.next_token)
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
