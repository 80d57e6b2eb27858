//! The Node service, as far as it needs no device: what is checked before anything is done.

use stockpot_proto::csi::v1::{self as csi, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    MIB, code,
    support::{Bench, create_volume, mounted},
    volume,
};

#[tokio::test]
async fn a_nodes_requests_are_checked_before_anything_is_done() {
    let mut bench = Bench::start(false).await;
    let stage = |id: &str, path: &str| csi::NodeStageVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path: path.to_owned(),
        volume_capability: Some(mounted(Mode::SingleNodeWriter, "ext4")),
        ..Default::default()
    };
    for (request, expected) in [
        (stage("", "/x/y"), Code::InvalidArgument),
        (stage("v", ""), Code::InvalidArgument),
        (stage("v", "relative"), Code::InvalidArgument),
        (stage("v", "/x/../y"), Code::InvalidArgument),
        (stage("NOT AN ID", "/x/y"), Code::NotFound),
        (stage("absent", "/x/y"), Code::NotFound),
    ] {
        let text = format!("{request:?}");
        assert_eq!(
            code(bench.node.node_stage_volume(request).await),
            expected,
            "{text}"
        );
    }
    let mut flags = stage("v", "/x/y");
    let mut capability = mounted(Mode::SingleNodeWriter, "ext4");
    if let Some(csi::volume_capability::AccessType::Mount(mount)) = &mut capability.access_type {
        mount.mount_flags = vec!["bind".to_owned()];
    }
    flags.volume_capability = Some(capability);
    assert_eq!(
        code(bench.node.node_stage_volume(flags).await),
        Code::InvalidArgument
    );
    let publish = csi::NodePublishVolumeRequest {
        volume_id: "absent".to_owned(),
        target_path: "/x/y".to_owned(),
        volume_capability: Some(mounted(Mode::SingleNodeWriter, "ext4")),
        ..Default::default()
    };
    let not_staged = bench.node.node_publish_volume(publish.clone()).await;
    assert_eq!(code(not_staged), Code::FailedPrecondition);
    let absent = csi::NodePublishVolumeRequest {
        staging_target_path: "/x/s".to_owned(),
        ..publish
    };
    assert_eq!(
        code(bench.node.node_publish_volume(absent).await),
        Code::NotFound
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_volume_is_looked_for_where_it_is_said_to_be() {
    let mut bench = Bench::start(false).await;
    let stats = |volume_id: &str, path: &str| csi::NodeGetVolumeStatsRequest {
        volume_id: volume_id.to_owned(),
        volume_path: path.to_owned(),
        ..Default::default()
    };
    let made = volume(&mut bench, create_volume("v", MIB)).await.volume_id;
    for (request, expected) in [
        (stats("absent", "/x/y"), Code::NotFound),
        (stats("absent", "some/path"), Code::NotFound),
        (stats(&made, "some/path"), Code::NotFound),
        (stats(&made, "/x/y"), Code::NotFound),
        (stats(&made, ""), Code::InvalidArgument),
        (stats("", "/x/y"), Code::InvalidArgument),
    ] {
        let expand = csi::NodeExpandVolumeRequest {
            volume_id: request.volume_id.clone(),
            volume_path: request.volume_path.clone(),
            ..Default::default()
        };
        let text = format!("{request:?}");
        assert_eq!(
            code(bench.node.node_get_volume_stats(request).await),
            expected,
            "{text}"
        );
        assert_eq!(
            code(bench.node.node_expand_volume(expand).await),
            expected,
            "{text}"
        );
    }
    bench.stop().await;
}
