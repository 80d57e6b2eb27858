//! Snapshots in Cinder's sense: local copies of a volume.

pub(super) mod change;
pub(super) mod list;
mod view;

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{Fault, ids, listed, not_found, refused};
use crate::state::Gateway;

/// As in the path.
const COLLECTION: &str = "snapshots";

/// The snapshot of an id, the manager's or Cinder's.
pub(super) async fn find(gateway: &Gateway, id: &str) -> Result<api::Snapshot, Fault> {
    let absent = || not_found("Snapshot", id);
    let Some(end) = ids::end_of(id) else {
        return get(gateway, id.to_owned()).await?.ok_or_else(absent);
    };
    // As those are called that have only a local copy.
    if let Some(found) = get(gateway, format!("snap-{end}")).await? {
        return Ok(found);
    }
    let all = listed::snapshots(gateway).await?.into_iter();
    let mut local = all.filter(view::is_local);
    local
        .find(|snapshot| ids::ends(&snapshot.snapshot_id, &end))
        .ok_or_else(absent)
}

async fn get(gateway: &Gateway, snapshot_id: String) -> Result<Option<api::Snapshot>, Fault> {
    let request = api::GetSnapshotRequest { snapshot_id };
    match gateway.manager.manager().get_snapshot(request).await {
        // What is only in a bucket is a backup here, if it is anything.
        Ok(found) => Ok(Some(found.into_inner()).filter(view::is_local)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(refused("snapshot")(status)),
    }
}
