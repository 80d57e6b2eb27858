//! Making a volume.

use std::sync::Arc;

use stockpot_driver::{DriverError, VolumeInfo};
use stockpot_proto::stockpot::v1 as api;

use super::origin::{self, How, Origin};
use crate::{
    Manager, ManagerError,
    catalog::{VolumeRow, VolumeSource, VolumeStatus},
    error::chain,
    fault, ids,
    locks::Subject,
    manager::now_us,
    request,
};

impl Manager {
    /// Makes a volume, or finds the one of this name. What the storage does by itself is done when this answers; a restore
    /// goes on behind.
    ///
    /// A restore that failed is told once, by the volume's status; asking again after that begins anew.
    pub(crate) async fn create_volume(
        self: Arc<Self>,
        request: api::CreateVolumeRequest,
    ) -> Result<VolumeRow, ManagerError> {
        request::check_name(&request.name)?;
        request::check_metadata(&request.metadata)?;
        if request.limit_bytes != 0 && request.limit_bytes < request.required_bytes {
            return Err(ManagerError::InvalidArgument(format!(
                "the limit of {} bytes is less than the {} required",
                request.limit_bytes, request.required_bytes
            )));
        }
        let source = origin::asked(&request)?;
        let name = Subject::VolumeName(request.name.clone());
        let _name = self.locks.hold(name).await?;
        match self.catalog.volume_by_name(&request.name).await? {
            Some(row) => self.volume_again(row, request, source).await,
            None => self.new_volume(request, source).await,
        }
    }

    pub(super) async fn volume_again(
        self: &Arc<Self>,
        row: VolumeRow,
        request: api::CreateVolumeRequest,
        source: VolumeSource,
    ) -> Result<VolumeRow, ManagerError> {
        let held = self.hold_volume(&row.id).await?;
        // It may have changed while its turn was waited for.
        let Some(row) = self.catalog.volume(&row.id).await? else {
            drop(held);
            return self.new_volume(request, source).await;
        };
        let is_sized = self.is_sized_as_asked(&row, &request).await?;
        if let Some(difference) = difference(&row, &request, &source, is_sized) {
            return Err(ManagerError::AlreadyExists {
                what: format!("volume {} named {:?}", row.id, row.name),
                difference,
            });
        }
        match row.status {
            VolumeStatus::Available
            | VolumeStatus::InUse
            | VolumeStatus::BackingUp
            | VolumeStatus::Extending
            | VolumeStatus::Restoring => Ok(row),
            VolumeStatus::Deleting => Err(ManagerError::Busy(format!(
                "volume {} of this name is being deleted: ask again",
                row.id
            ))),
            VolumeStatus::Error if !row.error_reported => {
                self.catalog.report_volume(&row.id).await?;
                Ok(row)
            }
            VolumeStatus::Error => {
                let (from, to) = (VolumeStatus::Error, VolumeStatus::Restoring);
                if self.catalog.move_volume(&row.id, from, to, None).await? {
                    self.start_restore(&row.id).await;
                }
                self.volume_row(row.id.as_str()).await
            }
            VolumeStatus::Creating => {
                // The one who made it held the name; so this is what a failure to undo left.
                self.unmake(&row).await?;
                self.new_volume(request, source).await
            }
        }
    }

