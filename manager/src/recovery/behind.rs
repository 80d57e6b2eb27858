//! Pools of other nodes are put in order each for itself, and behind where that takes long: a storage node that is down or hangs
//! keeps nobody from what lies elsewhere. A pool that cannot be used is put in order once it can.
//!
//! Operations are taken meanwhile. So a row is dealt with in its turn, and only if it still is what it was at the start. What is attached still keeps
//! back only the volume or snapshot that it is of.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use stockpot_connector::ConnectorError;
use stockpot_driver::{DriverError, VolumeDriver};
use tokio::{sync::Semaphore, task::JoinHandle};

use super::{Rows, report_orphans, snapshot, volume};
use crate::{
    Manager, ManagerError,
    catalog::{Attachment, AttachmentKind, JobKind, SnapshotRow, VolumeRow, VolumeStatus},
    error::chain,
};

/// How long the start waits for all of them together; in most cases it is a matter of moments.
const WITHIN: Duration = Duration::from_secs(4);
/// Pause between trials of what cannot be done yet.
const AGAIN: Duration = Duration::from_secs(10);
/// Attachments of one pool that are taken down at the same time.
const TAKEN_DOWN_AT_ONCE: usize = 4;

/// Puts the pools in order that these rows are of.
pub(super) async fn run(manager: &Arc<Manager>, pools: Vec<(String, Rows)>) {
    let mut tasks = Vec::new();
    for (pool, rows) in pools {
        let is_awaited = !manager.unusable.has(&pool);
        let behind = manager.clone();
        let task = manager.tasks.spawn(async move {
            tokio::select! {
                () = behind.stopping.cancelled() => {}
                () = put_in_order(&behind, &pool, rows) => {}
            }
        });
        tasks.extend(is_awaited.then_some(task));
    }
    let all = async {
        for task in tasks {
            ended(task).await;
        }
    };
    if tokio::time::timeout(WITHIN, all).await.is_err() {
        tracing::warn!(
            "pools of other nodes are put in order behind; what lies elsewhere can be used"
        );
    }
}

async fn ended(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "putting a pool in order ended by itself");
    }
}

async fn put_in_order(manager: &Arc<Manager>, pool: &str, rows: Rows) {
    let Some(driver) = usable(manager, pool).await else {
        return;
    };
    while let Err(error) = driver.check_in_use().await {
        let is_passing = matches!(&error, DriverError::Node(error) if error.is_passing());
        tracing::warn!(
            pool,
            error = chain(&error),
            "the pool cannot be put in order yet"
        );
        if !is_passing {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    let Rows {
        attachments,
        volumes,
        snapshots,
    } = rows;
    let is_of = |row: &Attachment, kind, id: &str| row.kind == kind && row.id == id;
    let is_attached = |kind, id: &str| attachments.iter().any(|row| is_of(row, kind, id));
    let (held_volumes, volumes): (Vec<_>, Vec<_>) = volumes
        .into_iter()
        .partition(|volume| is_attached(AttachmentKind::Volume, volume.id.as_str()));
    let (held_snapshots, snapshots): (Vec<_>, Vec<_>) = snapshots
        .into_iter()
        .partition(|snapshot| is_attached(AttachmentKind::Snapshot, snapshot.id.as_str()));
    let turns = Semaphore::new(TAKEN_DOWN_AT_ONCE);
    // What follows on an attachment waits as long as taking another one down does, and each may have a turn that the other waits for:
    // so all of them go on at the same time.
    let attached = join_all(attachments.iter().map(async |row| {
        taken_down(manager, row, &turns).await;
        let own = |volume: &&VolumeRow| is_of(row, AttachmentKind::Volume, volume.id.as_str());
        volumes_again(manager, held_volumes.iter().filter(own)).await;
        let own =
            |snapshot: &&SnapshotRow| is_of(row, AttachmentKind::Snapshot, snapshot.id.as_str());
        snapshots_again(manager, held_snapshots.iter().filter(own)).await;
    }));
    let others = async {
        volumes_again(manager, volumes.iter()).await;
        snapshots_again(manager, snapshots.iter()).await;
        report_orphans(manager, pool, driver).await;
        manager.notify();
    };
    tokio::join!(attached, others);
    manager.notify();
}

/// The pool's driver, as soon as the pool can be used; `None` if it is not configured any more.
async fn usable<'m>(manager: &'m Manager, pool: &str) -> Option<&'m Arc<dyn VolumeDriver>> {
    let mut changed = manager.changes();
    loop {
        match manager.driver(pool) {
            Ok(driver) => return Some(driver),
            // Somebody looks at it again and again, and says so when it can be used.
            Err(ManagerError::PoolUnusable { .. }) => changed.changed().await.ok()?,
            Err(_) => return None,
        }
    }
}

