//! Snapshots: cut now, in the bucket later.

use std::collections::HashMap;

use stockpot_proto::{
    csi::v1::{
        CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest,
        DeleteSnapshotResponse, Snapshot,
    },
    stockpot::v1::{self as api, CopyState},
};
use tonic::Status;

use super::{ControllerService, volume::size};
use crate::{
    codes,
    request::{self, is_id},
};

/// Name of the class parameter that names a profile.
const PROFILE: &str = "profile";

/// Cuts the snapshot, or finds the one that was cut under this name, and says how far its copies are.
pub(super) async fn create(
    service: &ControllerService,
    request: CreateSnapshotRequest,
) -> Result<CreateSnapshotResponse, Status> {
    request::name(&request.name)?;
    request::existing_id("source_volume_id", "volume", &request.source_volume_id)?;
    let profile = parse_profile(&request.parameters)?;
    let snapshot = service
        .manager
        .create_snapshot(api::CreateSnapshotRequest {
            name: request.name,
            source_volume_id: request.source_volume_id,
            profile,
            metadata: request::orchestrator_names(&request.parameters),
        })
        .await?;
    if let Some(status) = failure(&snapshot) {
        return Err(status);
    }
    if snapshot.cut_at.is_none() {
        // Without a time of the cut there is nothing that the caller could hold on to.
        return Err(Status::aborted("the snapshot is being cut: ask again"));
    }
    Ok(CreateSnapshotResponse {
        snapshot: Some(answer(snapshot)),
    })
}

/// Removes both copies and cancels a running upload.
pub(super) async fn delete(
    service: &ControllerService,
    request: DeleteSnapshotRequest,
) -> Result<DeleteSnapshotResponse, Status> {
    if request.snapshot_id.is_empty() {
        let field = "snapshot_id";
        return Err(request::RequestError::Missing { field }.into());
    }
    // Nothing can have such an id: it is as good as deleted.
    if is_id(&request.snapshot_id) {
        let request = api::DeleteSnapshotRequest {
            snapshot_id: request.snapshot_id,
            only: None,
        };
        service.manager.delete_snapshot(request).await?;
    }
    Ok(DeleteSnapshotResponse {})
}

/// A snapshot in the words of the interface. Size and time are those of the cut and never change.
pub(super) fn answer(snapshot: api::Snapshot) -> Snapshot {
    Snapshot {
        size_bytes: size(snapshot.size_bytes),
        snapshot_id: snapshot.snapshot_id,
        source_volume_id: snapshot.source_volume_id,
        creation_time: snapshot.cut_at,
        ready_to_use: snapshot.ready,
        group_snapshot_id: String::new(),
        accessible_topology: Vec::new(),
    }
}

/// The error of a snapshot whose copy was given up: only `CreateSnapshot` can tell it to the caller.
fn failure(snapshot: &api::Snapshot) -> Option<Status> {
    let wanted = if snapshot.profile.is_empty() {
        snapshot.local()
    } else {
        snapshot.cloud()
    };
    (wanted == CopyState::Failed && !snapshot.ready)
        .then(|| codes::carried(snapshot.error_code, &snapshot.error))
}

fn parse_profile(parameters: &HashMap<String, String>) -> Result<String, request::RequestError> {
    request::only_known(parameters, &[PROFILE], PROFILE)?;
    match parameters.get(PROFILE) {
        None => Ok(String::new()),
        // An empty name would silently mean: no cloud copy.
        Some(name) if name.trim().is_empty() => Err(request::RequestError::Invalid {
            field: PROFILE,
            why: "is empty: leave the parameter out for a local snapshot".to_owned(),
        }),
        Some(name) => Ok(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn only_the_copy_that_was_asked_for_can_fail() {
        let mut snapshot = api::Snapshot {
            profile: "offsite".to_owned(),
            local: CopyState::Present.into(),
            cloud: CopyState::Failed.into(),
            error: "access denied".to_owned(),
            error_code: 7,
            ..Default::default()
        };
        let status = failure(&snapshot).unwrap();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.message(), "access denied");
        snapshot.cloud = CopyState::Pending.into();
        assert!(failure(&snapshot).is_none());
        // Retention has removed the local copy of one that is in the bucket.
        snapshot.cloud = CopyState::Present.into();
        snapshot.local = CopyState::Deleted.into();
        snapshot.ready = true;
        assert!(failure(&snapshot).is_none());
    }

    #[test]
    fn profiles() {
        let of = |pairs: &[(&str, &str)]| {
            let map = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
            parse_profile(&map.collect())
        };
        assert_eq!(of(&[]), Ok(String::new()));
        assert_eq!(of(&[("profile", "offsite")]), Ok("offsite".to_owned()));
        assert!(of(&[("profile", " ")]).is_err());
        assert!(of(&[("Profile", "offsite")]).is_err());
    }
}
