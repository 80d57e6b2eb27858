//! Backups.

pub(super) mod change;
pub(super) mod create;
pub(super) mod list;
pub(super) mod record;
pub(super) mod restore;
mod view;

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{Fault, ids, listed, not_found, refused};
use crate::state::Gateway;

/// As in the path.
const COLLECTION: &str = "backups";

/// The backup of an id, the manager's or Cinder's.
pub(super) async fn find(gateway: &Gateway, id: &str) -> Result<api::Backup, Fault> {
    let absent = || not_found("Backup", id);
    let Some(end) = ids::end_of(id) else {
        return get(gateway, id).await?.ok_or_else(absent);
    };
    let ours = format!("bak-{}-{end}", listed::node(gateway).await?);
    if let Some(found) = get(gateway, &ours).await? {
        return Ok(found);
    }
    // Another node's, that was imported.
    let mut all = listed::backups(gateway, "").await?.into_iter();
    all.find(|backup| ids::ends(&backup.backup_id, &end))
        .ok_or_else(absent)
}

async fn get(gateway: &Gateway, id: &str) -> Result<Option<api::Backup>, Fault> {
    let request = api::GetBackupRequest {
        backup_id: id.to_owned(),
    };
    match gateway.manager.backups().get_backup(request).await {
        // A name finds it, too, and names are Cinder's own.
        Ok(found) => Ok(Some(found.into_inner()).filter(|backup| backup.backup_id == id)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(refused("backup")(status)),
    }
}
