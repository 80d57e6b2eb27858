//! Identity and Controller, over a real socket, against a manager in memory.

#![expect(
    clippy::unwrap_used,
    reason = "helpers fail as the test that calls them"
)]

#[expect(dead_code, reason = "shared with the tests of the node")]
mod support;

use std::time::{Duration, Instant};

use stockpot_proto::{
    csi::v1::{
        self as csi, controller_service_capability, plugin_capability,
        volume_capability::access_mode::Mode,
        volume_content_source::{self as content, Type as Content},
    },
    stockpot::v1::{self as api, CopyState, VolumeStatus},
};
use support::{Bench, create_volume, map, mounted};
use tonic::{Code, Request};

const MIB: i64 = 1 << 20;

fn code<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> Code {
    let status = result.expect_err("it has to fail");
    assert!(status.details().is_empty());
    assert!(!status.message().is_empty());
    status.code()
}

fn create_snapshot(name: &str, volume_id: &str, profile: &str) -> csi::CreateSnapshotRequest {
    csi::CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume_id.to_owned(),
        parameters: match profile {
            "" => map(&[]),
            profile => map(&[("profile", profile)]),
        },
        ..Default::default()
    }
}

fn from_snapshot(name: &str, snapshot_id: &str, size_bytes: i64) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        volume_content_source: Some(csi::VolumeContentSource {
            r#type: Some(Content::Snapshot(content::SnapshotSource {
                snapshot_id: snapshot_id.to_owned(),
            })),
        }),
        ..create_volume(name, size_bytes)
    }
}

async fn volume(bench: &mut Bench, request: csi::CreateVolumeRequest) -> csi::Volume {
    let answer = bench.controller.create_volume(request).await.unwrap();
    answer.into_inner().volume.unwrap()
}

async fn snapshot(bench: &mut Bench, request: csi::CreateSnapshotRequest) -> csi::Snapshot {
    let answer = bench.controller.create_snapshot(request).await.unwrap();
    answer.into_inner().snapshot.unwrap()
}

#[tokio::test]
async fn identity() {
    let mut bench = Bench::start(false).await;
    let info = bench
        .identity
        .get_plugin_info(csi::GetPluginInfoRequest {})
        .await;
    assert_eq!(info.unwrap().into_inner().name, "csi.stockpot.dev");
    let capabilities = bench
        .identity
        .get_plugin_capabilities(csi::GetPluginCapabilitiesRequest {})
        .await
        .unwrap()
        .into_inner()
        .capabilities;
    assert!(capabilities.iter().any(|c| matches!(
        &c.r#type,
        Some(plugin_capability::Type::Service(s))
            if s.r#type() == plugin_capability::service::Type::VolumeAccessibilityConstraints
    )));
    let ready = bench.identity.probe(csi::ProbeRequest {}).await.unwrap();
    assert_eq!(ready.into_inner().ready, Some(true));
    bench.manager.state().not_ready_reason = "recovering".to_owned();
    let ready = bench.identity.probe(csi::ProbeRequest {}).await.unwrap();
    assert_eq!(ready.into_inner().ready, Some(false));
    let node = bench
        .node
        .node_get_info(csi::NodeGetInfoRequest {})
        .await
        .unwrap();
    let topology = node.into_inner().accessible_topology.unwrap();
    assert_eq!(
        topology.segments,
        map(&[("topology.csi.stockpot.dev/node", "node-1")])
    );
    bench.stop().await;
}

#[tokio::test]
async fn no_manager_is_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(false).await;
    // A second server must not take the socket of a living one.
    let config = stockpot_csi::CsiConfig::new(bench.path("csi.sock"), dir.path().join("m"), "n");
    let second = stockpot_csi::serve(config, std::future::pending()).await;
    let taken = stockpot_proto::socket::BindError::InUse {
        path: bench.path("csi.sock"),
    };
    let error = second.unwrap_err();
    assert!(
        matches!(&error, stockpot_csi::ServeError::Socket(why) if why.to_string() == taken.to_string()),
        "{error}"
    );
    bench.cut_off_manager();
    bench.restart_frontend().await;
    let probe = bench.identity.probe(csi::ProbeRequest {}).await;
    assert_eq!(code(probe), Code::FailedPrecondition);
    let list = bench
        .controller
        .list_volumes(csi::ListVolumesRequest::default())
        .await;
    assert_eq!(code(list), Code::Unavailable);
    bench.stop().await;
}

