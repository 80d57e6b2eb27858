//! What is done at start: every row that is not final is finished or undone.
//!
//! | found | done |
//! | --- | --- |
//! | exported to other hosts | kept, or made again after a reboot, if need be behind; removed if the volume or snapshot is gone and no host is logged in |
//! | attached for a transfer | taken down |
//! | attached for the node service | kept; the connector removes other leftovers |
//! | volume being made by the storage | removed: nobody was told its id, and the name makes a new one |
//! | volume being restored | begun anew |
//! | volume growing | its size is what the storage has; it is what it was before |
//! | volume being backed up | while its backup reads it, that goes on; else it is what it was before |
//! | volume being deleted | deleted |
//! | snapshot not cut | removed, for the same reason |
//! | snapshot whose upload is awaited | the upload begins again, with the same id |
//! | copies being deleted | deleted, behind, since a bucket may be slow |
//! | backup | see [`crate::backups`] |
//! | in the storage and on no row | reported, never removed |
//!
//! One thing that resists is logged and left to be asked for again; it does not keep the others waiting.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use stockpot_driver::{AccessMode, SnapshotId, SnapshotInfo, VolumeId, target::ExportName};

use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{AttachmentKind, CopyState, Purpose, SnapshotRow, VolumeRow, VolumeStatus},
    error::chain,
};

/// Pause between trials of exports that could not be made again.
const EXPORTS_AGAIN: Duration = Duration::from_secs(30);

pub(crate) async fn run(manager: &Arc<Manager>) -> Result<(), ManagerError> {
    exports(manager).await;
    attachments(manager).await?;
    let volumes = manager.catalog.volumes().await?;
    for row in &volumes {
        if let Err(error) = volume(manager, row).await {
            tracing::error!(volume_id = %row.id, status = %row.status, error = chain(&error), "a volume resists recovery");
        }
    }
    let snapshots = manager.catalog.snapshots().await?;
    for row in &snapshots {
        snapshot(manager, row).await;
    }
    manager.recover_backups().await?;
    for row in &volumes {
        // A backup may have let go of it.
        if row.status == VolumeStatus::BackingUp {
            settled(manager, &row.id).await?;
        }
    }
    report_orphans(manager, &volumes, &snapshots).await;
    manager.give_back_unneeded_bases().await;
    manager.notify();
    Ok(())
}

/// What resists is tried again behind: an address may come late, a kernel may take its time.
async fn exports(manager: &Arc<Manager>) {
    let Some(exports) = &manager.exports else {
        return;
    };
    let left = match exports.recover().await {
        Ok(left) => left,
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                "exports are not all what they should be"
            );
            exports.names().await.unwrap_or_default()
        }
    };
    if left.is_empty() {
        return;
    }
    let behind = manager.clone();
    manager
        .tasks
        .spawn(async move { behind.try_exports_again(left).await });
}

impl Manager {
    async fn try_exports_again(&self, mut left: Vec<ExportName>) {
        let Some(exports) = &self.exports else {
            return;
        };
        while !left.is_empty() {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(EXPORTS_AGAIN) => {}
            }
            left = exports.try_again(left).await;
        }
    }
}

async fn attachments(manager: &Manager) -> Result<(), ManagerError> {
    let rows = manager.catalog.attachments().await?;
    let wanted: Vec<_> = rows
        .iter()
        .filter(|row| row.purpose == Purpose::Node)
        .filter_map(|row| row.connection.clone())
        .collect();
    let recovered = manager.connector.recover(&wanted).await?;
    for removed in recovered.removed {
        tracing::warn!(removed, "a leftover of an earlier run was removed");
    }
    for (what, why) in recovered.failed {
        tracing::error!(what, why, "a leftover of an earlier run cannot be removed");
    }
    for row in rows.iter().filter(|row| row.purpose == Purpose::Transfer) {
        match manager.detach_row(row).await {
            Ok(()) => tracing::info!(
                id = row.id,
                "the attachment of a broken-off transfer was taken down"
            ),
            Err(error) => {
                tracing::error!(
                    id = row.id,
                    error = chain(&error),
                    "an attachment cannot be taken down"
                );
            }
        }
    }
    Ok(())
}

