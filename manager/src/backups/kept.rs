//! Backups of a local snapshot that is there already: nothing is cut, the volume is not touched and may be gone, and the snapshot
//! stays as it is, however the backup ends. The backup shows what the snapshot shows.
//!
//! The cloud copy gets an id of its own, since an id is decided once in a bucket: so a snapshot whose backup failed or was
//! cancelled can be backed up again. One that has a cloud copy is not backed up twice.

use std::sync::Arc;

use stockpot_driver::SnapshotId;
use stockpot_proto::stockpot::v1 as api;

use super::create::{What, rows};
use crate::{
    Manager, ManagerError,
    catalog::{BackupRow, BackupSource, BackupStatus, CopyState, JobKind, SnapshotRow},
    codes, fault,
    locks::Subject,
    profile::Profile,
    snapshots::check_cloud_metadata,
};

impl Manager {
    /// Begins the backup of the snapshot that a request names.
    pub(super) async fn back_up_kept(
        self: &Arc<Self>,
        id: String,
        request: api::CreateBackupRequest,
        profile: &Profile,
        short_id: &str,
    ) -> Result<BackupRow, ManagerError> {
        let named = request.snapshot_id.as_str();
        let absent = || ManagerError::NotFound(format!("snapshot {named:?}"));
        let source: SnapshotId = named.parse().map_err(|_| absent())?;
        // Whoever deletes it waits until the rows stand.
        let _source = self.hold_snapshot(&source).await?;
        let row = self.catalog.snapshot(&source).await?.ok_or_else(absent)?;
        let volume = request.volume.as_str();
        let is_of = |name: &str| volume.is_empty() || volume == name;
        if !is_of(row.volume_id.as_str()) && !is_of(&row.volume_name) {
            return Err(ManagerError::InvalidArgument(format!(
                "snapshot {source} is of volume {}, not of {volume:?}",
                row.volume_id
            )));
        }
        self.check_to_be_backed_up(&row).await?;
        self.driver(&row.pool)?;
        let what = What {
            volume_id: &row.volume_id,
            volume_name: &row.volume_name,
            pool: &row.pool,
            source: BackupSource::Kept,
            size_bytes: row.size_bytes,
            cut_at_us: row.cut_at_us,
            consistency: row.consistency.clone(),
        };
        let (backup, snapshot) = rows(id, request, profile, short_id, what);
        check_cloud_metadata(&snapshot, Some(&backup.name))?;
        self.begin_kept(backup, snapshot, &source).await
    }

    /// Writes the rows and starts the upload.
    async fn begin_kept(
        self: &Arc<Self>,
        backup: BackupRow,
        snapshot: SnapshotRow,
        source: &SnapshotId,
    ) -> Result<BackupRow, ManagerError> {
        let id = backup.id.clone();
        let held = self.locks.hold(Subject::Backup(id.clone())).await?;
        let copy = self.hold_snapshot(&snapshot.id).await?;
        tracing::info!(backup_id = id, snapshot_id = %snapshot.id, from = %source, "a backup of a local snapshot begins");
        self.catalog
            .begin_kept_backup(backup.clone(), source)
            .await?;
        fault::reached("backup.row");
        let begun = self.begin_reading(&backup, snapshot).await;
        let noted = match &begun {
            Ok(()) => Ok(true),
            Err(error) => {
                let (from, to) = (BackupStatus::Creating, BackupStatus::Error);
                let failure = Some(codes::record(error));
                self.catalog.end_backup(&id, from, to, failure).await
            }
        };
        drop((held, copy));
        self.follow_backup(&id);
        self.notify();
        noted?;
        begun?;
        self.backup_row(&id).await
    }

    /// Refuses a snapshot that cannot be read, or has a cloud copy, or is about to.
    async fn check_to_be_backed_up(&self, row: &SnapshotRow) -> Result<(), ManagerError> {
        let id = &row.id;
        let refused = |why: String| Err(ManagerError::FailedPrecondition(why));
        if row.deleting.is_some() {
            return refused(format!("snapshot {id} is being deleted"));
        }
        match row.local {
            CopyState::Present => {}
            CopyState::Pending => {
                return refused(format!("snapshot {id} is not cut yet: ask again"));
            }
            CopyState::None | CopyState::Failed | CopyState::Deleted => {
                return refused(format!("snapshot {id} has no local copy to read"));
            }
        }
        match row.cloud {
            CopyState::Pending => {
                return refused(format!("snapshot {id} is being uploaded already"));
            }
            CopyState::Present => {
                let location = row.location.as_deref().unwrap_or("the bucket");
                return refused(format!(
                    "snapshot {id} has a cloud copy already, in {location}: restore from that, or cut another snapshot"
                ));
            }
            // Given up: this is another try, with an id of its own.
            CopyState::None | CopyState::Failed | CopyState::Deleted => {}
        }
        // Whatever else reads it would take its device away from under this one.
        if self
            .transfers
            .how_far(JobKind::Upload, id.as_str())
            .is_some()
        {
            return refused(format!(
                "snapshot {id} is being read already: ask again when that has ended"
            ));
        }
        for other in self.catalog.backups_from(id).await? {
            match other.status {
                BackupStatus::Creating | BackupStatus::Cancelling => {
                    return refused(format!(
                        "snapshot {id} is being uploaded already, by backup {}",
                        other.id
                    ));
                }
                BackupStatus::Available => {
                    return refused(format!(
                        "snapshot {id} has a cloud copy already, made by backup {}: restore from that, or delete it first",
                        other.id
                    ));
                }
                BackupStatus::Cancelled | BackupStatus::Error | BackupStatus::Deleted => {}
            }
        }
        Ok(())
    }

    /// Refuses to take a local snapshot away from a backup that reads it, also one that is paused.
    pub(crate) async fn check_not_being_read(&self, id: &SnapshotId) -> Result<(), ManagerError> {
        let backups = self.catalog.backups_from(id).await?;
        let reading = |row: &&BackupRow| {
            matches!(
                row.status,
                BackupStatus::Creating | BackupStatus::Cancelling
            )
        };
        match backups.iter().find(reading) {
            None => Ok(()),
            Some(backup) => Err(ManagerError::FailedPrecondition(format!(
                "backup {} reads snapshot {id}: wait until it has ended, or cancel it",
                backup.id
            ))),
        }
    }
}
