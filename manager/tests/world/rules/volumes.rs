//! Volumes: where from, how large, attached.

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::refused_volume;
use crate::{
    lab,
    world::{SIZE, World, filled_volume},
};

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