    async fn new_volume(
        self: &Arc<Self>,
        request: api::CreateVolumeRequest,
        source: VolumeSource,
    ) -> Result<VolumeRow, ManagerError> {
        let origin = self.origin(&source, &request.pool).await?;
        let size_bytes = self.size_of(&request, &origin).await?;
        let restoring = matches!(origin.how, How::Restore);
        let row = VolumeRow {
            id: ids::new_volume_id(&self.node),
            name: request.name,
            size_bytes,
            pool: origin.pool.clone(),
            status: if restoring {
                VolumeStatus::Restoring
            } else {
                VolumeStatus::Creating
            },
            previous_status: None,
            source,
            metadata: request.metadata.into_iter().collect(),
            error: None,
            error_reported: false,
            created_at_us: now_us(),
        };
        self.make_room(&row.pool).await;
        if restoring {
            self.check_room(&row.pool, row.size_bytes).await?;
        }
        // As soon as it is on record somebody may want to delete it.
        let _held = self.hold_volume(&row.id).await?;
        self.catalog.insert_volume(row.clone()).await?;
        if let Ok(driver) = self.driver(&row.pool) {
            driver.name_is(row.id.as_str(), &row.name);
        }
        if restoring {
            fault::reached("restore.row");
            self.start_restore(&row.id).await;
            return Ok(row);
        }
        match self.make(&row, &origin.how, request.limit_bytes).await {
            Ok(info) => {
                let (from, to) = (VolumeStatus::Creating, VolumeStatus::Available);
                let size = Some(info.size_bytes);
                self.catalog.move_volume(&row.id, from, to, size).await?;
                tracing::info!(volume_id = %row.id, size_bytes = info.size_bytes, "a volume was made");
                self.notify();
                self.volume_row(row.id.as_str()).await
            }
            // It would come to be on no record. The next ask and the next start remove it.
            Err(error) if may_go_on(&error) => {
                tracing::warn!(volume_id = %row.id, "the storage may still make it: it stays on record");
                Err(error)
            }
            Err(error) => {
                if let Err(undo) = self.unmake(&row).await {
                    tracing::warn!(volume_id = %row.id, error = chain(&undo), "a failed volume could not be removed yet");
                }
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        row: &VolumeRow,
        how: &How,
        limit_bytes: u64,
    ) -> Result<VolumeInfo, ManagerError> {
        let driver = self.driver(&row.pool)?;
        let (id, size) = (&row.id, row.size_bytes);
        let make = || match how {
            How::Empty | How::Restore => driver.create_volume(id, size),
            How::Local(snapshot) => driver.create_volume_from_snapshot(id, size, snapshot),
            How::Clone(source) => driver.create_cloned_volume(id, size, source),
        };
        let info = self.with_room(&row.pool, make).await?;
        if info.size_bytes < size || (limit_bytes != 0 && info.size_bytes > limit_bytes) {
            return Err(ManagerError::OutOfRange(format!(
                "the storage made {} bytes of the {size} asked for, with a limit of {limit_bytes}",
                info.size_bytes
            )));
        }
        Ok(info)
    }

    /// Removes what was made, and then the row.
    pub(crate) async fn unmake(&self, row: &VolumeRow) -> Result<(), ManagerError> {
        self.driver(&row.pool)?.delete_volume(&row.id).await?;
        self.catalog.remove_volume(&row.id).await?;
        Ok(())
    }

    /// Whether the volume of a name has a size that the request can mean.
    async fn is_sized_as_asked(
        &self,
        row: &VolumeRow,
        request: &api::CreateVolumeRequest,
    ) -> Result<bool, ManagerError> {
        let (size, required, limit) = (row.size_bytes, request.required_bytes, request.limit_bytes);
        // That of its source; then what does not depend on how the storage rounds. So it is not asked without need.
        if required == 0 && limit == 0 {
            return Ok(true);
        }
        if size <= required || limit != 0 {
            return Ok(request::is_asked_size(size, required, limit, 1));
        }
        let capacity = self.driver(&row.pool)?.capacity().await?;
        let granularity = capacity.granularity_bytes;
        Ok(request::is_asked_size(size, required, limit, granularity))
    }

    /// The size to ask the storage for.
    async fn size_of(
        &self,
        request: &api::CreateVolumeRequest,
        origin: &Origin,
    ) -> Result<u64, ManagerError> {
        let least = origin.least_bytes;
        let required = match (&origin.how, request.required_bytes) {
            (How::Empty, 0) => {
                return Err(ManagerError::InvalidArgument(
                    "an empty volume needs a size".to_owned(),
                ));
            }
            (_, 0) => least,
            (_, required) if required < least => {
                return Err(ManagerError::OutOfRange(format!(
                    "{required} bytes are less than the {least} of the source"
                )));
            }
            (_, required) => required,
        };
        let capacity = self.driver(&origin.pool)?.capacity().await?;
        request::fit_size(required, request.limit_bytes, capacity.granularity_bytes)
    }

    /// Refuses at once what the pool has no room for, as the storage does where it makes the volume before this answers.
    async fn check_room(&self, pool: &str, size: u64) -> Result<(), ManagerError> {
        let driver = self.driver(pool)?;
        let look = || async {
            let capacity = driver.capacity().await?;
            let (most, whole) = (capacity.maximum_volume_bytes, capacity.total_bytes);
            if size <= most {
                return Ok(());
            }
            let text = format!(
                "pool {pool} of {whole} bytes has room for a volume of at most {most} bytes, and {size} are needed"
            );
            Err(match size > whole {
                true => DriverError::OutOfRange(text),
                false => DriverError::ResourceExhausted(text),
            })
        };
        Ok(self.with_room(pool, look).await?)
    }
}

/// Whether the storage may still do what it gave no answer to.
pub(crate) fn may_go_on(error: &ManagerError) -> bool {
    matches!(error, ManagerError::Driver(error) if error.may_go_on())
}

/// The property in which a request differs from the volume of its name.
fn difference(
    row: &VolumeRow,
    request: &api::CreateVolumeRequest,
    source: &VolumeSource,
    is_sized: bool,
) -> Option<&'static str> {
    let metadata = row.metadata.len() == request.metadata.len()
        && row
            .metadata
            .iter()
            .all(|(k, v)| request.metadata.get(k) == Some(v));
    if !is_sized {
        Some("size")
    } else if !request.pool.is_empty() && request.pool != row.pool {
        Some("pool")
    } else if row.source != *source {
        Some("source")
    } else if !metadata {
        Some("metadata")
    } else {
        None
    }
}
