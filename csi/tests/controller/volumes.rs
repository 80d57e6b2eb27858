//! Volumes that come and go, and requests that make none.

use stockpot_proto::csi::v1::{self as csi, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    MIB, code, from_snapshot,
    support::{Bench, create_volume, map, mounted},
    volume,
};

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
