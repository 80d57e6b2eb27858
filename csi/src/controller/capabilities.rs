//! What the controller can do, and what a volume can be used for.

use stockpot_proto::csi::v1::{
    ControllerGetCapabilitiesResponse, ControllerServiceCapability,
    ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse,
    controller_service_capability::{Rpc, Type, rpc},
    validate_volume_capabilities_response::Confirmed,
};
use tonic::Status;

use super::{ControllerService, volume::VolumeParameters};
use crate::request::{self, Capability, RequestError};

/// The capabilities that the controller claims; every call that belongs to one of them works.
pub(super) fn claimed() -> ControllerGetCapabilitiesResponse {
    let capabilities = [
        rpc::Type::CreateDeleteVolume,
        rpc::Type::ListVolumes,
        rpc::Type::GetCapacity,
        rpc::Type::CreateDeleteSnapshot,
        rpc::Type::ListSnapshots,
        rpc::Type::CloneVolume,
        rpc::Type::ExpandVolume,
        rpc::Type::SingleNodeMultiWriter,
    ];
    ControllerGetCapabilitiesResponse {
        capabilities: capabilities
            .into_iter()
            .map(|kind| ControllerServiceCapability {
                r#type: Some(Type::Rpc(Rpc {
                    r#type: kind.into(),
                })),
            })
            .collect(),
    }
}

/// Confirms what is asked for, or says why not.
pub(super) async fn validate(
    service: &ControllerService,
    request: ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, Status> {
    request::existing_id("volume_id", "volume", &request.volume_id)?;
    if request.volume_capabilities.is_empty() {
        let field = "volume_capabilities";
        return Err(RequestError::Missing { field }.into());
    }
    service.manager.volume(&request.volume_id).await?;
    let supported = Capability::parse_all(&request.volume_capabilities)
        .and_then(|_| VolumeParameters::parse(&request.parameters))
        .and_then(|_| super::volume::no_mutable_parameters(&request.mutable_parameters));
    Ok(match supported {
        Ok(()) => ValidateVolumeCapabilitiesResponse {
            confirmed: Some(Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            }),
            message: String::new(),
        },
        Err(error) => ValidateVolumeCapabilitiesResponse {
            confirmed: None,
            message: error.to_string(),
        },
    })
}
