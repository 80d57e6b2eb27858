//! The second stage: behind the upload, until the backup has ended and nothing temporary is left.

use std::{sync::Arc, time::Duration};

use stockpot_driver::{AccessMode, volume_driver::temporary_volume};
use tracing::Instrument;

use super::create::may_go_on;
use crate::{
    Manager, ManagerError, attach,
    catalog::{
        BackupRow, BackupSource, BackupStatus, CopyState, Deleting, JobKind, RecordedError,
        SnapshotRow,
    },
    codes,
    error::chain,
    fault,
    locks::Subject,
};

/// How often a backup that is under way is looked at, besides at each change.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a cut that the storage does not answer is asked for again, from when the backup was asked for. Its volume is backing-up
/// meanwhile.
const CUT_WITHIN: Duration = Duration::from_mins(10);

const NEVER_CUT: &str = "it was deleted, or the manager ended, before there was something to read";

impl Manager {
    /// Looks at a backup until there is nothing more to do for it, or the manager stops.
    pub(crate) fn follow_backup(self: &Arc<Self>, id: &str) {
        let (manager, id) = (self.clone(), id.to_owned());
        let span = tracing::info_span!(parent: None, "backup", backup_id = id);
        let work = async move {
            tokio::select! {
                () = manager.stopping.cancelled() => {}
                () = manager.see_to_backup(&id) => {}
            }
        };
        self.tasks.spawn(work.instrument(span));
    }

    async fn see_to_backup(self: &Arc<Self>, id: &str) {
        let mut changes = self.changes();
        let mut failures = 0_u32;
        loop {
            changes.mark_unchanged();
            let settled = async {
                self.cut_again(id).await?;
                self.settle_backup(id).await
            };
            match settled.await {
                Ok(true) => return,
                Ok(false) => {
                    failures = 0;
                    // The sender lives as long as the manager.
                    let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pause = self
                        .config
                        .transfers
                        .pause_before(failures.saturating_add(1));
                    tracing::warn!(
                        error = chain(&error),
                        pause_seconds = pause.as_secs(),
                        "a backup cannot be brought to its end yet"
                    );
                    // Never without a pause, whatever the configuration says.
                    tokio::time::sleep(pause.max(Duration::from_millis(50))).await;
                }
            }
        }
    }

    /// Asks the storage again for a cut that it did not answer: it may be at it still, and then this is answered when that is done.
    async fn cut_again(self: &Arc<Self>, id: &str) -> Result<(), ManagerError> {
        let Some(row) = self.catalog.backup(id).await?.filter(awaits_cut) else {
            return Ok(());
        };
        // In the order in which it was begun.
        let _volume = self.hold_volume(&row.volume_id).await?;
        let _held = self.locks.hold(Subject::Backup(id.to_owned())).await?;
        let _snapshot = self.hold_snapshot(&row.snapshot_id).await?;
        let Some(row) = self.catalog.backup(id).await?.filter(awaits_cut) else {
            return Ok(());
        };
        let snapshot = self.catalog.snapshot(&row.snapshot_id).await?;
        let is_awaited = |row: &SnapshotRow| {
            row.deleting.is_none() && matches!(row.local, CopyState::Pending | CopyState::Present)
        };
        let Some(snapshot) = snapshot.filter(is_awaited) else {
            return Ok(());
        };
        let cut = match snapshot.local {
            CopyState::Present => self.backup_was_cut(id, &snapshot).await,
            _ => self.cut_of_backup(id, snapshot, true).await,
        };
        self.notify();
        match cut {
            Err(error) if !may_go_on(&error) || self.is_late(&row) => {
                self.failed(&row, codes::record(&error)).await.map(drop)
            }
            done => done,
        }
    }

