//! What has a name is the same when it is asked for again.

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{refused_snapshot, refused_volume};
use crate::{
    lab,
    world::{SIZE, World, filled_volume},
};

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
