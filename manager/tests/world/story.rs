//! The whole promise, with a catalog that is lost on the way.

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use crate::lab;
use crate::world::{SIZE, World, filled_volume};

#[test]
fn a_snapshot_goes_up_and_comes_back_without_a_catalog() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let snapshot = run.block_on(async {
        let volume = filled_volume(&world, &mut client).await;
        let request = lab::snapshot_of(&volume.volume_id, "nightly", "offsite");
        let first = lab::cut(&mut client, &request).await;
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(first.snapshot_id, ready.snapshot_id);
        assert_eq!(
            (first.size_bytes, first.cut_at),
            (ready.size_bytes, ready.cut_at)
        );
        assert!(
            ready.cloud_location.contains(&ready.snapshot_id),
            "{ready:?}"
        );
        lab::delete_volume(&mut client, &volume.volume_id)
            .await
            .unwrap();
        let snapshot_id = ready.snapshot_id.clone();
        lab::drop_local_copy(&mut client, &snapshot_id)
            .await
            .unwrap();
        ready
    });
    run.stop();
    assert!(world.storage.leftovers().volumes.is_empty());
    assert!(world.storage.leftovers().snapshots.is_empty());
    world.forget_catalog();

    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let listed = lab::list(&mut client).await;
        assert_eq!(listed.len(), 1);
        let found = &listed[0];
        assert_eq!(found.snapshot_id, snapshot.snapshot_id);
        assert_eq!(found.name, "nightly");
        assert_eq!(
            (found.size_bytes, found.cut_at),
            (snapshot.size_bytes, snapshot.cut_at)
        );
        assert_eq!(found.local(), api::CopyState::None);
        assert!(found.ready);

        let local = lab::volume_from("back", &snapshot.snapshot_id, api::SourceCopy::Local);
        let refused = client.create_volume(local).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let request = lab::volume_from("back", &snapshot.snapshot_id, api::SourceCopy::Auto);
        let volume = lab::available_volume(&mut client, &request).await.unwrap();
        assert_eq!(volume.size_bytes, SIZE);
        world.assert_content(&volume.volume_id);
        let again = lab::available_volume(&mut client, &request).await.unwrap();
        assert_eq!(again.volume_id, volume.volume_id);

        lab::delete_snapshot(&mut client, &snapshot.snapshot_id)
            .await
            .unwrap();
        lab::delete_snapshot(&mut client, &snapshot.snapshot_id)
            .await
            .unwrap();
        assert!(lab::list(&mut client).await.is_empty());
        let gone = lab::volume_from("more", &snapshot.snapshot_id, api::SourceCopy::Auto);
        assert_eq!(
            client.create_volume(gone).await.unwrap_err().code(),
            Code::NotFound
        );
    });
    run.stop();
    world.assert_tidy("at the end");
}
