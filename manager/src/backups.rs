//! Backups: the act and the record of making a cloud copy of a volume, without a word to whoever uses it.
//!
//! | volume | what is read | when it is what it was before |
//! | --- | --- | --- |
//! | nobody uses it | the volume itself, attached read-only | when the backup has ended |
//! | in use (attached on record, or its device is open) | a temporary snapshot; only with `force` | as soon as that is cut |
//! | any, also one that is gone | a local snapshot of it that the request names | it is not touched |
//!
//! The answer comes when the row stands and the snapshot is cut ([`create`](Manager::create_backup)). The upload is that of any
//! snapshot; behind it, [`settle`](Manager::settle_backup) looks at the rows until the backup has ended and nothing temporary is
//! left, now and at the next start. Every step of it may be made again. In between it can be paused ([`pause`](Manager::pause_backup)).

mod cancel;
mod create;
mod describe;
mod import;
mod kept;
mod pause;
mod recover;
mod settle;
mod update;

use crate::{Manager, ManagerError, catalog::BackupRow, catalog::BackupStatus};

impl Manager {
    /// The row of a backup that has to be there, by its id or name.
    pub(crate) async fn backup_row(&self, id: &str) -> Result<BackupRow, ManagerError> {
        if let Some(row) = self.catalog.backup(id).await? {
            return Ok(row);
        }
        let named = self.catalog.backup_by_name(id).await?;
        named.ok_or_else(|| ManagerError::NotFound(format!("backup {id:?}")))
    }
}

impl BackupRow {
    /// Whether it has ended, and those who ask have nothing more to wait for.
    pub(crate) fn is_final(&self) -> bool {
        match self.status {
            BackupStatus::Creating | BackupStatus::Cancelling => false,
            // What is temporary goes within seconds.
            BackupStatus::Available => self.cleaned,
            // A bucket that does not answer may keep that waiting for long.
            BackupStatus::Cancelled | BackupStatus::Error | BackupStatus::Deleted => true,
        }
    }
}
