//! What is done at start: every row that is not final is finished or undone.
//!
//! | found | done |
//! | --- | --- |
//! | file systems frozen around a cut, commands before it run | thawed; the commands after it run |
//! | exported to other hosts | kept, or made again after a reboot, if need be behind; removed if the volume or snapshot is gone and no host is logged in |
//! | attached for a transfer | taken down |
//! | attached for the node service | kept; the connector removes other leftovers |
//! | volume being made by the storage | removed: nobody was told its id, and the name makes a new one |
//! | volume being restored | begun anew |
//! | volume being adopted or let go | finished if the storage did it, else forgotten |
//! | volume into which something is being restored | gone on with: filled anew, or replaced, or undone |
//! | volume whose place is taken by what a stream has brought | see [`crate::streams`] |
//! | volume growing | its size is what the storage has; it is what it was before |
//! | volume being backed up | while its backup reads it, that goes on; else it is what it was before |
//! | volume being deleted | deleted |
//! | snapshot not cut | removed, for the same reason |
//! | snapshot whose upload is awaited | the upload begins again, with the same id |
//! | copies being deleted | deleted, behind, since a bucket may be slow |
//! | backup | see [`crate::backups`] |
//! | stream | see [`crate::streams`] |
//! | in the storage and on no row | reported, never removed |
//!
//! What lies in pools of other nodes is put in order behind if that takes longer than some seconds; what lies in a pool that cannot be used, as soon
//! as it can.
//!
//! One thing that resists is logged and left to be asked for again; it does not keep the others waiting.

mod behind;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use stockpot_driver::{
    AccessMode, SnapshotId, SnapshotInfo, VolumeDriver, VolumeId, target::ExportName,
};

use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{
        Attachment, AttachmentKind, CopyState, Purpose, SnapshotRow, VolumeRow, VolumeStatus,
    },
    error::chain,
};

/// Pause between trials of exports that could not be made again.
const EXPORTS_AGAIN: Duration = Duration::from_secs(30);

pub(crate) async fn run(manager: &Arc<Manager>) -> Result<(), ManagerError> {
    // Writers wait.
    manager.recover_quiesces().await?;
    exports(manager).await;
    manager.recover_adoptions().await?;
    let mut rows = rows(manager).await?;
    let pools = manager.config.pools.iter();
    let later = pools.filter(|pool| pool.is_remote() || manager.unusable.has(pool.name()));
    let later: Vec<_> = later
        .map(|pool| (pool.name().to_owned(), rows.take(pool.name())))
        .collect();
    for row in &rows.attachments {
        take_down(manager, row).await;
    }
    for row in &rows.volumes {
        if let Err(error) = volume(manager, row).await {
            tracing::error!(volume_id = %row.id, status = %row.status, error = chain(&error), "a volume resists recovery");
        }
    }
    for row in &rows.snapshots {
        snapshot(manager, row).await;
    }
    // Their status is a matter of the catalog alone.
    for row in later.iter().flat_map(|(_, rows)| &rows.volumes) {
        if matches!(row.status, VolumeStatus::Available | VolumeStatus::InUse) {
            settled(manager, &row.id).await?;
        }
    }
    let put_later: BTreeSet<String> = later.iter().map(|(pool, _)| pool.clone()).collect();
    let backing_up: Vec<_> = later
        .iter()
        .flat_map(|(_, rows)| &rows.volumes)
        .chain(&rows.volumes)
        .filter(|row| row.status == VolumeStatus::BackingUp)
        .map(|row| row.id.clone())
        .collect();
    behind::run(manager, later).await;
    manager.recover_backups().await?;
    manager.recover_streams().await?;
    for id in &backing_up {
        // A backup may have let go of it.
        settled(manager, id).await?;
    }
    let own = manager.pools.iter();
    for (pool, driver) in own.filter(|(pool, _)| !put_later.contains(*pool)) {
        report_orphans(manager, pool, driver).await;
    }
    if put_later.is_empty() {
        manager.give_back_unneeded_bases().await;
    } else {
        let behind = manager.clone();
        manager
            .tasks
            .spawn(async move { behind.give_back_unneeded_bases().await });
    }
    manager.notify();
    Ok(())
}

/// What an earlier run left on record.
#[derive(Debug, Default)]
struct Rows {
    /// Of transfers.
    attachments: Vec<Attachment>,
    volumes: Vec<VolumeRow>,
    snapshots: Vec<SnapshotRow>,
}

