//! Filling a volume that is there from a cloud copy.

use std::sync::Arc;

use stockpot_proto::stockpot::v1 as api;

use crate::{Manager, ManagerError, catalog::VolumeRow};

impl Manager {
    /// Begins to fill a volume from a cloud copy.
    pub(crate) async fn restore_volume(
        self: Arc<Self>,
        request: api::RestoreVolumeRequest,
    ) -> Result<VolumeRow, ManagerError> {
        let row = self.volume_row(&request.volume_id).await?;
        Err(ManagerError::FailedPrecondition(format!(
            "volume {} cannot be filled in place: make a new one from snapshot {}",
            row.id, request.snapshot_id
        )))
    }

    /// Gives that up. None under way is success.
    pub(crate) async fn cancel_restore(
        self: Arc<Self>,
        volume_id: String,
    ) -> Result<VolumeRow, ManagerError> {
        self.volume_row(&volume_id).await
    }
}
