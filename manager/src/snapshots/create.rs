//! Cutting a snapshot. The answer comes as soon as it is cut; the upload runs behind.

use std::sync::Arc;

use stockpot_driver::{SnapshotId, SnapshotInfo};
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::format::manifest;

use super::upload::cloud_metadata;
use crate::{
    Manager, ManagerError,
    catalog::{CopyState, JobKind, SnapshotRow, VolumeRow, VolumeStatus},
    error::chain,
    fault, ids,
    locks::{Held, Subject},
    manager::now_us,
    request,
};

impl Manager {
    /// Cuts a snapshot, or finds the one that was cut under this name.
    ///
    /// A given-up upload is told as an error, once; asking again after that begins a new attempt with the same id.
    pub(crate) async fn create_snapshot(
        self: Arc<Self>,
        request: api::CreateSnapshotRequest,
    ) -> Result<SnapshotRow, ManagerError> {
        request::check_name(&request.name)?;
        request::check_metadata(&request.metadata)?;
        let name = Subject::SnapshotName(request.name.clone());
        let _name = self.locks.hold(name).await?;
        match self.catalog.snapshot_by_name(&request.name).await? {
            Some(row) => self.found_again(row, request).await,
            None => self.cut_new(request).await,
        }
    }

    async fn found_again(
        self: &Arc<Self>,
        row: SnapshotRow,
        request: api::CreateSnapshotRequest,
    ) -> Result<SnapshotRow, ManagerError> {
        // A cut needs its volume too, in the order in which a new one is cut.
        let volume = match row.local {
            CopyState::Pending => Some(self.hold_volume(&row.volume_id).await?),
            _ => None,
        };
        let held = self.hold_snapshot(&row.id).await?;
        // It may have changed while its turn was waited for.
        let Some(row) = self.catalog.snapshot(&row.id).await? else {
            drop((volume, held));
            return self.cut_new(request).await;
        };
        let differs = |difference| ManagerError::AlreadyExists {
            what: format!("snapshot {} named {:?}", row.id, row.name),
            difference,
        };
        if row.volume_id.as_str() != request.source_volume_id {
            return Err(differs("source"));
        }
        if row.profile != request.profile {
            return Err(differs("profile"));
        }
        if row.deleting.is_some() {
            return Err(ManagerError::Busy(format!(
                "snapshot {} of this name is being deleted: ask again",
                row.id
            )));
        }
        if row.local == CopyState::Pending {
            // A crash, or a driver that did not answer, stood between the row and the cut.
            return self.cut(row, true).await;
        }
        if row.cloud == CopyState::Failed {
            return self.failed_again(row).await;
        }
        Ok(row)
    }

    async fn failed_again(self: &Arc<Self>, row: SnapshotRow) -> Result<SnapshotRow, ManagerError> {
        let can_retry = row.local == CopyState::Present;
        if let Some(error) = row
            .error
            .clone()
            .filter(|_| !row.error_reported || !can_retry)
        {
            self.catalog.report_snapshot(&row.id).await?;
            return Err(ManagerError::Recorded(error));
        }
        // Both would attach it, and who ends first takes the device from the other.
        self.check_not_being_read(&row.id).await?;
        if self.transfers.is_running(JobKind::Upload, row.id.as_str()) {
            return Err(ManagerError::Busy(format!(
                "snapshot {} is being sent: ask again",
                row.id
            )));
        }
        // What was wrong may have been put right in the profile.
        let profile = self.clouds.profile(&row.profile).await?;
        profile.topology()?;
        self.clouds.forget(&profile);
        if self.catalog.retry_snapshot(&row.id).await? {
            self.start_upload(&row.id).await;
        }
        self.snapshot_row(&row.id).await
    }

    async fn cut_new(
        self: &Arc<Self>,
        request: api::CreateSnapshotRequest,
    ) -> Result<SnapshotRow, ManagerError> {
        // All that can be refused is refused before the cut.
        let (id, cloud) = if request.profile.is_empty() {
            (ids::new_snapshot_id(None), CopyState::None)
        } else {
            let profile = self.clouds.profile(&request.profile).await?;
            let short_id = self.clouds.short_id(&profile).await?;
            (ids::new_snapshot_id(Some(&short_id)), CopyState::Pending)
        };
        let volume = self.source_volume(&request.source_volume_id).await?;
        let _volume = self.hold_volume(&volume.id).await?;
        // It may have gone while its turn was waited for.
        let volume = self.source_volume(&request.source_volume_id).await?;
        self.refuse_spare(&volume.id).await?;
        let row = SnapshotRow {
            id,
            name: request.name,
            volume_id: volume.id,
            volume_name: volume.name,
            pool: volume.pool,
            size_bytes: None,
            cut_at_us: None,
            profile: request.profile,
            local: CopyState::Pending,
            cloud,
            location: None,
            sent: None,
            reason: None,
            kept_as_base: false,
            metadata: request.metadata.into_iter().collect(),
            error: None,
            error_reported: false,
            deleting: None,
            created_at_us: now_us(),
        };
        self.make_room(&row.pool).await;
        // As soon as it is on record somebody may want to delete it.
        let _held = self.hold_snapshot(&row.id).await?;
        if row.cloud == CopyState::Pending {
            check_cloud_metadata(&row)?;
        }
        self.catalog.insert_snapshot(row.clone()).await?;
        self.cut(row, false).await
    }