/// Takes an attachment down, however long that takes; or not, where it is of no use to try again.
async fn taken_down(manager: &Manager, row: &Attachment, turns: &Semaphore) {
    loop {
        let Ok(turn) = turns.acquire().await else {
            return;
        };
        let Err(error) = take_down_one(manager, row).await else {
            return;
        };
        drop(turn);
        tracing::warn!(
            id = row.id,
            pool = row.pool,
            error = chain(&error),
            "the attachment of a broken-off transfer cannot be taken down yet"
        );
        let is_stuck = matches!(
            error,
            ManagerError::Connector(ConnectorError::Stuck { .. } | ConnectorError::Command { .. })
        );
        // What will never be otherwise is left to the next start.
        if !is_stuck && !error.is_passing() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn volumes_again(manager: &Arc<Manager>, rows: impl Iterator<Item = &VolumeRow> + Send) {
    for row in rows {
        if let Err(error) = volume_again(manager, row).await {
            tracing::error!(volume_id = %row.id, status = %row.status, error = chain(&error), "a volume resists recovery");
        }
    }
}

async fn snapshots_again(manager: &Arc<Manager>, rows: impl Iterator<Item = &SnapshotRow> + Send) {
    for row in rows {
        if let Err(error) = snapshot_again(manager, row).await {
            tracing::error!(snapshot_id = %row.id, error = chain(&error), "a snapshot resists recovery");
        }
    }
}

async fn take_down_one(manager: &Manager, row: &Attachment) -> Result<(), ManagerError> {
    let now = manager.catalog.attachment(row.kind, &row.id).await?;
    let runs = |kind| manager.transfers.how_far(kind, &row.id).is_some();
    // A new transfer of the same has taken it over, or has made its own, and takes that down.
    if now.as_ref() != Some(row) || runs(JobKind::Upload) || runs(JobKind::Restore) {
        return Ok(());
    }
    manager.detach_row(row).await?;
    tracing::info!(
        id = row.id,
        "the attachment of a broken-off transfer was taken down"
    );
    Ok(())
}

async fn volume_again(manager: &Arc<Manager>, row: &VolumeRow) -> Result<(), ManagerError> {
    if matches!(row.status, VolumeStatus::Available | VolumeStatus::InUse) {
        return Ok(());
    }
    let _held = manager.hold_volume(&row.id).await?;
    match manager.catalog.volume(&row.id).await? {
        Some(now) if now.status == row.status => volume(manager, &now).await,
        _ => Ok(()),
    }
}

async fn snapshot_again(manager: &Arc<Manager>, row: &SnapshotRow) -> Result<(), ManagerError> {
    let held = manager.hold_snapshot(&row.id).await?;
    let now = manager.catalog.snapshot(&row.id).await?;
    // A deletion takes its turn itself.
    let held = Some(held).filter(|_| row.deleting.is_none());
    if let Some(now) = now.filter(|now| now.deleting == row.deleting) {
        snapshot(manager, &now).await;
    }
    drop(held);
    Ok(())
}
