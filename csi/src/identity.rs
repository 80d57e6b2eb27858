//! Who the driver is, and whether it can work.

use stockpot_proto::{
    csi::v1::{
        GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
        GetPluginInfoResponse, PluginCapability, ProbeRequest, ProbeResponse,
        identity_server::Identity,
        plugin_capability::{self, Service, VolumeExpansion, service, volume_expansion},
    },
    stockpot::v1::GetInfoRequest,
};
use tonic::{Request, Response, Status};

use crate::{log, manager::Manager};

/// The Identity service.
#[derive(Debug)]
pub(crate) struct IdentityService {
    pub(crate) driver_name: String,
    pub(crate) manager: Manager,
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        request: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        log::call(request, |_, _| async {
            Ok(GetPluginInfoResponse {
                name: self.driver_name.clone(),
                vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Default::default()
            })
        })
        .await
    }

    async fn get_plugin_capabilities(
        &self,
        request: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        log::call(request, |_, _| async {
            let service = |kind: service::Type| PluginCapability {
                r#type: Some(plugin_capability::Type::Service(Service {
                    r#type: kind.into(),
                })),
            };
            let expansion = PluginCapability {
                r#type: Some(plugin_capability::Type::VolumeExpansion(VolumeExpansion {
                    r#type: volume_expansion::Type::Online.into(),
                })),
            };
            Ok(GetPluginCapabilitiesResponse {
                capabilities: vec![
                    service(service::Type::ControllerService),
                    service(service::Type::VolumeAccessibilityConstraints),
                    expansion,
                ],
            })
        })
        .await
    }

    async fn probe(
        &self,
        request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        log::call(request, |_, _| async {
            // A manager that cannot be reached is the specification's "not in a healthy state".
            let info = self
                .manager
                .get_info(GetInfoRequest {})
                .await
                .map_err(|status| Status::failed_precondition(status.message()))?;
            if !info.ready {
                tracing::info!(reason = info.not_ready_reason, "the manager is not ready");
            }
            Ok(ProbeResponse {
                ready: Some(info.ready),
            })
        })
        .await
    }
}
