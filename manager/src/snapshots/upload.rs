//! A snapshot to the bucket: attached read-only like any volume, read, committed, read back, detached. One that was not cut,
//! because nobody uses the volume, is read from the volume itself; and the cloud copy of a backup may be read from a local snapshot
//! that was there before.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use stockpot_driver::{AccessMode, SnapshotId, VolumeDriver};
use stockpot_repository::{
    Progress, Repository, UploadSettings,
    device::{Source, SourceOptions},
    format::manifest::{Manifest, Reason},
    snapshots::abort_uploads,
    upload::{BaseChoice, Changes, SourceCheck, UploadRequest, upload},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    bases::{Delta, to_ranges},
    metadata::cloud_metadata,
};
use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{CopyState, JobKind, Purpose, Sent, SnapshotRow, UploadReason},
    cloud::{self, Found},
    codes,
    error::chain,
    fault, ids,
    joined::joined,
    transfers::Entry,
};

/// A cloud copy that was read back.
struct Committed {
    location: String,
    sent: Sent,
    reason: (UploadReason, String),
    /// The cloud copy that it builds on.
    parent: Option<String>,
}

impl Manager {
    /// Begins the upload of a snapshot that is on record as awaiting it. One that is running already goes on.
    ///
    /// It can be cancelled as soon as this returns. The caller holds the snapshot's lock, or is the recovery.
    pub(crate) async fn start_upload(self: &Arc<Self>, id: &SnapshotId) {
        let key = (JobKind::Upload, id.to_string());
        let Some(entry) = self.transfers.begin(key, &self.stopping).await else {
            return;
        };
        let (manager, id) = (self.clone(), id.clone());
        let span = tracing::info_span!(parent: None, "upload", snapshot_id = %id);
        self.tasks
            .spawn(async move { manager.run_upload(&id, entry).await }.instrument(span));
    }

