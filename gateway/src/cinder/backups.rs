//! Backups.

pub(super) mod change;
pub(super) mod create;
pub(super) mod list;
pub(super) mod record;
pub(super) mod restore;
mod view;

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use super::{Fault, not_found, refused};
use crate::state::Gateway;

/// As in the path.
const COLLECTION: &str = "backups";

/// The backup of an id.
pub(super) async fn find(gateway: &Gateway, id: &str) -> Result<api::Backup, Fault> {
    let request = api::GetBackupRequest {
        backup_id: id.to_owned(),
    };
    match gateway.manager.backups().get_backup(request).await {
        // A name finds it, too, and names are Cinder's own.
        Ok(found) if found.get_ref().backup_id == id => Ok(found.into_inner()),
        Ok(_) => Err(not_found("Backup", id)),
        Err(status) if status.code() == Code::NotFound => Err(not_found("Backup", id)),
        Err(status) => Err(refused("backup")(status)),
    }
}
