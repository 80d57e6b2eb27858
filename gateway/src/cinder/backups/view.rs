//! A backup as Cinder shows it.

use serde_json::json;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus};

use super::COLLECTION;
use crate::cinder::{asked::Asked, fields, ids, page::Entry, words::Words};

/// A backup in Cinder's words.
pub(super) fn entry(asked: &Asked, backup: &api::Backup, being_restored: &[String]) -> Entry {
    let id = ids::shown(&backup.backup_id);
    let words = Words::read(&backup.metadata, &backup.name);
    let size_bytes = backup.progress.as_ref().map_or(0, |p| p.bytes_total);
    let mut view = json!({
        "id": id,
        "name": words.name,
        "description": words.description,
        "status": status(backup, being_restored),
        "size": fields::Gib::of(size_bytes),
        "volume_id": ids::shown(&backup.volume_id),
        "snapshot_id": words.snapshot.as_deref().map(ids::shown),
        "container": words.container.unwrap_or_else(|| backup.profile.clone()),
        "availability_zone": fields::ZONE,
        "created_at": fields::time(backup.created_at),
        "updated_at": fields::time(backup.ended_at.or(backup.cut_at)),
        "data_timestamp": fields::time(backup.cut_at),
        "fail_reason": fail_reason(backup),
        "is_incremental": shares(backup),
        // Each stands on its own: what a later one shares stays when an earlier one goes.
        "has_dependent_backups": false,
        // Chunks lie in packs that backups share, so no object is one backup's.
        "object_count": 0,
        "links": asked.links(COLLECTION, &id),
    });
    if asked.version.has(18) {
        view["os-backup-project-attr:project_id"] = json!(words.project);
    }
    if asked.version.has(43) {
        view["metadata"] = json!(words.metadata);
    }
    if asked.version.has(56) {
        view["user_id"] = json!(words.user);
    }
    Entry {
        project: words.project,
        view,
    }
}

/// Its status in Cinder's words.
pub(super) fn status(backup: &api::Backup, being_restored: &[String]) -> &'static str {
    match backup.status() {
        BackupStatus::Creating => "creating",
        BackupStatus::Available if being_restored.contains(&backup.snapshot_id) => "restoring",
        BackupStatus::Available => "available",
        BackupStatus::Cancelling => "deleting",
        BackupStatus::Cancelled
        | BackupStatus::Error
        | BackupStatus::Deleted
        | BackupStatus::Unspecified => "error",
    }
}

fn fail_reason(backup: &api::Backup) -> Option<String> {
    let why = match backup.status() {
        BackupStatus::Error => match backup.error.as_str() {
            "" => "it failed",
            error => error,
        },
        BackupStatus::Cancelled => "it was cancelled",
        BackupStatus::Deleted => "its copy in the bucket was deleted",
        _ => return None,
    };
    Some(why.to_owned())
}

/// Whether it sent only what an earlier one does not have.
fn shares(backup: &api::Backup) -> bool {
    matches!(backup.reason.as_str(), "incremental" | "compared")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_one_of_cinders() {
        let of = |s: BackupStatus, restored: &[String]| {
            let backup = api::Backup {
                status: s.into(),
                snapshot_id: "snap-1".to_owned(),
                ..Default::default()
            };
            (status(&backup, restored), fail_reason(&backup).is_some())
        };
        let restored = ["snap-1".to_owned()];
        assert_eq!(of(BackupStatus::Creating, &restored), ("creating", false));
        assert_eq!(of(BackupStatus::Available, &[]), ("available", false));
        assert_eq!(of(BackupStatus::Available, &restored), ("restoring", false));
        assert_eq!(of(BackupStatus::Cancelling, &[]), ("deleting", false));
        for failed in [
            BackupStatus::Cancelled,
            BackupStatus::Error,
            BackupStatus::Deleted,
        ] {
            assert_eq!(of(failed, &[]), ("error", true));
        }
    }
}