#[tokio::test]
async fn a_volume_comes_and_goes() {
    let mut bench = Bench::start(false).await;
    let mut request = create_volume("pvc-1", 5 * MIB);
    request.parameters = map(&[
        ("pool", "default"),
        ("csi.storage.k8s.io/pvc/name", "claim"),
        ("csi.storage.k8s.io/provisioner-secret-name", "secret"),
    ]);
    let made = volume(&mut bench, request.clone()).await;
    assert_eq!(made.capacity_bytes, 5 * MIB);
    assert_eq!(made.accessible_topology.len(), 1);
    let metadata = bench.manager.state().last_metadata.clone();
    assert_eq!(metadata["csi.storage.k8s.io/pvc/name"], "claim");
    assert_eq!(metadata["fs_type"], "ext4");
    assert!(!metadata.contains_key("csi.storage.k8s.io/provisioner-secret-name"));
    assert_eq!(volume(&mut bench, request.clone()).await, made);

    request.capacity_range = Some(csi::CapacityRange {
        required_bytes: 6 * MIB,
        limit_bytes: 0,
    });
    let other_size = bench.controller.create_volume(request).await;
    assert_eq!(code(other_size), Code::AlreadyExists);

    for id in [made.volume_id.as_str(), "absent", "../../etc", "ÄÖ"] {
        let volume_id = id.to_owned();
        let request = csi::DeleteVolumeRequest {
            volume_id,
            ..Default::default()
        };
        bench.controller.delete_volume(request).await.unwrap();
    }
    let none = bench
        .controller
        .delete_volume(csi::DeleteVolumeRequest::default())
        .await;
    assert_eq!(code(none), Code::InvalidArgument);
    assert!(bench.manager.state().volumes.is_empty());
    bench.stop().await;
}

/// Requests that make no volume, and the code that each is answered with.
fn refused_volumes() -> Vec<(csi::CreateVolumeRequest, Code)> {
    let good = || create_volume("v", MIB);
    let mode = |mode| csi::CreateVolumeRequest {
        volume_capabilities: vec![mounted(mode, "ext4")],
        ..good()
    };
    let parameters = |pairs: &[(&str, &str)]| csi::CreateVolumeRequest {
        parameters: map(pairs),
        ..good()
    };
    let range = |required_bytes, limit_bytes| csi::CreateVolumeRequest {
        capacity_range: Some(csi::CapacityRange {
            required_bytes,
            limit_bytes,
        }),
        ..good()
    };
    let unchangeable = csi::CreateVolumeRequest {
        mutable_parameters: map(&[("rate", "1")]),
        ..good()
    };
    let no_capability = csi::CreateVolumeRequest {
        volume_capabilities: vec![],
        ..good()
    };
    let no_source = csi::CreateVolumeRequest {
        volume_content_source: Some(csi::VolumeContentSource { r#type: None }),
        ..good()
    };
    vec![
        (create_volume("", MIB), Code::InvalidArgument),
        (create_volume(&"x".repeat(129), MIB), Code::InvalidArgument),
        (create_volume("a\u{1}b", MIB), Code::InvalidArgument),
        (mode(Mode::MultiNodeMultiWriter), Code::InvalidArgument),
        (mode(Mode::Unknown), Code::InvalidArgument),
        (parameters(&[("poool", "x")]), Code::InvalidArgument),
        (parameters(&[("sourceCopy", "moon")]), Code::InvalidArgument),
        (range(-1, 0), Code::InvalidArgument),
        (range(2, 1), Code::OutOfRange),
        (on_node("node-2"), Code::ResourceExhausted),
        (from_snapshot("v", "snap-absent", 0), Code::NotFound),
        (from_snapshot("v", "Not/An/Id", 0), Code::NotFound),
        (from_snapshot("v", "", 0), Code::InvalidArgument),
        (unchangeable, Code::InvalidArgument),
        (no_capability, Code::InvalidArgument),
        (no_source, Code::InvalidArgument),
    ]
}

fn on_node(node: &str) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        accessibility_requirements: Some(csi::TopologyRequirement {
            requisite: vec![csi::Topology {
                segments: map(&[("topology.csi.stockpot.dev/node", node)]),
            }],
            preferred: vec![],
        }),
        ..create_volume("v", MIB)
    }
}

