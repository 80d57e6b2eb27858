//! Stopping the upload of a backup for a while, and going on with it.
//!
//! What was sent stays, as when the manager stops: whole packs, and no open multipart upload. What is read stays as it is: a
//! temporary or kept snapshot is there, a volume that is read as it is stays backing-up, so nobody writes to it meanwhile. That
//! it is paused stands in its row, so a start does not go on with it either.

use std::{sync::Arc, time::Duration};

use crate::{
    Manager, ManagerError,
    catalog::{BackupRow, BackupStatus, CopyState, JobKind},
    error::chain,
    locks::Subject,
};

/// How long an upload may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

impl Manager {
    /// Stops the upload of a backup that is under way. When this answers, nothing of it is read or sent any more. One that is
    /// paused already is success.
    pub(crate) async fn pause_backup(
        self: Arc<Self>,
        id: String,
    ) -> Result<BackupRow, ManagerError> {
        let row = self.backup_row(&id).await?;
        {
            let _held = self.locks.hold(Subject::Backup(row.id.clone())).await?;
            // On record first: an upload that begins now sees it.
            if !self.catalog.pause_backup(&row.id).await? {
                return Err(not_under_way(&self.backup_row(&row.id).await?, "paused"));
            }
            self.notify();
            self.transfers
                .cancel(JobKind::Upload, row.snapshot_id.as_str(), STOP_WITHIN)
                .await?;
            tracing::info!(backup_id = row.id, "the backup is paused");
        }
        // It may have come to its end at the same moment. Whoever follows it goes on with what fails here.
        if let Err(error) = self.settle_backup(&row.id).await {
            tracing::warn!(
                backup_id = row.id,
                error = chain(&error),
                "a paused backup cannot be looked at yet"
            );
        }
        let now = self.backup_row(&row.id).await?;
        match now.status {
            BackupStatus::Creating => Ok(now),
            _ => Err(not_under_way(&now, "paused")),
        }
    }

    /// Goes on with a backup that is paused: only what was not sent is sent. One that is under way and not paused is success.
    pub(crate) async fn resume_backup(
        self: Arc<Self>,
        id: String,
    ) -> Result<BackupRow, ManagerError> {
        let row = self.backup_row(&id).await?;
        let _held = self.locks.hold(Subject::Backup(row.id.clone())).await?;
        let row = self.backup_row(&row.id).await?;
        if row.status != BackupStatus::Creating {
            return Err(not_under_way(&row, "resumed"));
        }
        if !row.paused {
            return Ok(row);
        }
        // One that is still stopping would take the new one for itself.
        self.transfers
            .cancel(JobKind::Upload, row.snapshot_id.as_str(), STOP_WITHIN)
            .await?;
        let _snapshot = self.hold_snapshot(&row.snapshot_id).await?;
        if !self.catalog.resume_backup(&row.id).await? {
            return Err(not_under_way(&self.backup_row(&row.id).await?, "resumed"));
        }
        tracing::info!(backup_id = row.id, "the backup goes on");
        let snapshot = self.catalog.snapshot(&row.snapshot_id).await?;
        // One that is not cut yet is uploaded when it is.
        let waits = |row: &crate::catalog::SnapshotRow| {
            row.cloud == CopyState::Pending
                && row.local != CopyState::Pending
                && row.deleting.is_none()
        };
        if snapshot.is_some_and(|row| waits(&row)) {
            self.start_upload(&row.snapshot_id).await;
        }
        self.notify();
        self.backup_row(&row.id).await
    }
}

fn not_under_way(row: &BackupRow, to_be: &str) -> ManagerError {
    ManagerError::FailedPrecondition(format!(
        "backup {} is {}: only one that is under way can be {to_be}",
        row.id, row.status
    ))
}
