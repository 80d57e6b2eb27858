//! The client of the manager on this node.

use std::{path::PathBuf, time::Duration};

use stockpot_proto::stockpot::v1::{self as api, manager_client::ManagerClient};
use tonic::{Code, Request, Status, transport::Channel};

use crate::codes;

/// How long one call to the manager may take; none of them waits for data to be moved.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection that is made when it is first needed, and again when it broke.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    client: ManagerClient<Channel>,
}

/// One method per call: sets the deadline and translates the error.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ty;)*) => {
        $($(#[$doc])*
        pub(crate) async fn $name(&self, request: $request) -> Result<$answer, Status> {
            let mut request = Request::new(request);
            request.set_timeout(CALL_TIMEOUT);
            let answer = self.client.clone().$name(request).await;
            answer.map(tonic::Response::into_inner).map_err(codes::from_manager)
        })*
    };
}

impl Manager {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            client: stockpot_proto::socket::manager(socket),
        }
    }

    calls! {
        get_info(api::GetInfoRequest) -> api::GetInfoResponse;
        get_capacity(api::GetCapacityRequest) -> api::GetCapacityResponse;
        create_volume(api::CreateVolumeRequest) -> api::Volume;
        list_volumes(api::ListVolumesRequest) -> api::ListVolumesResponse;
        delete_volume(api::DeleteVolumeRequest) -> api::DeleteVolumeResponse;
        extend_volume(api::ExtendVolumeRequest) -> api::Volume;
        attach_volume(api::AttachVolumeRequest) -> api::AttachVolumeResponse;
        create_snapshot(api::CreateSnapshotRequest) -> api::Snapshot;
        list_snapshots(api::ListSnapshotsRequest) -> api::ListSnapshotsResponse;
        delete_snapshot(api::DeleteSnapshotRequest) -> api::DeleteSnapshotResponse;
    }

    /// The volume, or `NOT_FOUND`.
    pub(crate) async fn volume(&self, volume_id: &str) -> Result<api::Volume, Status> {
        let request = api::GetVolumeRequest {
            volume_id: volume_id.to_owned(),
        };
        let mut request = Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let answer = self.client.clone().get_volume(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(codes::from_manager)
    }

    /// Lets go of a volume's device; a volume that is not there has none.
    pub(crate) async fn detach(&self, volume_id: &str) -> Result<(), Status> {
        let request = api::DetachVolumeRequest {
            volume_id: volume_id.to_owned(),
        };
        let mut request = Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let answer = self.client.clone().detach_volume(request).await;
        answer.map(drop).map_err(codes::from_manager)
    }

    /// Waits until the volume is in a final status, for `limit` at most; `None` when that has passed.
    pub(crate) async fn wait_volume(
        &self,
        volume_id: &str,
        limit: Duration,
    ) -> Result<Option<api::Volume>, Status> {
        let request = api::GetVolumeRequest {
            volume_id: volume_id.to_owned(),
        };
        let mut request = Request::new(request);
        request.set_timeout(limit);
        let mut client = self.client.clone();
        match tokio::time::timeout(limit, client.wait_volume(request)).await {
            Ok(Ok(volume)) => Ok(Some(volume.into_inner())),
            // Both are ways in which the transport tells that the time is up.
            Ok(Err(status))
                if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) =>
            {
                Ok(None)
            }
            Ok(Err(status)) => Err(codes::from_manager(status)),
            Err(_) => Ok(None),
        }
    }
}