    /// Does what is to be done for a backup now; whether that was the last of it.
    pub(super) async fn settle_backup(&self, id: &str) -> Result<bool, ManagerError> {
        let _held = self.locks.hold(Subject::Backup(id.to_owned())).await?;
        let Some(row) = self.catalog.backup(id).await? else {
            return Ok(true);
        };
        let has_ended = match row.status {
            BackupStatus::Creating => self.look_at_upload(&row).await?,
            BackupStatus::Cancelling => {
                self.stop_upload(&row).await?;
                true
            }
            _ => true,
        };
        if !has_ended {
            return Ok(false);
        }
        self.notify();
        let row = self.backup_row(id).await?;
        if matches!(
            row.status,
            BackupStatus::Creating | BackupStatus::Cancelling
        ) {
            // Somebody cancelled it while its end was written: what it reads is not let go of, and nothing is cleaned up yet.
            return Ok(false);
        }
        if !row.cleaned {
            self.clean_up(&row).await?;
            fault::reached("backup.temporary-removed");
            self.catalog.backup_cleaned(id).await?;
            fault::reached("backup.cleaned");
            self.notify();
        }
        Ok(true)
    }

    /// Whether the upload has ended, which then stands with the backup.
    async fn look_at_upload(&self, row: &BackupRow) -> Result<bool, ManagerError> {
        let Some(snapshot) = self.catalog.snapshot(&row.snapshot_id).await? else {
            let was_cut = row.cut_at_us.is_some() && row.source == BackupSource::Snapshot;
            let text = match was_cut {
                true => "its snapshot was deleted",
                false => NEVER_CUT,
            };
            return self.failed(row, aborted(text)).await;
        };
        if snapshot
            .deleting
            .is_some_and(|which| which != Deleting::Local)
        {
            // Somebody else deletes it: what reads it ends first.
            let id = row.snapshot_id.as_str();
            if self.transfers.how_far(JobKind::Upload, id).is_some() {
                return Ok(false);
            }
            self.end(row, BackupStatus::Cancelled, None).await?;
            return Ok(true);
        }
        match snapshot.cloud {
            CopyState::Present => {
                self.end(row, BackupStatus::Available, None).await?;
                Ok(true)
            }
            CopyState::Failed => {
                let failure = snapshot.error.clone();
                let failure = failure.unwrap_or_else(|| aborted("its upload was given up"));
                self.failed(row, failure).await
            }
            CopyState::None | CopyState::Deleted => {
                self.failed(row, aborted("its cloud copy was deleted"))
                    .await
            }
            CopyState::Pending if snapshot.local == CopyState::Pending => match self.is_late(row) {
                true => self.failed(row, aborted(NEVER_CUT)).await,
                // The storage may still be at it, and is asked again.
                false => Ok(false),
            },
            CopyState::Pending => {
                self.note_progress(row, &snapshot).await?;
                Ok(false)
            }
        }
    }

    async fn note_progress(
        &self,
        row: &BackupRow,
        snapshot: &SnapshotRow,
    ) -> Result<(), ManagerError> {
        let how_far = self
            .transfers
            .how_far(JobKind::Upload, snapshot.id.as_str());
        let (phase, done) = match &how_far {
            Some(how_far) if !row.paused => (how_far.phase(), how_far.counters.bytes_scanned),
            _ if row.paused => ("paused", row.bytes_done),
            _ => ("waiting", row.bytes_done),
        };
        if done != row.bytes_done || phase != row.phase {
            self.catalog.backup_progress(&row.id, phase, done).await?;
        }
        // Where the storage cannot attach a snapshot, it is read through a volume made from it.
        if row.source == BackupSource::Snapshot
            && row.temp_volume_id.is_none()
            && phase != row.phase
        {
            let temporary = temporary_volume(&snapshot.id);
            if self
                .driver(&snapshot.pool)?
                .volume(&temporary)
                .await?
                .is_some()
            {
                self.catalog
                    .backup_reads_through(&row.id, &temporary)
                    .await?;
            }
        }
        Ok(())
    }

