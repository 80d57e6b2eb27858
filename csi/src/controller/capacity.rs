//! Room in a pool.

use stockpot_proto::{
    csi::v1::{GetCapacityRequest, GetCapacityResponse},
    stockpot::v1 as api,
};
use tonic::Status;

use super::{
    ControllerService,
    volume::{VolumeParameters, size},
};
use crate::request::Capability;

/// Room for volumes of the kind that is asked for: none on other nodes, none for capabilities that are not offered.
pub(super) async fn get(
    service: &ControllerService,
    request: GetCapacityRequest,
) -> Result<GetCapacityResponse, Status> {
    let parameters = VolumeParameters::parse(&request.parameters)?;
    let none = GetCapacityResponse::default();
    let is_elsewhere = request
        .accessible_topology
        .as_ref()
        .is_some_and(|topology| !service.matches(topology));
    let is_unsupported = request
        .volume_capabilities
        .iter()
        .any(|c| Capability::parse(Some(c)).is_err());
    if is_elsewhere || is_unsupported {
        return Ok(none);
    }
    let request = api::GetCapacityRequest {
        pool: parameters.pool,
    };
    let capacity = service.manager.get_capacity(request).await?;
    Ok(GetCapacityResponse {
        available_capacity: size(capacity.available_bytes),
        maximum_volume_size: (capacity.maximum_volume_bytes > 0)
            .then(|| size(capacity.maximum_volume_bytes)),
        minimum_volume_size: None,
    })
}
