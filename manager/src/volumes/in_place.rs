//! A cloud copy into a volume that is there already, of which the old content is kept until the new one is complete.
//!
//! ```text
//! filling → replacing → done          a volume beside it is filled like any that is restored, then it takes the volume's place,
//!     └─────────┴→ undoing → undone   which the storage does in one step; given up, that volume is removed
//! ```
//!
//! The stage and the id of the volume that is filled stand in the catalog before anything is made. So a start goes on with each
//! stage where it was. Whether the step was done is asked of the storage: it answers the same call again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use stockpot_driver::{AccessMode, DriverError, SnapshotId};
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::Progress;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{change::CANCEL_WITHIN, restore::Filling};
use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{
        CopyState, InPlaceRow, InPlaceStage, JobKind, RecordedError, SnapshotRow, VolumeRow,
        VolumeStatus, status,
    },
    codes,
    error::chain,
    fault, ids,
    snapshots::CloudCopy,
    transfers::Entry,
};

/// The least pause between trials of undoing.
const UNDO_PAUSE: Duration = Duration::from_secs(1);

/// How long somebody may have a volume open that is to be replaced before that is no look any more, as udev and its like take, but
/// use; and how often that is asked.
const LOOK_MAX: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to do where only a cloud copy would do, and there is a local one.
fn instead(row: Option<&SnapshotRow>) -> String {
    match row.filter(|row| row.local == CopyState::Present) {
        Some(row) => format!(
            "; only a cloud copy goes into a volume that is there. From the local one a new volume is made: `stockpot volume create NAME \
             --from-snapshot {} --copy local`",
            row.id
        ),
        None => String::new(),
    }
}

impl Manager {
    /// Begins to fill a volume that nobody uses from a cloud copy. Asked again while that goes on, it is the same.
    pub(crate) async fn restore_volume(
        self: Arc<Self>,
        request: api::RestoreVolumeRequest,
    ) -> Result<VolumeRow, ManagerError> {
        let volume = self.volume_row(&request.volume_id).await?;
        let snapshot = self.cloud_copy_named(&request.snapshot_id).await?;
        // A bucket may be slow, and others must not wait for it.
        let size_bytes = self.size_in_cloud(&snapshot).await?;
        let _held = self.hold_volume(&volume.id).await?;
        let volume = self.volume_row(volume.id.as_str()).await?;
        let id = &volume.id;
        self.refuse_spare(id).await?;
        if volume.status == VolumeStatus::Restoring
            && let Some(there) = self.in_place_under_way(&volume).await?
        {
            return match there.snapshot_id == snapshot {
                true => Ok(volume),
                false => Err(ManagerError::FailedPrecondition(format!(
                    "volume {id} is being restored from snapshot {}: wait for that, or cancel it",
                    there.snapshot_id
                ))),
            };
        }
        self.check_in_place(&volume).await?;
        if size_bytes > volume.size_bytes {
            return Err(ManagerError::OutOfRange(format!(
                "volume {id} has {} bytes, snapshot {snapshot} {size_bytes}: extend the volume first",
                volume.size_bytes
            )));
        }
        self.make_room(&volume.pool).await;
        let row = InPlaceRow {
            volume_id: id.clone(),
            snapshot_id: snapshot,
            temp_volume_id: ids::new_volume_id(&self.node),
            stage: InPlaceStage::Filling,
        };
        tracing::info!(volume_id = %id, snapshot_id = %row.snapshot_id, beside = %row.temp_volume_id, "a restore into a volume begins");
        if !self.catalog.begin_in_place(row).await? {
            return Err(ManagerError::Busy(format!(
                "volume {id} has just changed: ask again"
            )));
        }
        fault::reached("in-place.row");
        self.start_restore(id).await;
        self.notify();
        self.volume_row(id.as_str()).await
    }