    /// Cuts what stands in the catalog, or takes the row back when that fails. `again`: the storage may have been asked before.
    pub(crate) async fn cut(
        self: &Arc<Self>,
        row: SnapshotRow,
        again: bool,
    ) -> Result<SnapshotRow, ManagerError> {
        let id = &row.id;
        let driver = self.driver(&row.pool)?;
        driver.name_is(id.as_str(), &row.name);
        let cut = || driver.create_snapshot(id, &row.volume_id);
        let cut = self.with_room(&row.pool, cut);
        let (cut, shown) = match self.quiesced(&row, again, cut).await {
            Ok(done) => done,
            Err(error) => {
                // Nothing was cut by this try. One before it may have been asked for and not answered.
                let silent = match again {
                    true => self.answered(&row).await.err(),
                    false => None,
                };
                match silent {
                    Some(silent) => {
                        tracing::warn!(snapshot_id = %id, error = chain(&silent), "the storage may still cut it: it stays on record");
                    }
                    None => self.uncut(&row).await,
                }
                return Err(error);
            }
        };
        let info: SnapshotInfo = match cut {
            Ok(info) => info,
            // It would come to be on no record. The next ask and the next start settle it.
            Err(error) if error.may_go_on() => {
                tracing::warn!(snapshot_id = %id, "the storage may still cut it: it stays on record");
                return Err(error.into());
            }
            Err(error) => {
                self.uncut(&row).await;
                return Err(error.into());
            }
        };
        fault::reached("backup.cut");
        if let Err(error) = self.note_shown(&row, &shown).await {
            self.uncut(&row).await;
            return Err(error);
        }
        self.catalog
            .snapshot_cut(id, info.size_bytes, info.created_at_us)
            .await?;
        fault::reached("backup.cut-recorded");
        tracing::info!(snapshot_id = %id, volume_id = %row.volume_id, profile = row.profile, "a snapshot was cut");
        if row.cloud == CopyState::Pending {
            self.start_upload(id).await;
        }
        self.notify();
        self.snapshot_row(id).await
    }

    /// Waits until the storage has answered a cut, however it did: it is asked for once more, and comes after the first.
    pub(crate) async fn answered(&self, snapshot: &SnapshotRow) -> Result<(), ManagerError> {
        let driver = self.driver(&snapshot.pool)?;
        match driver
            .create_snapshot(&snapshot.id, &snapshot.volume_id)
            .await
        {
            Err(error) if error.may_go_on() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes what a failed cut may have left. What resists stays on record, for the next ask or the next start.
    pub(crate) async fn uncut(&self, row: &SnapshotRow) {
        let undone = async {
            self.driver(&row.pool)?.delete_snapshot(&row.id).await?;
            self.catalog.remove_snapshot(&row.id).await?;
            Ok::<_, ManagerError>(())
        };
        if let Err(error) = undone.await {
            tracing::warn!(snapshot_id = %row.id, error = chain(&error), "a failed cut could not be undone yet");
        }
    }

    /// The volume that is to be cut.
    async fn source_volume(&self, id: &str) -> Result<VolumeRow, ManagerError> {
        let absent = || ManagerError::NotFound(format!("volume {id:?}"));
        let parsed = id.parse().map_err(|_| absent())?;
        let volume = self.catalog.volume(&parsed).await?.ok_or_else(absent)?;
        match volume.status {
            status if status.is_there() => Ok(volume),
            VolumeStatus::Error => Err(ManagerError::FailedPrecondition(format!(
                "volume {id} is in error and has no content"
            ))),
            status => Err(ManagerError::FailedPrecondition(format!(
                "volume {id} is {status}, not available"
            ))),
        }
    }

    /// Waits for the turn of an operation on a snapshot.
    pub(crate) async fn hold_snapshot(&self, id: &SnapshotId) -> Result<Held, ManagerError> {
        self.locks.hold(Subject::Snapshot(id.to_string())).await
    }

    /// The row of a snapshot that has to be there.
    pub(crate) async fn snapshot_row(&self, id: &SnapshotId) -> Result<SnapshotRow, ManagerError> {
        self.catalog
            .snapshot(id)
            .await?
            .ok_or_else(|| ManagerError::NotFound(format!("snapshot {id}")))
    }
}

/// Refuses what could not be kept with the cloud copy.
pub(crate) fn check_cloud_metadata(row: &SnapshotRow) -> Result<(), ManagerError> {
    manifest::check_metadata(&cloud_metadata(row)).map_err(|error| {
        ManagerError::InvalidArgument(format!(
            "a repository cannot hold this metadata: {}",
            chain(&error)
        ))
    })
}
