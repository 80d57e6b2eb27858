//! The Controller service: one file per group of calls.

mod capabilities;
mod capacity;
mod list;
mod snapshot;
mod volume;

use stockpot_proto::csi::v1::{self as csi, controller_server::Controller};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{codes::not_claimed, log, manager::Manager};

/// The Controller service of one node: its volumes are made and reachable there.
#[derive(Debug)]
pub(crate) struct ControllerService {
    pub(crate) manager: Manager,
    pub(crate) node_id: String,
    pub(crate) topology_key: String,
    /// Cancelled when the server shall stop: ends waiting, not work.
    pub(crate) stopping: CancellationToken,
}

impl ControllerService {
    /// Where the volumes are reachable.
    fn topology(&self) -> csi::Topology {
        csi::Topology {
            segments: [(self.topology_key.clone(), self.node_id.clone())].into(),
        }
    }

    /// Whether a term of a topology requirement is met by this node.
    fn matches(&self, topology: &csi::Topology) -> bool {
        topology
            .segments
            .iter()
            .all(|(key, value)| *key == self.topology_key && *value == self.node_id)
    }
}

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(
        &self,
        request: Request<csi::CreateVolumeRequest>,
    ) -> Result<Response<csi::CreateVolumeResponse>, Status> {
        log::call(request, |r, deadline| volume::create(self, r, deadline)).await
    }

    async fn delete_volume(
        &self,
        request: Request<csi::DeleteVolumeRequest>,
    ) -> Result<Response<csi::DeleteVolumeResponse>, Status> {
        log::call(request, |r, _| volume::delete(self, r)).await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<csi::ControllerExpandVolumeRequest>,
    ) -> Result<Response<csi::ControllerExpandVolumeResponse>, Status> {
        log::call(request, |r, _| volume::expand(self, r)).await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<csi::ValidateVolumeCapabilitiesResponse>, Status> {
        log::call(request, |r, _| capabilities::validate(self, r)).await
    }

    async fn controller_get_capabilities(
        &self,
        request: Request<csi::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<csi::ControllerGetCapabilitiesResponse>, Status> {
        log::call(request, |_, _| async { Ok(capabilities::claimed()) }).await
    }

    async fn list_volumes(
        &self,
        request: Request<csi::ListVolumesRequest>,
    ) -> Result<Response<csi::ListVolumesResponse>, Status> {
        log::call(request, |r, _| list::volumes(self, r)).await
    }

    async fn list_snapshots(
        &self,
        request: Request<csi::ListSnapshotsRequest>,
    ) -> Result<Response<csi::ListSnapshotsResponse>, Status> {
        log::call(request, |r, _| list::snapshots(self, r)).await
    }

    async fn get_capacity(
        &self,
        request: Request<csi::GetCapacityRequest>,
    ) -> Result<Response<csi::GetCapacityResponse>, Status> {
        log::call(request, |r, _| capacity::get(self, r)).await
    }

    async fn create_snapshot(
        &self,
        request: Request<csi::CreateSnapshotRequest>,
    ) -> Result<Response<csi::CreateSnapshotResponse>, Status> {
        log::call(request, |r, _| snapshot::create(self, r)).await
    }

    async fn delete_snapshot(
        &self,
        request: Request<csi::DeleteSnapshotRequest>,
    ) -> Result<Response<csi::DeleteSnapshotResponse>, Status> {
        log::call(request, |r, _| snapshot::delete(self, r)).await
    }

    async fn controller_publish_volume(
        &self,
        _: Request<csi::ControllerPublishVolumeRequest>,
    ) -> Result<Response<csi::ControllerPublishVolumeResponse>, Status> {
        Err(not_claimed("ControllerPublishVolume"))
    }

    async fn controller_unpublish_volume(
        &self,
        _: Request<csi::ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<csi::ControllerUnpublishVolumeResponse>, Status> {
        Err(not_claimed("ControllerUnpublishVolume"))
    }

    async fn controller_list_volume_health(
        &self,
        _: Request<csi::ControllerListVolumeHealthRequest>,
    ) -> Result<Response<csi::ControllerListVolumeHealthResponse>, Status> {
        Err(not_claimed("ControllerListVolumeHealth"))
    }

    async fn controller_get_volume_health(
        &self,
        _: Request<csi::ControllerGetVolumeHealthRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeHealthResponse>, Status> {
        Err(not_claimed("ControllerGetVolumeHealth"))
    }

    async fn get_snapshot(
        &self,
        _: Request<csi::GetSnapshotRequest>,
    ) -> Result<Response<csi::GetSnapshotResponse>, Status> {
        Err(not_claimed("GetSnapshot"))
    }

    async fn controller_get_volume(
        &self,
        _: Request<csi::ControllerGetVolumeRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeResponse>, Status> {
        Err(not_claimed("ControllerGetVolume"))
    }

    async fn controller_modify_volume(
        &self,
        _: Request<csi::ControllerModifyVolumeRequest>,
    ) -> Result<Response<csi::ControllerModifyVolumeResponse>, Status> {
        Err(not_claimed("ControllerModifyVolume"))
    }
}