    /// Ends a backup that a crash left before its cut.
    pub(super) async fn never_cut(&self, row: &BackupRow) -> Result<(), ManagerError> {
        self.failed(row, aborted(NEVER_CUT)).await.map(drop)
    }

    async fn failed(&self, row: &BackupRow, failure: RecordedError) -> Result<bool, ManagerError> {
        tracing::error!(error = failure.text, "the backup failed");
        self.end(row, BackupStatus::Error, Some(failure)).await?;
        Ok(true)
    }

    /// Records the end. A volume that was read is let go of first: it is what it was before only when it is detached.
    async fn end(
        &self,
        row: &BackupRow,
        to: BackupStatus,
        failure: Option<RecordedError>,
    ) -> Result<(), ManagerError> {
        if row.source == BackupSource::Volume && row.holds_volume {
            let subject = attach::Subject::Volume(row.volume_id.clone(), AccessMode::ReadOnly);
            self.detach(&subject).await?;
            fault::reached("backup.volume-detached");
        }
        let ended = self.catalog.end_backup(&row.id, row.status, to, failure);
        if ended.await? {
            tracing::info!(status = %to, "the backup has ended");
            fault::reached("backup.ended");
        }
        Ok(())
    }

    async fn stop_upload(&self, row: &BackupRow) -> Result<(), ManagerError> {
        self.transfers
            .cancel(
                JobKind::Upload,
                row.snapshot_id.as_str(),
                super::cancel::CANCEL_WITHIN,
            )
            .await?;
        self.end(row, BackupStatus::Cancelled, None).await
    }

    /// Removes what is temporary, and of one that did not succeed also what there is in the bucket. Nothing is success.
    async fn clean_up(&self, row: &BackupRow) -> Result<(), ManagerError> {
        let id = &row.snapshot_id;
        let _held = self.hold_snapshot(id).await?;
        let Some(snapshot) = self.catalog.snapshot(id).await? else {
            return Ok(());
        };
        if matches!(row.status, BackupStatus::Available | BackupStatus::Deleted) {
            let is_there = snapshot.local == CopyState::Present;
            return match row.temp_snapshot_id.is_some() && is_there {
                true => self.delete_known(snapshot, Deleting::Local).await,
                false => Ok(()),
            };
        }
        if awaits_answer(row, &snapshot) && !self.is_late(row) {
            self.answered(&snapshot).await?;
        }
        match self.delete_known(snapshot, Deleting::Both).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // What takes room here does not wait for a bucket that does not answer.
                let left = self.catalog.snapshot(id).await?;
                if let Some(left) = left.filter(|left| {
                    left.deleting.is_some()
                        && matches!(left.local, CopyState::Present | CopyState::Pending)
                }) {
                    self.delete_known(left, Deleting::Local).await?;
                }
                Err(error)
            }
        }
    }

    /// Whether its cut is not waited for any longer. By the clock that it was dated by.
    fn is_late(&self, row: &BackupRow) -> bool {
        let waited_us = self.clock.now().as_microsecond();
        let waited_us = waited_us.saturating_sub(row.created_at_us);
        u128::try_from(waited_us).is_ok_and(|waited_us| waited_us >= CUT_WITHIN.as_micros())
    }
}

/// Whether its temporary snapshot is still to be cut.
fn awaits_cut(row: &BackupRow) -> bool {
    row.status == BackupStatus::Creating
        && row.source == BackupSource::Snapshot
        && row.cut_at_us.is_none()
}

/// Whether the storage may still be at its cut, so that it would be there after it was removed.
fn awaits_answer(row: &BackupRow, snapshot: &SnapshotRow) -> bool {
    row.source == BackupSource::Snapshot
        && row.cut_at_us.is_none()
        && snapshot.local == CopyState::Pending
}

fn aborted(text: &str) -> RecordedError {
    RecordedError {
        code: tonic::Code::Aborted.into(),
        text: text.to_owned(),
    }
}
