//! A backup that a repository has and this catalog does not: put on record again.
//!
//! The row is all there is to it. What it says of the copy comes from the copy's manifest and not from the caller, who
//! only names it; so a record cannot promise what is not in the bucket.

use std::sync::Arc;

use stockpot_driver::{SnapshotId, VolumeId};
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::format::manifest::{Manifest, Reason};

use crate::{
    Manager, ManagerError,
    catalog::{BackupRow, BackupSource, BackupStatus, Metadata, Sent, UploadReason},
    cloud::{self, Found},
    ids,
    locks::Subject,
    request,
    snapshots::metadata::{backup_name_of, callers_words, consistency_of},
};

impl Manager {
    /// Puts a backup on record whose copy is in a repository. The same again is success.
    pub(crate) async fn import_backup(
        self: Arc<Self>,
        request: api::ImportBackupRequest,
    ) -> Result<BackupRow, ManagerError> {
        request::check_metadata(&request.metadata)?;
        let mut request = request;
        if !ids::is_backup_id(&request.backup_id) {
            return Err(ManagerError::InvalidArgument(format!(
                "{:?} is no id of a backup",
                request.backup_id
            )));
        }
        let is_named = !request.name.is_empty();
        if !is_named {
            request.name.clone_from(&request.backup_id);
        }
        request::check_name(&request.name)?;
        let snapshot: SnapshotId = request.snapshot_id.parse().map_err(|_| {
            ManagerError::InvalidArgument(format!(
                "{:?} is no id of a cloud copy",
                request.snapshot_id
            ))
        })?;
        let _name = self
            .locks
            .hold(Subject::BackupName(request.name.clone()))
            .await?;
        let id = request.backup_id.clone();
        let _held = self.locks.hold(Subject::Backup(id.clone())).await?;
        if let Some(row) = self.catalog.backup(&id).await? {
            return again(row, &snapshot);
        }
        // Deleting the backup would delete that snapshot.
        if self.catalog.snapshot(&snapshot).await?.is_some() {
            return Err(ManagerError::FailedPrecondition(format!(
                "{snapshot} is a snapshot on record here, and no backup"
            )));
        }
        let (mut row, called) = self.imported(request, &snapshot).await?;
        // What it was called before, unless that is another one's name by now.
        if let Some(called) = called.filter(|_| !is_named)
            && self.catalog.backup_by_name(&called).await?.is_none()
            && self.catalog.backup(&called).await?.is_none()
        {
            row.name = called;
        }
        match self.catalog.import_backup(row).await {
            // The copy or the name is another backup's.
            Err(error) if error.is_taken() => Err(ManagerError::AlreadyExists {
                what: format!("a backup of cloud copy {snapshot} or of this name"),
                difference: "id",
            }),
            Err(error) => Err(error.into()),
            Ok(()) => {
                tracing::info!(backup_id = id, snapshot_id = %snapshot, "a backup was imported");
                self.notify();
                self.backup_row(&id).await
            }
        }
    }

    /// The row, from what the repository says of the copy, and what the backup was called.
    async fn imported(
        &self,
        request: api::ImportBackupRequest,
        snapshot: &SnapshotId,
    ) -> Result<(BackupRow, Option<String>), ManagerError> {
        let absent = || ManagerError::NotFound(format!("cloud copy {snapshot}"));
        let short_id = ids::repository_of(snapshot).ok_or_else(absent)?;
        let Some((profile, repository)) = self.clouds.by_short_id(short_id).await? else {
            return Err(ManagerError::FailedPrecondition(format!(
                "no profile leads to repository {short_id}, where cloud copy {snapshot} lies: make one, then ask again"
            )));
        };
        let manifest = match cloud::look_up(&repository, None, snapshot).await? {
            Found::Committed(manifest) => manifest,
            Found::Deleted | Found::Absent => return Err(absent()),
            Found::Uploading => {
                return Err(ManagerError::FailedPrecondition(format!(
                    "the upload of cloud copy {snapshot} is not complete"
                )));
            }
        };
        let location = cloud::location_of(&repository, &manifest);
        let called = backup_name_of(&manifest);
        let row = row(request, snapshot, &profile.name, location, *manifest)?;
        Ok((row, called))
    }
}

/// A backup that is on record already.
fn again(row: BackupRow, snapshot: &SnapshotId) -> Result<BackupRow, ManagerError> {
    if row.snapshot_id == *snapshot {
        return Ok(row);
    }
    Err(ManagerError::AlreadyExists {
        what: format!("backup {}", row.id),
        difference: "cloud copy",
    })
}

fn row(
    request: api::ImportBackupRequest,
    snapshot: &SnapshotId,
    profile: &str,
    location: String,
    manifest: Manifest,
) -> Result<BackupRow, ManagerError> {
    let volume_id: VolumeId = manifest.volume_id.as_str().parse().map_err(|_| {
        ManagerError::Internal(format!("volume id {} in the bucket", manifest.volume_id))
    })?;
    let mut metadata: Metadata = request.metadata.into_iter().collect();
    if metadata.is_empty() {
        metadata = callers_words(&manifest);
    }
    let consistency = consistency_of(&manifest);
    let reason = match manifest.reason {
        Reason::Full => UploadReason::Full,
        Reason::Compared => UploadReason::Compared,
        Reason::Incremental => UploadReason::Incremental,
    };
    Ok(BackupRow {
        id: request.backup_id,
        name: request.name,
        volume_id,
        volume_name: manifest.volume_name,
        snapshot_id: snapshot.clone(),
        profile: profile.to_owned(),
        status: BackupStatus::Available,
        // There is nothing to read any more, and nothing temporary.
        source: BackupSource::Volume,
        holds_volume: false,
        temp_snapshot_id: None,
        temp_volume_id: None,
        parent: manifest.base.map(|base| base.snapshot_id.to_string()),
        phase: "done".to_owned(),
        bytes_done: manifest.size_bytes,
        bytes_total: manifest.size_bytes,
        reason: Some((reason, manifest.why)),
        sent: Some(Sent {
            stored_bytes: manifest.stored_bytes,
            requests: 0,
        }),
        location: Some(location),
        failure: None,
        cleaned: true,
        metadata,
        created_at_us: manifest.started_at.as_microsecond(),
        cut_at_us: Some(manifest.cut_at.as_microsecond()),
        ended_at_us: Some(manifest.committed_at.as_microsecond()),
        paused: false,
        is_full: false,
        schedule: None,
        consistency,
        frozen_us: 0,
    })
}
