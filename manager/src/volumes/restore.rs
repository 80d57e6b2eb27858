//! A volume from the bucket, or the new content of one ([`super::in_place`]): made, attached, filled, flushed, detached; available only then.

use std::{path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use stockpot_driver::{AccessMode, SnapshotId, VolumeId};
use stockpot_repository::{
    Progress, Repository, RepositoryError,
    device::{Target, TargetOptions},
    format::manifest::Manifest,
    restore::restore,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{JobKind, Purpose, VolumeRow, VolumeSource, VolumeStatus},
    cloud, codes,
    error::chain,
    fault,
    joined::joined,
    snapshots::CloudCopy,
    transfers::Entry,
};

/// What is to be filled.
#[derive(Debug)]
pub(super) struct Filling<'a> {
    /// The volume on record that is restored: its size and its pool count.
    pub(super) row: &'a VolumeRow,
    /// What is made and filled: that volume, or one that takes its place.
    pub(super) target: &'a VolumeId,
    /// The cloud copy.
    pub(super) snapshot: &'a SnapshotId,
}

impl Manager {
    /// Begins the restore of a volume that is on record as awaiting it. One that is running already goes on.
    ///
    /// It can be cancelled as soon as this returns. The caller holds the volume's lock, or is the recovery.
    pub(crate) async fn start_restore(self: &Arc<Self>, id: &VolumeId) {
        let key = (JobKind::Restore, id.to_string());
        let Some(entry) = self.transfers.begin(key, &self.stopping).await else {
            return;
        };
        let (manager, id) = (self.clone(), id.clone());
        let span = tracing::info_span!(parent: None, "restore", volume_id = %id);
        let work = async move { manager.run_restore(&id, entry).await };
        self.tasks.spawn(work.instrument(span));
    }