    async fn run_upload(&self, id: &SnapshotId, entry: Entry) {
        let cancel = entry.cancel_token().clone();
        let once = |progress| -> futures::future::BoxFuture<'_, _> {
            Box::pin(self.upload_once(id, progress, cancel.clone()))
        };
        let outcome = self
            .attempts(JobKind::Upload, id.as_str(), &entry, &once)
            .await;
        entry.ending();
        let recorded = match outcome {
            Ok(done) => {
                tracing::info!(location = done.location, reason = %done.reason.0, why = done.reason.1, "the cloud copy is committed");
                let recorded = self.persist("the end of an upload", || async {
                    let (reason, parent) = (done.reason.clone(), done.parent.clone());
                    let recorded = self.catalog.snapshot_uploaded(
                        id,
                        &done.location,
                        done.sent,
                        reason,
                        parent,
                    );
                    Ok(recorded.await?)
                });
                let recorded = recorded.await;
                fault::reached("upload.recorded");
                recorded
            }
            // Whoever cancelled it knows what comes next; a stopping manager goes on at its next start.
            Err(ManagerError::Cancelled) => Ok(false),
            Err(error) => {
                tracing::error!(error = chain(&error), "the upload was given up");
                let why = codes::record(&error);
                let record = || async { Ok(self.catalog.fail_snapshot(id, why.clone()).await?) };
                self.persist("the end of an upload", record).await
            }
        };
        if let Err(error) = recorded {
            tracing::error!(
                error = chain(&error),
                "the end of an upload could not be recorded; the next start goes on with it"
            );
        }
        drop(entry);
        // Whoever waits for it does not wait for what is tidied up.
        self.notify();
        self.give_back_unneeded_bases().await;
        self.notify();
    }

    /// One attempt, to where the cloud copy lies and what was sent.
    async fn upload_once(
        &self,
        id: &SnapshotId,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<Committed, ManagerError> {
        let row = self.snapshot_row(id).await?;
        let backup = self.catalog.backup_of(id).await?;
        let is_paused = backup.is_some_and(|backup| backup.paused);
        if row.cloud != CopyState::Pending || row.deleting.is_some() || is_paused {
            return Err(ManagerError::Cancelled);
        }
        let profile = self.clouds.profile(&row.profile).await?;
        let repository = self.clouds.for_writing(&profile).await?;
        let outcome = self.upload_to(&repository, &row, progress, cancel).await;
        if let Err(error) = &outcome {
            self.clouds.heed(&profile, error);
        }
        outcome
    }

    async fn upload_to(
        &self,
        repository: &Repository,
        row: &SnapshotRow,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<Committed, ManagerError> {
        if ids::repository_of(&row.id) != Some(&repository.short_id()) {
            return Err(ManagerError::FailedPrecondition(format!(
                "profile {} leads to repository {} now, and snapshot {} belongs to another one",
                row.profile,
                repository.short_id(),
                row.id
            )));
        }
        // An earlier run may have committed and not lived to record it.
        match cloud::look_up(repository, Some(&row.volume_id), &row.id).await? {
            Found::Committed(manifest) => {
                return checked(repository, row, &manifest, &progress, None);
            }
            Found::Deleted => {
                return Err(ManagerError::FailedPrecondition(format!(
                    "snapshot {} was deleted in {}",
                    row.id,
                    repository.location()
                )));
            }
            Found::Uploading | Found::Absent => {}
        }
        self.catalog.upload_begins(&row.id).await?;
        // No other attempt is under way here: what one that was killed left open is given up.
        abort_uploads(
            repository,
            &cloud::format_volume(&row.volume_id)?,
            &cloud::format_snapshot(&row.id)?,
        )
        .await?;
        fault::reached("upload.begun");
        let cut = self.cut_to_read(row).await?;
        let subject = match &cut {
            Some(cut) => Subject::Snapshot(cut.clone()),
            None => Subject::Volume(row.volume_id.clone(), AccessMode::ReadOnly),
        };
        let device = self.attach(&row.pool, &subject, Purpose::Transfer).await?;
        fault::reached("upload.attached");
        let read = Read {
            row,
            cut,
            path: device.path,
        };
        let sent = self.send(repository, &read, &progress, &cancel).await;
        if sent.is_ok() {
            fault::reached("upload.committed");
        }
        let detached = self.persist("what is attached", || self.detach(&subject));
        if let Err(error) = detached.await {
            tracing::error!(
                error = chain(&error),
                "the snapshot stays attached; the next start tries again"
            );
        }
        let told = sent?;
        fault::reached("upload.detached");
        // Ready is only what was read back.
        match cloud::look_up(repository, Some(&row.volume_id), &row.id).await? {
            Found::Committed(manifest) => checked(repository, row, &manifest, &progress, told),
            Found::Deleted | Found::Uploading | Found::Absent => {
                Err(ManagerError::Internal(format!(
                    "{} does not show snapshot {} though it was committed",
                    repository.location(),
                    row.id
                )))
            }
        }
    }

    async fn send(
        &self,
        repository: &Repository,
        read: &Read<'_>,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Option<String>, ManagerError> {
        let (row, cut) = (read.row, read.cut.as_ref());
        let driver = self.driver(&row.pool)?;
        if let Some(cut) = cut {
            driver.check_snapshot(cut).await?;
        }
        let path = read.path.clone();
        let opening =
            tokio::task::spawn_blocking(move || Source::open(path, SourceOptions::default()));
        let source = joined(opening)
            .await?
            .map_err(stockpot_repository::RepositoryError::from)?;
        let profile = self.clouds.profile(&row.profile).await?;
        let backup = self.catalog.backup_of(&row.id).await?;
        let is_full = backup.as_ref().is_some_and(|backup| backup.is_full);
        let (base, changes, why) = match profile.base() {
            BaseChoice::Nothing => (BaseChoice::Nothing, None, None),
            // This one alone, and after a restart too.
            _ if is_full => (BaseChoice::Nothing, None, None),
            _ => self.base(repository, row, cut).await?,
        };
        let cut_at = row.cut_at_us.unwrap_or(row.created_at_us);
        let request = UploadRequest {
            snapshot_id: cloud::format_snapshot(&row.id)?,
            volume_id: cloud::format_volume(&row.volume_id)?,
            volume_name: row.volume_name.clone(),
            metadata: cloud_metadata(row, backup.as_ref().map(|backup| backup.name.as_str())),
            cut_at: Timestamp::from_microsecond(cut_at)
                .map_err(|error| ManagerError::Internal(error.to_string()))?,
            extents: self.extents(&row.pool, cut).await,
            base,
            changes,
            source_check: cut.map(|cut| source_check(driver, cut)),
            // What an earlier attempt read of a volume is compared again: since then it may have been written to by hand.
            source_is_fixed: cut.is_some(),
            settings: UploadSettings {
                lock: profile.lock(),
                ..self.config.transfers.upload_settings()
            },
        };
        let report = match upload(repository, source, request, progress, cancel).await {
            Ok(report) => report,
            Err(error) => {
                // Reads of a void snapshot fail: then that is what has to be known.
                if let Some(cut) = cut.filter(|_| !error.is_cancelled()) {
                    driver.check_snapshot(cut).await?;
                }
                return Err(error.into());
            }
        };
        tracing::info!(
            stored_bytes = report.manifest.stored_bytes,
            data_bytes = report.manifest.data_bytes,
            requests = report.requests,
            repacked_packs = report.repacked_packs,
            repacked_bytes = report.repacked_bytes,
            "the snapshot was sent"
        );
        Ok(why)
    }

    /// What to build on, and what changed since the newest cloud copy that can be asked about, or why that is not known.
    async fn base(
        &self,
        repository: &Repository,
        row: &SnapshotRow,
        cut: Option<&SnapshotId>,
    ) -> Result<(BaseChoice, Option<Changes>, Option<String>), ManagerError> {
        let origin = self.origin_of(repository, row).await?;
        let delta = self.delta(row, cut, origin.as_ref()).await?;
        let base = origin.map_or(BaseChoice::Newest, BaseChoice::NewestOr);
        Ok(match delta {
            Delta::Told(since, ranges) => (base, Some(Changes { since, ranges }), None),
            Delta::Unknown(why) => (base, None, Some(why)),
        })
    }

    /// Where the snapshot may hold data; without that, all of it is read.
    async fn extents(
        &self,
        pool: &str,
        cut: Option<&SnapshotId>,
    ) -> Option<Vec<std::ops::Range<u64>>> {
        let (cut, driver) = (cut?, self.driver(pool).ok()?);
        match driver.allocated_ranges(cut).await {
            Ok(ranges) => ranges.map(to_ranges),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the storage cannot say where data is; all is read"
                );
                None
            }
        }
    }

    /// The snapshot in the storage that is read for a cloud copy: its own, or one that was there before. `None`: the volume is.
    async fn cut_to_read(&self, row: &SnapshotRow) -> Result<Option<SnapshotId>, ManagerError> {
        if is_cut(row) {
            return Ok(Some(row.id.clone()));
        }
        Ok(self.catalog.kept_source(&row.id).await?)
    }
}