#[tokio::test]
async fn requests_that_make_no_volume() {
    let mut bench = Bench::start(false).await;
    for (request, expected) in refused_volumes() {
        let text = format!("{request:?}");
        let answer = bench.controller.create_volume(request).await;
        assert_eq!(code(answer), expected, "{text}");
    }
    assert!(bench.manager.state().volumes.is_empty());
    volume(&mut bench, on_node("node-1")).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_restore_goes_on_behind_the_caller() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("v", 4 * MIB)).await;
    let cut = snapshot(&mut bench, create_snapshot("s", &source.volume_id, "")).await;
    bench.manager.state().restores_hang = true;

    let mut request = Request::new(from_snapshot("r", &cut.snapshot_id, 0));
    request.set_timeout(Duration::from_secs(1));
    let started = Instant::now();
    let answer = bench.controller.create_volume(request).await;
    assert_eq!(code(answer), Code::Aborted);
    assert!(started.elapsed() < Duration::from_secs(1));

    let restored = {
        let mut state = bench.manager.state();
        let restored = state.volumes.values_mut().find(|v| v.name == "r").unwrap();
        restored.set_status(VolumeStatus::Available);
        restored.volume_id.clone()
    };
    let found = volume(&mut bench, from_snapshot("r", &cut.snapshot_id, 0)).await;
    assert_eq!(found.volume_id, restored);
    assert_eq!(found.capacity_bytes, 4 * MIB);
    let source = found.content_source.unwrap().r#type.unwrap();
    assert!(matches!(source, Content::Snapshot(s) if s.snapshot_id == cut.snapshot_id));

    let small = bench
        .controller
        .create_volume(from_snapshot("x", &cut.snapshot_id, MIB))
        .await;
    assert_eq!(code(small), Code::OutOfRange);

    // One that was given up: its own code and words reach the caller.
    {
        let mut state = bench.manager.state();
        let failed = state.volumes.values_mut().find(|v| v.name == "r").unwrap();
        failed.set_status(VolumeStatus::Error);
        failed.error = "a chunk is damaged".to_owned();
        failed.error_code = 15;
    }
    let answer = bench
        .controller
        .create_volume(from_snapshot("r", &cut.snapshot_id, 0))
        .await;
    assert_eq!(code(answer), Code::DataLoss);
    bench.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_restore() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("v", 4 * MIB)).await;
    let cut = snapshot(&mut bench, create_snapshot("s", &source.volume_id, "")).await;
    bench.manager.state().restores_hang = true;
    let mut controller = bench.controller.clone();
    let mut request = Request::new(from_snapshot("r", &cut.snapshot_id, 0));
    request.set_timeout(Duration::from_secs(60));
    let waiting = tokio::spawn(async move { controller.create_volume(request).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    bench.stop_frontend().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
    bench.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_ready_when_the_bucket_has_it() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("v", 4 * MIB)).await;
    let local = snapshot(&mut bench, create_snapshot("l", &source.volume_id, "")).await;
    assert!(local.ready_to_use);

    let request = create_snapshot("c", &source.volume_id, "offsite");
    let cut = snapshot(&mut bench, request.clone()).await;
    assert!(!cut.ready_to_use);
    assert_eq!(cut.size_bytes, 4 * MIB);
    let set = |bench: &Bench, change: &dyn Fn(&mut api::Snapshot)| {
        change(
            bench
                .manager
                .state()
                .snapshots
                .get_mut(&cut.snapshot_id)
                .unwrap(),
        );
    };
    set(&bench, &|s| s.set_cloud(CopyState::Present));
    set(&bench, &|s| s.ready = true);
    let ready = snapshot(&mut bench, request.clone()).await;
    assert!(ready.ready_to_use);
    assert_eq!(
        (ready.creation_time, ready.size_bytes),
        (cut.creation_time, cut.size_bytes)
    );

    set(&bench, &|s| s.ready = false);
    set(&bench, &|s| s.set_cloud(CopyState::Failed));
    set(&bench, &|s| s.error_code = 7);
    set(&bench, &|s| s.error = "access denied".to_owned());
    let failed = bench.controller.create_snapshot(request).await;
    assert_eq!(code(failed), Code::PermissionDenied);

    let other = volume(&mut bench, create_volume("v2", MIB)).await;
    let cases = [
        (
            create_snapshot("", &source.volume_id, ""),
            Code::InvalidArgument,
        ),
        (create_snapshot("n", "", ""), Code::InvalidArgument),
        (create_snapshot("n", "absent", ""), Code::NotFound),
        (create_snapshot("n", "NOT AN ID", ""), Code::NotFound),
        (
            create_snapshot("n", &source.volume_id, "nope"),
            Code::InvalidArgument,
        ),
        (
            create_snapshot("l", &other.volume_id, ""),
            Code::AlreadyExists,
        ),
    ];
    for (request, expected) in cases {
        let text = format!("{request:?}");
        assert_eq!(
            code(bench.controller.create_snapshot(request).await),
            expected,
            "{text}"
        );
    }
    for id in [cut.snapshot_id.as_str(), "absent", "s3://not/an/id"] {
        let request = csi::DeleteSnapshotRequest {
            snapshot_id: id.to_owned(),
            ..Default::default()
        };
        bench.controller.delete_snapshot(request).await.unwrap();
    }
    assert_eq!(bench.manager.state().snapshots.len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn lists_page_by_page() {
    let mut bench = Bench::start(false).await;
    for i in 0..5 {
        volume(&mut bench, create_volume(&format!("v{i}"), MIB)).await;
    }
    let mut seen = Vec::new();
    let mut request = csi::ListVolumesRequest {
        max_entries: 4,
        ..Default::default()
    };
    loop {
        let page = bench
            .controller
            .list_volumes(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(page.entries.len() <= 4);
        seen.extend(
            page.entries
                .into_iter()
                .map(|e| e.volume.unwrap().volume_id),
        );
        if page.next_token.is_empty() {
            break;
        }
        request.starting_token = page.next_token;
    }
    assert_eq!(seen.len(), 5);
    request.starting_token = "no-such-token".to_owned();
    assert_eq!(
        code(bench.controller.list_volumes(request.clone()).await),
        Code::Aborted
    );
    request.max_entries = -1;
    assert_eq!(
        code(bench.controller.list_volumes(request).await),
        Code::InvalidArgument
    );
    bench.stop().await;
}

#[tokio::test]
async fn lists_snapshots_by_what_is_asked() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("s", MIB)).await.volume_id;
    for i in 0..3 {
        snapshot(&mut bench, create_snapshot(&format!("s{i}"), &source, "")).await;
    }
    let list = |snapshot_id: &str, source_volume_id: &str| csi::ListSnapshotsRequest {
        snapshot_id: snapshot_id.to_owned(),
        source_volume_id: source_volume_id.to_owned(),
        ..Default::default()
    };
    for (request, count) in [
        (list("", ""), 3),
        (list("", &source), 3),
        (list("absent", ""), 0),
        (list("NOT AN ID", ""), 0),
        (list("", "vol-n1-9"), 0),
    ] {
        let page = bench
            .controller
            .list_snapshots(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(page.entries.len(), count);
    }
    let bad = csi::ListSnapshotsRequest {
        starting_token: "x".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        code(bench.controller.list_snapshots(bad).await),
        Code::Aborted
    );
    bench.stop().await;
}

#[tokio::test]
async fn capabilities_and_capacity() {
    let mut bench = Bench::start(false).await;
    let claimed = bench
        .controller
        .controller_get_capabilities(csi::ControllerGetCapabilitiesRequest {})
        .await
        .unwrap()
        .into_inner()
        .capabilities;
    assert!(
        claimed
            .iter()
            .all(|c| matches!(&c.r#type, Some(controller_service_capability::Type::Rpc(_))))
    );
    let made = volume(&mut bench, create_volume("v", MIB)).await;
    let validate = |id: &str, mode| csi::ValidateVolumeCapabilitiesRequest {
        volume_id: id.to_owned(),
        volume_capabilities: vec![mounted(mode, "xfs")],
        ..Default::default()
    };
    let ask = validate(&made.volume_id, Mode::SingleNodeWriter);
    let answer = bench
        .controller
        .validate_volume_capabilities(ask)
        .await
        .unwrap();
    assert!(answer.into_inner().confirmed.is_some());
    let ask = validate(&made.volume_id, Mode::MultiNodeReaderOnly);
    let answer = bench
        .controller
        .validate_volume_capabilities(ask)
        .await
        .unwrap()
        .into_inner();
    assert!(answer.confirmed.is_none() && !answer.message.is_empty());
    let ask = validate("absent", Mode::SingleNodeWriter);
    assert_eq!(
        code(bench.controller.validate_volume_capabilities(ask).await),
        Code::NotFound
    );

    bench.stop().await;
}

#[tokio::test]
async fn room_in_a_pool() {
    let mut bench = Bench::start(false).await;
    let request = csi::GetCapacityRequest::default();
    let room = bench
        .controller
        .get_capacity(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(room.available_capacity, 1 << 40);
    let elsewhere = csi::GetCapacityRequest {
        accessible_topology: Some(csi::Topology {
            segments: map(&[("topology.csi.stockpot.dev/node", "node-2")]),
        }),
        ..request.clone()
    };
    let room = bench
        .controller
        .get_capacity(elsewhere)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(room.available_capacity, 0);
    let nowhere = csi::GetCapacityRequest {
        parameters: map(&[("pool", "nope")]),
        ..request
    };
    assert_eq!(
        code(bench.controller.get_capacity(nowhere).await),
        Code::InvalidArgument
    );

    let not_claimed = bench
        .controller
        .controller_publish_volume(csi::ControllerPublishVolumeRequest::default())
        .await;
    assert_eq!(code(not_claimed), Code::Unimplemented);
    bench.stop().await;
}

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