    /// Gives up what [`restore_volume`](Self::restore_volume) began; none under way is success.
    pub(crate) async fn cancel_restore(
        self: Arc<Self>,
        id: String,
    ) -> Result<VolumeRow, ManagerError> {
        let volume = self.volume_row(&id).await?;
        let _held = self.hold_volume(&volume.id).await?;
        let volume = self.volume_row(&id).await?;
        let Some(row) = self.in_place_under_way(&volume).await? else {
            return Ok(volume);
        };
        let why = RecordedError {
            code: Code::Cancelled.into(),
            text: format!(
                "the restore from snapshot {} was cancelled; the volume is as it was before",
                row.snapshot_id
            ),
        };
        // On record first: no start goes on with it.
        let filling = InPlaceStage::Filling;
        self.catalog
            .give_up_in_place(&volume.id, filling, why.clone())
            .await?;
        self.transfers
            .cancel(JobKind::Restore, volume.id.as_str(), CANCEL_WITHIN)
            .await?;
        if let Err(error) = self.undo_in_place(&row, why).await {
            // It goes on with that, with patience.
            self.start_restore(&volume.id).await;
            return Err(error);
        }
        self.notify();
        self.volume_row(&id).await
    }

    /// The snapshot that is meant, by its id or that of a backup.
    async fn cloud_copy_named(&self, id: &str) -> Result<SnapshotId, ManagerError> {
        if let Some(backup) = self.catalog.backup(id).await? {
            return Ok(backup.snapshot_id);
        }
        id.parse()
            .map_err(|_| ManagerError::NotFound(format!("snapshot {id:?}")))
    }

    /// The size of a committed cloud copy.
    async fn size_in_cloud(&self, id: &SnapshotId) -> Result<u64, ManagerError> {
        let row = self.catalog.snapshot(id).await?;
        match self.cloud_copy_to_restore(row.as_ref(), id).await? {
            CloudCopy::Committed(_, manifest) => Ok(manifest.size_bytes),
            CloudCopy::Unusable(why) => Err(ManagerError::FailedPrecondition(format!(
                "snapshot {id} cannot be restored from the cloud: {why}{}",
                instead(row.as_ref())
            ))),
            CloudCopy::Unknown if row.is_some() => Err(ManagerError::FailedPrecondition(format!(
                "snapshot {id} has no cloud copy{}",
                instead(row.as_ref())
            ))),
            CloudCopy::Unknown => Err(ManagerError::NotFound(format!("snapshot {id}"))),
        }
    }

    /// Refuses a volume that is in use, or whose content the storage cannot replace.
    pub(crate) async fn check_in_place(&self, volume: &VolumeRow) -> Result<(), ManagerError> {
        let id = &volume.id;
        if volume.status != VolumeStatus::InUse {
            status::ask(id.as_str(), volume.status, VolumeStatus::Restoring)?;
        }
        let driver = self.driver(&volume.pool)?;
        if let Some(mut user) = self.user_of(volume).await? {
            if volume.status == VolumeStatus::InUse
                && let Ok(Some(holder)) = driver.volume_in_use(id).await
            {
                user.push_str(&format!(", and {holder}"));
            }
            return Err(ManagerError::FailedPrecondition(format!(
                "volume {id} is in use ({user}): unmount and detach it first"
            )));
        }
        let mut checked = driver.check_replace(id).await;
        // A snapshot that is kept only for the next upload is no reason against it.
        if matches!(checked, Err(DriverError::InUse { .. }))
            && self
                .give_back_bases_of(id, "something is restored into its volume")
                .await?
        {
            checked = driver.check_replace(id).await;
        }
        match checked {
            Ok(()) => Ok(()),
            Err(DriverError::InUse { by, .. }) => Err(ManagerError::FailedPrecondition(format!(
                "volume {id} cannot be given another content because of {by}; or restore to a new volume"
            ))),
            Err(DriverError::Unsupported(_)) => Err(ManagerError::FailedPrecondition(format!(
                "the storage of pool {} cannot give a volume another content: restore to a new volume",
                volume.pool
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// The restore into a volume that has not ended.
    async fn in_place_under_way(
        &self,
        volume: &VolumeRow,
    ) -> Result<Option<InPlaceRow>, ManagerError> {
        let row = self.catalog.in_place(&volume.id).await?;
        Ok(row.filter(InPlaceRow::is_under_way))
    }

    /// Fills, replaces, and records the end; or undoes.
    pub(super) async fn run_in_place(&self, row: &InPlaceRow, entry: Entry) {
        let id = &row.volume_id;
        let cancel = entry.cancel_token().clone();
        let once = |progress| -> BoxFuture<'_, _> {
            Box::pin(self.in_place_once(row, progress, cancel.clone()))
        };
        let outcome = match row.stage {
            // Why stands on record.
            InPlaceStage::Undoing => Err(ManagerError::Cancelled),
            _ => {
                self.attempts(JobKind::Restore, id.as_str(), &entry, &once)
                    .await
            }
        };
        match outcome {
            Ok(size_bytes) => {
                tracing::info!(size_bytes, snapshot_id = %row.snapshot_id, "the volume has the restored content");
                entry.ending();
                let record = || async { Ok(self.catalog.in_place_done(id, size_bytes).await?) };
                if let Err(error) = self.persist("the end of a restore", record).await {
                    tracing::error!(
                        error = chain(&error),
                        "the end of a restore could not be recorded; the next start asks the storage for it"
                    );
                }
                fault::reached("in-place.recorded");
            }
            // Who cancelled it may not have waited for this. A stopping manager goes on at its next start.
            Err(error @ ManagerError::Cancelled) if row.stage != InPlaceStage::Undoing => {
                if !self.stopping.is_cancelled() && self.is_given_up(row).await {
                    let why = codes::record(&error);
                    self.undo_until_done(row, why, &self.stopping).await;
                }
            }
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "the restore into a volume was given up"
                );
                let recorded = codes::record(&error);
                let why = RecordedError {
                    text: format!(
                        "the restore from snapshot {} failed, and the volume is as it was before: {}",
                        row.snapshot_id, recorded.text
                    ),
                    ..recorded
                };
                self.undo_until_done(row, why, &cancel).await;
            }
        }
        drop(entry);
        self.notify();
    }

    /// Whether it stands on record as given up, with the reason.
    async fn is_given_up(&self, row: &InPlaceRow) -> bool {
        match self.catalog.in_place(&row.volume_id).await {
            Ok(now) => now.is_some_and(|now| now.stage == InPlaceStage::Undoing),
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "how far a restore is cannot be read; the next start goes on with it"
                );
                false
            }
        }
    }

