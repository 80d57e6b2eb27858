//! The Identity service, and a frontend without its manager.

use stockpot_proto::csi::v1::{self as csi, plugin_capability};
use tonic::Code;

use crate::{
    code,
    support::{Bench, map},
};

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
