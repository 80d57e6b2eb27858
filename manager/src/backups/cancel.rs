//! Giving a backup up, and forgetting one.

use std::{sync::Arc, time::Duration};

use tonic::Code;

use crate::{
    Manager, ManagerError,
    catalog::{BackupRow, BackupStatus, Deleting, RecordedError, status},
    codes,
    error::chain,
    fault,
};

/// How long a cancelled upload may take to undo what it did.
pub(super) const CANCEL_WITHIN: Duration = Duration::from_secs(30);

impl Manager {
    /// Gives a backup up that is under way. When this answers, the upload has stopped and the volume is what it was before.
    /// One that was cancelled already is success.
    pub(crate) async fn cancel_backup(
        self: Arc<Self>,
        id: String,
    ) -> Result<BackupRow, ManagerError> {
        let row = self.backup_row(&id).await?;
        let cancelling = BackupStatus::Cancelling;
        if !matches!(
            row.status,
            BackupStatus::Cancelling | BackupStatus::Cancelled
        ) {
            status::ask(&row.id, row.status, cancelling)?;
            self.catalog.cancel_backup(&row.id).await?;
            self.notify();
        }
        // Whoever follows it goes on with what fails here.
        let settled = self.settle_backup(&row.id).await;
        let now = self.backup_row(&row.id).await?;
        match (now.status, settled) {
            (BackupStatus::Cancelling, Err(error)) => Err(error),
            (BackupStatus::Cancelled, settled) => {
                if let Err(error) = settled {
                    tracing::warn!(
                        backup_id = now.id,
                        error = chain(&error),
                        "what a cancelled backup left is removed later"
                    );
                }
                Ok(now)
            }
            // It ended at the same moment.
            (other, _) => {
                status::ask(&now.id, other, cancelling)?;
                Ok(now)
            }
        }
    }

    /// Forgets a backup, and removes its cloud copy. One that is not there is success.
    pub(crate) async fn delete_backup(self: Arc<Self>, id: String) -> Result<(), ManagerError> {
        let row = match self.backup_row(&id).await {
            Err(ManagerError::NotFound(_)) => return Ok(()),
            found => found?,
        };
        if matches!(
            row.status,
            BackupStatus::Creating | BackupStatus::Cancelling
        ) {
            self.clone().cancel_backup(row.id.clone()).await?;
        }
        // Nothing temporary may be left when nobody knows of it any more.
        self.settle_backup(&row.id).await?;
        let row = self.backup_row(&row.id).await?;
        if !matches!(row.status, BackupStatus::Cancelled | BackupStatus::Error) {
            let snapshot = row.snapshot_id.to_string();
            let deleted = self.clone().delete_snapshot(snapshot, Deleting::Both).await;
            deleted.map_err(|error| stays(&row, &error))?;
        }
        self.catalog.remove_backup(&row.id).await?;
        fault::reached("delete.backup-forgotten");
        self.notify();
        Ok(())
    }
}

/// Why a backup is not forgotten, with the code of what kept it.
fn stays(row: &BackupRow, error: &ManagerError) -> ManagerError {
    let RecordedError { code, text } = codes::record(error);
    let hint = match Code::from_i32(code) {
        Code::PermissionDenied => {
            " (the credentials may not delete there, or Object Lock keeps it until its time is over: then ask again)"
        }
        _ => "",
    };
    ManagerError::Recorded(RecordedError {
        code,
        text: format!(
            "backup {} stays on record, since its cloud copy could not be deleted: {text}{hint}",
            row.id
        ),
    })
}
