//! The words kept with a backup's record.

use std::{collections::HashMap, sync::Arc};

use stockpot_proto::stockpot::v1 as api;

use crate::{Manager, ManagerError, catalog::BackupRow, locks::Subject, request};

impl Manager {
    /// Changes some of the words, and leaves the others.
    pub(crate) async fn update_backup(
        self: Arc<Self>,
        request: api::UpdateBackupRequest,
    ) -> Result<BackupRow, ManagerError> {
        let id = self.backup_row(&request.backup_id).await?.id;
        let _held = self.locks.hold(Subject::Backup(id.clone())).await?;
        // They may have changed while the turn was waited for.
        let row = self.backup_row(&id).await?;
        let mut words: HashMap<String, String> = row.metadata.into_iter().collect();
        words.retain(|key, _| !request.remove.contains(key));
        words.extend(request.set);
        request::check_metadata(&words)?;
        let words = words.into_iter().collect();
        self.catalog.put_backup_metadata(&id, words).await?;
        self.notify();
        self.backup_row(&id).await
    }
}
