//! What is claimed, and room in a pool.

use stockpot_proto::csi::v1::{
    self as csi, controller_service_capability, volume_capability::access_mode::Mode,
};
use tonic::Code;

use crate::{
    MIB, code,
    support::{Bench, create_volume, map, mounted},
    volume,
};

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
