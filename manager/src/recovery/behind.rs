//! Pools of other nodes are put in order each for itself, and behind where that takes long: a storage node that is down or hangs
//! keeps nobody from what lies elsewhere.
//!
//! Operations are taken meanwhile. So a row is dealt with in its turn, and only if it still is what it was at the start.

use std::{sync::Arc, time::Duration};

use stockpot_driver::DriverError;
use tokio::task::JoinHandle;

use super::{Rows, report_orphans, snapshot, volume};
use crate::{
    Manager, ManagerError,
    catalog::{Attachment, JobKind, SnapshotRow, VolumeRow, VolumeStatus},
    error::chain,
};

/// How long the start waits for all of them together; in most cases it is a matter of moments.
const WITHIN: Duration = Duration::from_secs(4);
/// Pause between trials of what cannot be done yet.
const AGAIN: Duration = Duration::from_secs(10);

/// Puts the pools in order that these rows are of.
pub(super) async fn run(manager: &Arc<Manager>, pools: Vec<(String, Rows)>) {
    let mut tasks = Vec::new();
    for (pool, rows) in pools {
        let behind = manager.clone();
        tasks.push(manager.tasks.spawn(async move {
            tokio::select! {
                () = behind.stopping.cancelled() => {}
                () = put_in_order(&behind, &pool, rows) => {}
            }
        }));
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
    let Ok(driver) = manager.driver(pool) else {
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
    let mut left = rows.attachments;
    loop {
        left = take_down(manager, left).await;
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    for row in &rows.volumes {
        if let Err(error) = volume_again(manager, row).await {
            tracing::error!(volume_id = %row.id, status = %row.status, error = chain(&error), "a volume resists recovery");
        }
    }
    for row in &rows.snapshots {
        if let Err(error) = snapshot_again(manager, row).await {
            tracing::error!(snapshot_id = %row.id, error = chain(&error), "a snapshot resists recovery");
        }
    }
    report_orphans(manager, pool, driver).await;
    manager.notify();
}

/// Takes these attachments down; those that cannot be taken down yet are returned.
async fn take_down(manager: &Manager, rows: Vec<Attachment>) -> Vec<Attachment> {
    let mut left = Vec::new();
    for row in rows {
        match take_down_one(manager, &row).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(
                    id = row.id,
                    pool = row.pool,
                    error = chain(&error),
                    "the attachment of a broken-off transfer cannot be taken down yet"
                );
                // What will never be otherwise is left to the next start.
                if error.is_passing() {
                    left.push(row);
                }
            }
        }
    }
    left
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
