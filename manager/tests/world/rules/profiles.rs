//! Profiles that cannot be used, and those that cannot be deleted.

use std::fs;

use stockpot_proto::stockpot::v1::{self as api, profiles_client::ProfilesClient};
use tonic::Code;

use super::refused_snapshot;
use crate::{
    lab,
    world::{World, filled_volume},
};

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