async fn volume(manager: &Arc<Manager>, row: &VolumeRow) -> Result<(), ManagerError> {
    let id = &row.id;
    match row.status {
        VolumeStatus::Creating => manager.unmake(row).await,
        VolumeStatus::Restoring => {
            manager.start_restore(id).await;
            Ok(())
        }
        VolumeStatus::Deleting => manager.delete_on_record(row).await,
        VolumeStatus::Error => {
            // What a failed restore could not remove.
            let subject = Subject::Volume(id.clone(), AccessMode::ReadWrite);
            manager.detach(&subject).await?;
            Ok(manager.driver(&row.pool)?.delete_volume(id).await?)
        }
        // Its backup knows, and is looked at next.
        VolumeStatus::BackingUp => Ok(()),
        VolumeStatus::Extending => {
            manager.grown(row).await?;
            settled(manager, id).await
        }
        VolumeStatus::Available | VolumeStatus::InUse => settled(manager, id).await,
    }
}

/// In use is what is attached.
async fn settled(manager: &Manager, id: &VolumeId) -> Result<(), ManagerError> {
    let Some(row) = manager.catalog.volume(id).await? else {
        return Ok(());
    };
    let attachment = manager
        .catalog
        .attachment(AttachmentKind::Volume, id.as_str());
    let attached = attachment
        .await?
        .is_some_and(|a| a.purpose == Purpose::Node);
    let truth = match attached {
        true => VolumeStatus::InUse,
        false => VolumeStatus::Available,
    };
    let is_other =
        matches!(row.status, VolumeStatus::Available | VolumeStatus::InUse) && truth != row.status;
    if is_other {
        manager
            .catalog
            .move_volume(id, row.status, truth, None)
            .await?;
    }
    Ok(())
}

async fn snapshot(manager: &Arc<Manager>, row: &SnapshotRow) {
    if row.deleting.is_some() {
        let (manager, id) = (manager.clone(), row.id.clone());
        let tasks = manager.tasks.clone();
        tasks.spawn(async move {
            if let Err(error) = delete_again(&manager, &id).await {
                tracing::error!(snapshot_id = %id, error = chain(&error), "a deletion cannot be finished yet");
            }
        });
    } else if row.local == CopyState::Pending {
        manager.uncut(row).await;
    } else if row.cloud == CopyState::Pending {
        manager.start_upload(&row.id).await;
    }
}

async fn delete_again(manager: &Manager, id: &SnapshotId) -> Result<(), ManagerError> {
    let _held = manager.hold_snapshot(id).await?;
    // A caller may have been quicker.
    let Some(row) = manager.catalog.snapshot(id).await? else {
        return Ok(());
    };
    match row.deleting {
        Some(which) => manager.delete_known(row, which).await,
        None => Ok(()),
    }
}

/// Says what lies in the storage with our tags and on no row: after the loss of a catalog, or the work of another one.
async fn report_orphans(manager: &Manager, volumes: &[VolumeRow], snapshots: &[SnapshotRow]) {
    let known_volumes: BTreeSet<&str> = volumes.iter().map(|row| row.id.as_str()).collect();
    let known_snapshots: BTreeSet<&str> = snapshots.iter().map(|row| row.id.as_str()).collect();
    for (pool, driver) in &manager.pools {
        match driver.list_volumes().await {
            Ok(found) => {
                let lent = found.iter().filter(|v| manager.is_lent(&v.id)).count();
                if lent > 0 {
                    tracing::info!(
                        pool,
                        volumes = lent,
                        "the pool holds volumes that other nodes made; they are on those nodes' records"
                    );
                }
                let unknown =
                    |id: &VolumeId| !known_volumes.contains(id.as_str()) && !manager.is_lent(id);
                for volume in found.iter().filter(|v| unknown(&v.id)) {
                    tracing::warn!(pool, volume_id = %volume.id, "a volume is on no record; it is left alone");
                }
            }
            Err(error) => tracing::error!(pool, error = chain(&error), "the pool cannot be listed"),
        }
        match driver.list_snapshots().await {
            Ok(found) => {
                let unknown = |s: &SnapshotInfo| {
                    !known_snapshots.contains(s.id.as_str()) && !manager.is_lent(&s.volume_id)
                };
                for snapshot in found.iter().filter(|s| unknown(s)) {
                    tracing::warn!(pool, snapshot_id = %snapshot.id, "a snapshot is on no record; it is left alone");
                }
            }
            Err(error) => tracing::error!(pool, error = chain(&error), "the pool cannot be listed"),
        }
    }
}