    async fn run_restore(&self, id: &VolumeId, entry: Entry) {
        let read = || async { Ok(self.catalog.in_place(id).await?) };
        match self.persist("a restore", read).await {
            Ok(Some(row)) if row.is_under_way() => return self.run_in_place(&row, entry).await,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "what is to be restored cannot be read"
                );
                return;
            }
        }
        let cancel = entry.cancel_token().clone();
        let once = |progress| -> BoxFuture<'_, _> {
            Box::pin(self.restore_once(id, progress, cancel.clone()))
        };
        let outcome = self
            .attempts(JobKind::Restore, id.as_str(), &entry, &once)
            .await;
        if let Err(error) = &outcome
            && !matches!(error, ManagerError::Cancelled)
        {
            tracing::error!(error = chain(error), "the restore was given up");
            self.discard(id).await;
        }
        entry.ending();
        let recorded = match outcome {
            Ok(size_bytes) => {
                tracing::info!(size_bytes, "the volume is restored");
                let (from, to) = (VolumeStatus::Restoring, VolumeStatus::Available);
                let recorded = self.persist("the end of a restore", || async {
                    let moved = self.catalog.move_volume(id, from, to, Some(size_bytes));
                    Ok(moved.await?)
                });
                let recorded = recorded.await;
                fault::reached("restore.recorded");
                recorded
            }
            // A deletion removes it; a stopping manager begins anew at its next start.
            Err(ManagerError::Cancelled) => Ok(false),
            Err(error) => {
                let why = codes::record(&error);
                let record = || async { Ok(self.catalog.fail_volume(id, why.clone()).await?) };
                self.persist("the end of a restore", record).await
            }
        };
        if let Err(error) = recorded {
            tracing::error!(
                error = chain(&error),
                "the end of a restore could not be recorded; the next start goes on with it"
            );
        }
        drop(entry);
        self.notify();
    }

    /// Removes the half-filled volume. What resists is removed at the next attempt or start.
    async fn discard(&self, id: &VolumeId) {
        let removing = async {
            let row = self.volume_row(id.as_str()).await?;
            self.driver(&row.pool)?.delete_volume(id).await?;
            Ok::<_, ManagerError>(())
        };
        if let Err(error) = removing.await {
            tracing::warn!(
                error = chain(&error),
                "a half-filled volume could not be removed yet"
            );
        }
    }

    /// One attempt, from scratch, to the volume's size.
    async fn restore_once(
        &self,
        id: &VolumeId,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<u64, ManagerError> {
        let row = self.awaiting_restore(id).await?;
        let VolumeSource::Snapshot(snapshot, _) = &row.source else {
            return Err(ManagerError::Internal(format!(
                "volume {id} has no snapshot to restore"
            )));
        };
        let filling = Filling {
            row: &row,
            target: id,
            snapshot,
        };
        self.fill_once(&filling, &progress, &cancel).await
    }

    /// Makes and fills a volume from whatever of the cloud copy can be read, to the volume's size.
    pub(super) async fn fill_once(
        &self,
        filling: &Filling<'_>,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<u64, ManagerError> {
        let snapshot = filling.snapshot;
        let known = self.catalog.snapshot(snapshot).await?;
        let copy = match self.cloud_copy_to_restore(known.as_ref(), snapshot).await? {
            CloudCopy::Committed(repository, manifest) => (repository, manifest),
            CloudCopy::Unusable(why) => {
                return Err(ManagerError::FailedPrecondition(format!(
                    "snapshot {snapshot} cannot be restored from the cloud: {why}"
                )));
            }
            CloudCopy::Unknown => {
                return Err(ManagerError::NotFound(format!("snapshot {snapshot}")));
            }
        };
        let error = match self.fill_anew(filling, &copy, progress, cancel).await {
            Err(error) if cloud::may_be_covered(&error) => error,
            done => return done,
        };
        let first = match self.first_cloud_copy(known.as_ref(), snapshot).await {
            Ok(Some(first)) => self.fill_anew(filling, &first, progress, cancel).await,
            Ok(None) => return Err(error),
            Err(also) => Err(also),
        };
        match first {
            Ok(size_bytes) => {
                tracing::error!(
                    error = chain(&error),
                    "what was written first under the same names was restored instead: somebody has deleted or overwritten \
                     objects of this repository"
                );
                Ok(size_bytes)
            }
            // To be tried again, or not at all.
            Err(also) if also.is_passing() || matches!(also, ManagerError::Cancelled) => Err(also),
            Err(also) => {
                tracing::warn!(
                    error = chain(&also),
                    "nor can what was written first be restored"
                );
                Err(error)
            }
        }
    }

    /// Makes the volume anew and fills it, to its size.
    async fn fill_anew(
        &self,
        filling: &Filling<'_>,
        (repository, manifest): &(Repository, Box<Manifest>),
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<u64, ManagerError> {
        let size_bytes = self.make_anew(filling, manifest.size_bytes).await?;
        fault::reached("restore.made");
        let subject = Subject::Volume(filling.target.clone(), AccessMode::ReadWrite);
        let pool = &filling.row.pool;
        let device = self.attach(pool, &subject, Purpose::Transfer).await?;
        fault::reached("restore.attached");
        let filled = self
            .fill(repository, manifest, device.path, progress, cancel)
            .await;
        if filled.is_ok() {
            fault::reached("restore.filled");
        }
        let detached = self.persist("what is attached", || self.detach(&subject));
        let detached = detached.await;
        filled?;
        detached?;
        fault::reached("restore.detached");
        Ok(size_bytes)
    }

    /// The row of a volume that is still to be restored.
    pub(super) async fn awaiting_restore(&self, id: &VolumeId) -> Result<VolumeRow, ManagerError> {
        match self.catalog.volume(id).await? {
            Some(row) if row.status == VolumeStatus::Restoring => Ok(row),
            // Deleted, or being deleted.
            _ => Err(ManagerError::Cancelled),
        }
    }

    /// A fresh volume that reads as zeroes, whatever an earlier attempt left of it.
    async fn make_anew(
        &self,
        filling: &Filling<'_>,
        least_bytes: u64,
    ) -> Result<u64, ManagerError> {
        let (row, target) = (filling.row, filling.target);
        let driver = self.driver(&row.pool)?;
        self.detach(&Subject::Volume(target.clone(), AccessMode::ReadWrite))
            .await?;
        driver.delete_volume(target).await?;
        // Nothing is made that a deletion does not know of.
        self.awaiting_restore(&row.id).await?;
        if *target == row.id {
            // It counts for one volume that is made, and this one may be made again.
            driver.name_is(target.as_str(), &row.name);
        }
        let make = || driver.create_volume(target, row.size_bytes);
        let info = self.with_room(&row.pool, make).await?;
        if info.size_bytes < least_bytes {
            return Err(ManagerError::OutOfRange(format!(
                "the storage made {} bytes, the snapshot has {least_bytes}",
                info.size_bytes
            )));
        }
        Ok(info.size_bytes)
    }

    async fn fill(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        path: PathBuf,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), ManagerError> {
        let size_bytes = manifest.size_bytes;
        let options = TargetOptions {
            force: false,
            zeroed: true,
        };
        let opening = tokio::task::spawn_blocking(move || Target::open(path, size_bytes, options));
        let target = joined(opening).await?.map_err(RepositoryError::from)?;
        let settings = self.config.transfers.read_settings();
        let report = restore(repository, manifest, target, &settings, progress, cancel).await?;
        tracing::info!(
            data_bytes = report.data_bytes,
            received_bytes = report.received_bytes,
            requests = report.requests,
            "the volume is filled and flushed"
        );
        Ok(())
    }
}