/// What one attempt reads.
struct Read<'a> {
    row: &'a SnapshotRow,
    /// The snapshot in the storage; `None` where it is the volume itself.
    cut: Option<SnapshotId>,
    path: PathBuf,
}

/// Whether there is a snapshot of its own in the storage.
fn is_cut(row: &SnapshotRow) -> bool {
    row.local != CopyState::None
}

/// Asks the storage whether the snapshot lasted until it was read.
fn source_check(driver: &Arc<dyn VolumeDriver>, id: &SnapshotId) -> SourceCheck {
    let (driver, id) = (driver.clone(), id.clone());
    SourceCheck::new(move || {
        let (driver, id) = (driver.clone(), id.clone());
        async move { driver.check_snapshot(&id).await }
    })
}

/// Where the committed copy lies, if it is the one of this row, and what its upload sent.
fn checked(
    repository: &Repository,
    row: &SnapshotRow,
    manifest: &Manifest,
    progress: &Progress,
    why: Option<String>,
) -> Result<Committed, ManagerError> {
    if row.size_bytes != Some(manifest.size_bytes) {
        return Err(ManagerError::Internal(format!(
            "the cloud copy of snapshot {} has {} bytes, the snapshot {:?}",
            row.id, manifest.size_bytes, row.size_bytes
        )));
    }
    let sent = Sent {
        stored_bytes: manifest.stored_bytes,
        requests: progress.snapshot().requests,
    };
    let how = match manifest.reason {
        Reason::Full => UploadReason::Full,
        Reason::Compared => UploadReason::Compared,
        Reason::Incremental => UploadReason::Incremental,
    };
    // What the storage could not tell counts for more than that it was not told. Where there was nothing to build on,
    // that is what counts.
    let why = why.filter(|_| manifest.reason != Reason::Full);
    let why = why.unwrap_or_else(|| manifest.why.clone());
    Ok(Committed {
        location: cloud::location_of(repository, manifest),
        sent,
        reason: (how, why),
        parent: manifest
            .base
            .as_ref()
            .map(|base| base.snapshot_id.to_string()),
    })
}