    /// One attempt, from the stage where it is, to the volume's size.
    async fn in_place_once(
        &self,
        row: &InPlaceRow,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<u64, ManagerError> {
        let id = &row.volume_id;
        let volume = self.awaiting_restore(id).await?;
        let now = self.catalog.in_place(id).await?.map(|now| now.stage);
        if now == Some(InPlaceStage::Filling) {
            let filling = Filling {
                row: &volume,
                target: &row.temp_volume_id,
                snapshot: &row.snapshot_id,
            };
            self.fill_once(&filling, &progress, &cancel).await?;
            let (from, to) = (InPlaceStage::Filling, InPlaceStage::Replacing);
            let record = || async { Ok(self.catalog.move_in_place(id, from, to).await?) };
            if !self.persist("that a volume is filled", record).await? {
                return Err(ManagerError::Cancelled);
            }
            fault::reached("in-place.filled");
        } else if now != Some(InPlaceStage::Replacing) {
            // Given up meanwhile.
            return Err(ManagerError::Cancelled);
        }
        self.put_in_place(&volume, row, &cancel).await
    }

    /// The last step, to the volume's size. Somebody who opened the volume past the daemon may have written to it, and that would be
    /// lost: then there is an end to the restore, and none to what was written.
    async fn put_in_place(
        &self,
        volume: &VolumeRow,
        row: &InPlaceRow,
        cancel: &CancellationToken,
    ) -> Result<u64, ManagerError> {
        let (id, driver) = (&volume.id, self.driver(&volume.pool)?);
        let refused = match driver.replace_volume(id, &row.temp_volume_id).await {
            Ok(info) => {
                fault::reached("in-place.replaced");
                return Ok(info.size_bytes);
            }
            Err(error) if !matches!(error, DriverError::InUse { .. }) => return Err(error.into()),
            Err(error) => error,
        };
        let begun = Instant::now();
        loop {
            // Storage that cannot say it is asked for the step again.
            let Ok(Some(user)) = driver.volume_in_use(id).await else {
                return Err(refused.into());
            };
            if begun.elapsed() >= LOOK_MAX {
                return Err(ManagerError::FailedPrecondition(format!(
                    "volume {id} came into use ({user}) while it was being restored, and what was written to it would be lost: \
                     end that, and restore again"
                )));
            }
            tokio::select! {
                () = cancel.cancelled() => return Err(ManagerError::Cancelled),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Undoes with patience: storage that does not answer now may do so later.
    async fn undo_until_done(
        &self,
        row: &InPlaceRow,
        why: RecordedError,
        cancel: &CancellationToken,
    ) {
        for trial in 2.. {
            let Err(error) = self.undo_in_place(row, why.clone()).await else {
                return;
            };
            tracing::warn!(
                error = chain(&error),
                beside = %row.temp_volume_id,
                "what was to be restored cannot be removed yet"
            );
            let pause = self.config.transfers.pause_before(trial).max(UNDO_PAUSE);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Removes what was filled, unless it has taken the volume's place: then that is the end. To be called when nobody works on it.
    async fn undo_in_place(
        &self,
        row: &InPlaceRow,
        why: RecordedError,
    ) -> Result<(), ManagerError> {
        let id = &row.volume_id;
        let volume = self.volume_row(id.as_str()).await?;
        let Some(now) = self.in_place_under_way(&volume).await? else {
            return Ok(());
        };
        if now.stage == InPlaceStage::Replacing && self.was_replaced(&volume, row).await? {
            return Ok(());
        }
        if now.stage != InPlaceStage::Undoing {
            self.catalog.give_up_in_place(id, now.stage, why).await?;
        }
        self.drop_beside(&volume, row).await?;
        self.catalog.in_place_undone(id).await?;
        tracing::info!(volume_id = %id, "the volume is as it was before its restore");
        Ok(())
    }

    /// Makes the storage say whether the step was done, by asking for it once more: only after a clear refusal it is certain that
    /// it will not be done behind.
    async fn was_replaced(
        &self,
        volume: &VolumeRow,
        row: &InPlaceRow,
    ) -> Result<bool, ManagerError> {
        let driver = self.driver(&volume.pool)?;
        let with = &row.temp_volume_id;
        match driver.replace_volume(&volume.id, with).await {
            Ok(info) => {
                let size_bytes = info.size_bytes;
                self.catalog.in_place_done(&volume.id, size_bytes).await?;
                tracing::info!(volume_id = %volume.id, size_bytes, "the volume has the restored content");
                Ok(true)
            }
            Err(error) if error.may_go_on() => Err(error.into()),
            Err(DriverError::NotFound { .. }) => Ok(false),
            // What went wrong may have come after the step.
            Err(error) => match driver.volume(with).await? {
                Some(_) => Ok(false),
                None => Err(error.into()),
            },
        }
    }

    /// Removes the volume that was filled.
    async fn drop_beside(&self, volume: &VolumeRow, row: &InPlaceRow) -> Result<(), ManagerError> {
        let beside = Subject::Volume(row.temp_volume_id.clone(), AccessMode::ReadWrite);
        self.detach(&beside).await?;
        let driver = self.driver(&volume.pool)?;
        Ok(driver.delete_volume(&row.temp_volume_id).await?)
    }

    /// Ends the restore into a volume that is deleted; its transfer was cancelled. Whether there was one, now or before.
    pub(super) async fn end_in_place(&self, volume: &VolumeRow) -> Result<bool, ManagerError> {
        let Some(row) = self.catalog.in_place(&volume.id).await? else {
            return Ok(false);
        };
        if row.is_under_way() {
            self.drop_beside(volume, &row).await?;
            let (id, to) = (&volume.id, InPlaceStage::Undone);
            self.catalog.move_in_place(id, row.stage, to).await?;
        }
        Ok(true)
    }

    /// Refuses an id that is of a volume being filled for another one.
    pub(crate) async fn refuse_beside(
        &self,
        id: &stockpot_driver::VolumeId,
    ) -> Result<(), ManagerError> {
        let rows = self.catalog.in_place_under_way().await?;
        match rows.iter().find(|row| row.temp_volume_id == *id) {
            Some(row) => Err(ManagerError::FailedPrecondition(format!(
                "volume {id} is being filled to take the place of volume {}: cancel that restore instead",
                row.volume_id
            ))),
            None => Ok(()),
        }
    }
}
