//! All volumes, all snapshots, page by page.

use stockpot_proto::{
    csi::v1::{
        ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse,
        list_snapshots_response, list_volumes_response,
    },
    stockpot::v1::{self as api, VolumeStatus},
};
use tonic::{Code, Status};

use super::{ControllerService, snapshot, volume};
use crate::{
    codes,
    request::{RequestError, is_id},
};

/// The volumes that exist; not those that are still being made or removed.
pub(super) async fn volumes(
    service: &ControllerService,
    request: ListVolumesRequest,
) -> Result<ListVolumesResponse, Status> {
    let page = api::ListVolumesRequest {
        max_entries: max_entries(request.max_entries)?,
        starting_token: request.starting_token.clone(),
    };
    let page = service
        .manager
        .list_volumes(page)
        .await
        .map_err(|status| codes::bad_token(status, &request.starting_token))?;
    let exists = |volume: &api::Volume| {
        !matches!(
            volume.status(),
            VolumeStatus::Creating | VolumeStatus::Restoring | VolumeStatus::Deleting
        )
    };
    Ok(ListVolumesResponse {
        entries: page
            .volumes
            .into_iter()
            .filter(exists)
            .map(|volume| list_volumes_response::Entry {
                volume: Some(volume::answer(service, volume)),
                status: None,
            })
            .collect(),
        next_token: page.next_token,
    })
}

/// The snapshots that were cut, those found in buckets included.
pub(super) async fn snapshots(
    service: &ControllerService,
    request: ListSnapshotsRequest,
) -> Result<ListSnapshotsResponse, Status> {
    let max_entries = max_entries(request.max_entries)?;
    // Nothing can have such an id, so nothing is found.
    let is_impossible = |id: &str| !id.is_empty() && !is_id(id);
    if is_impossible(&request.snapshot_id) || is_impossible(&request.source_volume_id) {
        return Ok(ListSnapshotsResponse::default());
    }
    let page = api::ListSnapshotsRequest {
        max_entries,
        starting_token: request.starting_token.clone(),
        snapshot_id: request.snapshot_id,
        source_volume_id: request.source_volume_id,
        on_record_only: false,
    };
    let page = match service.manager.list_snapshots(page).await {
        Err(status) if status.code() == Code::NotFound => api::ListSnapshotsResponse::default(),
        page => page.map_err(|status| codes::bad_token(status, &request.starting_token))?,
    };
    Ok(ListSnapshotsResponse {
        entries: page
            .snapshots
            .into_iter()
            .filter(|snapshot| snapshot.cut_at.is_some())
            .map(|snapshot| list_snapshots_response::Entry {
                snapshot: Some(snapshot::answer(snapshot)),
            })
            .collect(),
        next_token: page.next_token,
    })
}

fn max_entries(max_entries: i32) -> Result<u32, RequestError> {
    u32::try_from(max_entries).map_err(|_| RequestError::Invalid {
        field: "max_entries",
        why: "is negative".to_owned(),
    })
}
