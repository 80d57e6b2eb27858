//! Growing and removing a volume.

use std::{sync::Arc, time::Duration};

use stockpot_driver::{AccessMode, DriverError, VolumeDriver, VolumeId};
use stockpot_proto::stockpot::v1 as api;

use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{AttachmentKind, JobKind, Purpose, VolumeRow, VolumeStatus, status},
    error::chain,
    request,
};

/// How long a cancelled restore may take to undo what it did.
pub(super) const CANCEL_WITHIN: Duration = Duration::from_secs(30);

impl Manager {
    /// Removes a volume and what is local of it; its snapshots stay, and no bucket is touched. None is success.
    pub(crate) async fn delete_volume(self: Arc<Self>, id: String) -> Result<(), ManagerError> {
        // Nothing can have another id: it is as good as deleted.
        let Ok(id) = id.parse::<VolumeId>() else {
            return Ok(());
        };
        let _held = self.hold_volume(&id).await?;
        self.refuse_spare(&id).await?;
        match self.catalog.volume(&id).await? {
            Some(row) => self.delete_on_record(&row).await?,
            None => self.delete_off_record(&id).await?,
        }
        self.notify();
        Ok(())
    }

    /// Removes a volume on record. The caller holds its lock, or is the recovery.
    pub(crate) async fn delete_on_record(&self, row: &VolumeRow) -> Result<(), ManagerError> {
        let id = &row.id;
        let attachment = self.catalog.attachment(AttachmentKind::Volume, id.as_str());
        if attachment
            .await?
            .is_some_and(|a| a.purpose == Purpose::Node)
        {
            return Err(ManagerError::FailedPrecondition(format!(
                "volume {id} is attached to this node"
            )));
        }
        // On record first: a restore that ends now finds that it is not wanted any more.
        if row.status != VolumeStatus::Deleting {
            let to = VolumeStatus::Deleting;
            status::ask(id.as_str(), row.status, to)?;
            if !self.catalog.move_volume(id, row.status, to, None).await? {
                return Err(ManagerError::Busy(format!(
                    "volume {id} has just changed: ask again"
                )));
            }
        }
        self.transfers
            .cancel(JobKind::Restore, id.as_str(), CANCEL_WITHIN)
            .await?;
        self.end_in_place(row).await?;
        self.detach(&Subject::Volume(id.clone(), AccessMode::ReadWrite))
            .await?;
        let driver = self.driver(&row.pool)?;
        let mut deleted = driver.delete_volume(id).await;
        // A snapshot that is kept only for the next upload is no reason to keep the volume.
        if matches!(deleted, Err(DriverError::InUse { .. }))
            && self.give_back_bases_of(id, "its volume is deleted").await?
        {
            deleted = driver.delete_volume(id).await;
        }
        match deleted {
            Ok(()) => {}
            Err(error @ DriverError::InUse { .. }) => {
                self.refused(row).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        self.catalog.remove_volume(id).await?;
        self.give_back_unneeded_bases().await;
        tracing::info!(volume_id = %id, "a volume was deleted");
        Ok(())
    }

    /// Nothing was removed: the volume goes back to what it was, unless that needed a restore that is cancelled now.
    async fn refused(&self, row: &VolumeRow) -> Result<(), ManagerError> {
        let before = match row.status {
            VolumeStatus::Deleting => row.previous_status,
            other => Some(other),
        };
        let was_there = match before {
            Some(VolumeStatus::Available | VolumeStatus::InUse) => true,
            // One into which something was being restored has its content; any other had none yet.
            Some(VolumeStatus::Restoring) => self.catalog.in_place(&row.id).await?.is_some(),
            _ => false,
        };
        if was_there {
            let from = VolumeStatus::Deleting;
            self.catalog.move_volume_back(&row.id, from, None).await?;
        }
        Ok(())
    }

    /// Removes what a lost catalog does not know.
    async fn delete_off_record(&self, id: &VolumeId) -> Result<(), ManagerError> {
        self.refuse_beside(id).await?;
        for driver in self.pools.values() {
            if driver.volume(id).await?.is_some() {
                driver.delete_volume(id).await?;
                tracing::info!(volume_id = %id, "a volume was deleted that was not on record");
            }
        }
        Ok(())
    }

    /// Grows a volume, also while it is attached.
    pub(crate) async fn extend_volume(
        self: Arc<Self>,
        request: api::ExtendVolumeRequest,
    ) -> Result<VolumeRow, ManagerError> {
        let row = self.volume_row(&request.volume_id).await?;
        let _held = self.hold_volume(&row.id).await?;
        let row = self.volume_row(&request.volume_id).await?;
        self.refuse_spare(&row.id).await?;
        let (from, to) = (row.status, VolumeStatus::Extending);
        status::ask(row.id.as_str(), from, to)?;
        if request.limit_bytes != 0 && request.limit_bytes < row.size_bytes {
            return Err(ManagerError::OutOfRange(format!(
                "volume {} has {} bytes, more than the limit of {}",
                row.id, row.size_bytes, request.limit_bytes
            )));
        }
        let (size, required, limit) = (row.size_bytes, request.required_bytes, request.limit_bytes);
        // With a limit, larger is as good; and what it is exactly needs no answer of the storage.
        if required == size || (required < size && limit != 0) {
            return Ok(row);
        }
        let driver = self.driver(&row.pool)?;
        let granularity = driver.capacity().await?.granularity_bytes;
        if required < size {
            return match request::is_asked_size(size, required, limit, granularity) {
                true => Ok(row),
                false => Err(ManagerError::OutOfRange(format!(
                    "volume {} has {size} bytes already, more than the {required} asked for, and a volume does not shrink",
                    row.id
                ))),
            };
        }
        self.make_room(&row.pool).await;
        let size = request::fit_size(request.required_bytes, request.limit_bytes, granularity)?;
        // On record first: after a crash the next start looks how far it came.
        if !self.catalog.move_volume(&row.id, from, to, None).await? {
            return Err(ManagerError::Busy(format!(
                "volume {} has just changed: ask again",
                row.id
            )));
        }
        let grown = self.grow(driver, &row, size).await;
        let made = grown.as_ref().ok().copied();
        self.catalog.move_volume_back(&row.id, to, made).await?;
        self.notify();
        let size_bytes = grown?;
        tracing::info!(volume_id = %row.id, size_bytes, "a volume has grown");
        self.volume_row(&request.volume_id).await
    }

    /// Lets the storage do it; the size that it made.
    async fn grow(
        &self,
        driver: &Arc<dyn VolumeDriver>,
        row: &VolumeRow,
        size: u64,
    ) -> Result<u64, ManagerError> {
        let extend = || driver.extend_volume(&row.id, size);
        let mut extended = self.with_room(&row.pool, extend).await;
        // A snapshot that is kept only for the next upload is no reason not to let the volume grow.
        if matches!(extended, Err(DriverError::InUse { .. }))
            && self
                .give_back_bases_of(&row.id, "its volume has to grow")
                .await?
        {
            extended = extend().await;
        }
        Ok(extended?.size_bytes)
    }

    /// What a start finds half-grown: its size is what the storage has, and it is what it was before.
    pub(crate) async fn grown(&self, row: &VolumeRow) -> Result<(), ManagerError> {
        let looked = async {
            let found = self.driver(&row.pool)?.volume(&row.id).await?;
            Ok::<_, ManagerError>(found.map(|info| info.size_bytes))
        };
        let size_bytes = looked.await.unwrap_or_else(|error| {
            tracing::warn!(volume_id = %row.id, error = chain(&error), "how large it is cannot be seen now; growing it again settles that");
            None
        });
        let from = VolumeStatus::Extending;
        self.catalog
            .move_volume_back(&row.id, from, size_bytes)
            .await?;
        Ok(())
    }
}
