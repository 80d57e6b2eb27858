//! Snapshots in Cinder's sense: local copies of a volume.

pub(super) mod change;
pub(super) mod list;
mod view;

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{Fault, not_found, refused};
use crate::state::Gateway;

/// As in the path.
const COLLECTION: &str = "snapshots";

/// The snapshot of an id.
pub(super) async fn find(gateway: &Gateway, id: &str) -> Result<api::Snapshot, Fault> {
    let request = api::GetSnapshotRequest {
        snapshot_id: id.to_owned(),
    };
    match gateway.manager.manager().get_snapshot(request).await {
        Ok(found) if view::is_local(found.get_ref()) => Ok(found.into_inner()),
        // What is only in a bucket is a backup here, if it is anything.
        Ok(_) => Err(not_found("Snapshot", id)),
        Err(status) if status.code() == Code::NotFound => Err(not_found("Snapshot", id)),
        Err(status) => Err(refused("snapshot")(status)),
    }
}
