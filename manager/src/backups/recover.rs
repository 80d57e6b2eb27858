//! What a start does with backups: each is brought to its end, and a volume that no backup holds is what it was before.
//!
//! | found | done |
//! | --- | --- |
//! | begun, nothing cut | it failed; the volume is what it was before; what was cut all the same is removed |
//! | cut, the volume still backing-up | the volume is what it was before; the upload goes on |
//! | the volume itself is being read | it goes on being held, and is read again; what was sent is not sent again |
//! | paused | it stays so; a volume that it reads itself goes on being held |
//! | being cancelled | cancelled |
//! | ended, something temporary left | that is removed |

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    Manager, ManagerError,
    catalog::{BackupRow, BackupSource, BackupStatus, CopyState, VolumeStatus},
    error::chain,
};

impl Manager {
    /// After volumes and snapshots were put in order.
    pub(crate) async fn recover_backups(self: &Arc<Self>) -> Result<(), ManagerError> {
        for row in self.catalog.backups().await? {
            let is_done = row.cleaned && row.is_final();
            if is_done {
                continue;
            }
            if let Err(error) = self.recover_backup(&row).await {
                tracing::error!(
                    backup_id = row.id,
                    error = chain(&error),
                    "a backup resists recovery"
                );
            }
            self.follow_backup(&row.id);
        }
        let backups = self.catalog.backups().await?;
        let held: BTreeSet<&str> = backups
            .iter()
            .filter(|row| row.holds_volume)
            .map(|row| row.volume_id.as_str())
            .collect();
        let from = VolumeStatus::BackingUp;
        for volume in self.catalog.volumes().await? {
            if volume.status == from && !held.contains(volume.id.as_str()) {
                tracing::warn!(volume_id = %volume.id, "no backup holds this volume: it is what it was before");
                self.catalog
                    .move_volume_back(&volume.id, from, None)
                    .await?;
            }
        }
        Ok(())
    }

    /// What has to be true before operations are taken; the rest goes on behind.
    async fn recover_backup(&self, row: &BackupRow) -> Result<(), ManagerError> {
        if row.status != BackupStatus::Creating
            || row.source != BackupSource::Snapshot
            || !row.holds_volume
        {
            return Ok(());
        }
        match self.catalog.snapshot(&row.snapshot_id).await? {
            Some(snapshot) if snapshot.local == CopyState::Present => {
                self.backup_was_cut(&row.id, &snapshot).await
            }
            // Removed, or it resists that and is removed behind.
            _ => self.never_cut(row).await,
        }
    }
}