impl Rows {
    /// Takes out what is of one pool.
    fn take(&mut self, pool: &str) -> Self {
        Self {
            attachments: self
                .attachments
                .extract_if(.., |row| row.pool == pool)
                .collect(),
            volumes: self
                .volumes
                .extract_if(.., |row| row.pool == pool)
                .collect(),
            snapshots: self
                .snapshots
                .extract_if(.., |row| row.pool == pool)
                .collect(),
        }
    }
}

/// What resists is tried again behind: an address may come late, a kernel may take its time.
async fn exports(manager: &Arc<Manager>) {
    let Some(exports) = &manager.exports else {
        return;
    };
    // Where nothing is on record the catalog was lost, and whoever the kernel lets in stays.
    if exports.names().await.is_ok_and(|names| !names.is_empty()) {
        let behind = manager.clone();
        manager
            .tasks
            .spawn(async move { behind.expel_unrecorded().await });
    }
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
    /// Takes the access of hosts away that are on no record, each as soon as it has logged out.
    async fn expel_unrecorded(&self) {
        let Some(exports) = &self.exports else {
            return;
        };
        loop {
            match exports.expel_unrecorded().await {
                Ok(0) => return,
                Ok(left) => {
                    tracing::warn!(
                        left,
                        "hosts that are on no record are logged in (`stockpot export list`)"
                    );
                }
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "who is let in and on no record cannot be told"
                    );
                }
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(EXPORTS_AGAIN) => {}
            }
        }
    }

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

/// Keeps what is attached for the node service, removes other leftovers, and reads what is on record.
async fn rows(manager: &Manager) -> Result<Rows, ManagerError> {
    let mut attachments = manager.catalog.attachments().await?;
    let wanted: Vec<_> = attachments
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
    attachments.retain(|row| row.purpose == Purpose::Transfer);
    Ok(Rows {
        attachments,
        volumes: manager.catalog.volumes().await?,
        snapshots: manager.catalog.snapshots().await?,
    })
}

async fn take_down(manager: &Manager, row: &Attachment) {
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

async fn volume(manager: &Arc<Manager>, row: &VolumeRow) -> Result<(), ManagerError> {
    let id = &row.id;
    match row.status {
        VolumeStatus::Creating => manager.unmake(row).await,
        VolumeStatus::Restoring => {
            // What a stream has brought for it is looked at later.
            if !manager.catalog.is_being_replaced(id).await? {
                manager.start_restore(id).await;
            }
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

/// Says what lies in a pool with our tags and on no row: after the loss of a catalog, or the work of another one.
async fn report_orphans(manager: &Manager, pool: &str, driver: &Arc<dyn VolumeDriver>) {
    if let Err(error) = look_for_orphans(manager, pool, driver).await {
        tracing::error!(pool, error = chain(&error), "the pool cannot be listed");
    }
}

async fn look_for_orphans(
    manager: &Manager,
    pool: &str,
    driver: &Arc<dyn VolumeDriver>,
) -> Result<(), ManagerError> {
    // The rows after the storage: a row is written first.
    let (volumes, snapshots) = (driver.list_volumes().await?, driver.list_snapshots().await?);
    let known = manager.catalog.volumes().await?;
    if known.is_empty() && volumes.iter().any(|volume| !manager.is_lent(&volume.id)) {
        tracing::error!(
            pool,
            "the catalog knows no volume, and the pool holds some: if it was lost, stop the daemon, and `stockpot catalog rebuild` \
             makes it again"
        );
    }
    let beside = manager.catalog.in_place_under_way().await?;
    let beside = beside.iter().map(|row| row.temp_volume_id.as_str());
    let known = known.iter().map(|row| row.id.as_str());
    let known: BTreeSet<&str> = known.chain(beside).collect();
    let lent = volumes.iter().filter(|v| manager.is_lent(&v.id)).count();
    if lent > 0 {
        tracing::info!(
            pool,
            volumes = lent,
            "the pool holds volumes that other nodes made; they are on those nodes' records"
        );
    }
    let unknown = |id: &VolumeId| !known.contains(id.as_str()) && !manager.is_lent(id);
    for volume in volumes.iter().filter(|volume| unknown(&volume.id)) {
        tracing::warn!(pool, volume_id = %volume.id, "a volume is on no record; it is left alone");
    }
    let known = manager.catalog.snapshots().await?;
    let known: BTreeSet<&str> = known.iter().map(|row| row.id.as_str()).collect();
    let unknown =
        |s: &SnapshotInfo| !known.contains(s.id.as_str()) && !manager.is_lent(&s.volume_id);
    for snapshot in snapshots.iter().filter(|snapshot| unknown(snapshot)) {
        tracing::warn!(pool, snapshot_id = %snapshot.id, "a snapshot is on no record; it is left alone");
    }
    Ok(())
}
