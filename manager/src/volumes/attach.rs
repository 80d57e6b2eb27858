//! A volume as a device of this node, for the node service, and back.

use std::sync::Arc;

use stockpot_driver::{AccessMode, VolumeId};
use stockpot_proto::stockpot::v1 as api;

use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{AttachmentKind, Purpose, VolumeSource, VolumeStatus, status},
};

impl Manager {
    /// Makes a volume a device of this node. Called again, also after a reboot, it makes sure of every step.
    pub(crate) async fn attach_volume(
        self: Arc<Self>,
        request: api::AttachVolumeRequest,
    ) -> Result<api::AttachVolumeResponse, ManagerError> {
        let row = self.volume_row(&request.volume_id).await?;
        let _held = self.hold_volume(&row.id).await?;
        let row = self.volume_row(&request.volume_id).await?;
        let id = &row.id;
        self.refuse_spare(id).await?;
        if row.status != VolumeStatus::InUse {
            status::ask(id.as_str(), row.status, VolumeStatus::InUse)?;
        }
        let asked = match request.read_only {
            true => AccessMode::ReadOnly,
            false => AccessMode::ReadWrite,
        };
        let attachment = self.catalog.attachment(AttachmentKind::Volume, id.as_str());
        let access = match attachment.await? {
            Some(held) if request.as_attached || held.access == asked => held.access,
            Some(_) => {
                return Err(ManagerError::FailedPrecondition(format!(
                    "volume {id} is attached in another access mode; detach it first"
                )));
            }
            None if request.as_attached => {
                return Err(ManagerError::FailedPrecondition(format!(
                    "volume {id} is not attached"
                )));
            }
            None => asked,
        };
        let subject = Subject::Volume(id.clone(), access);
        let device = self.attach(&row.pool, &subject, Purpose::Node).await?;
        if row.status == VolumeStatus::Available {
            let to = VolumeStatus::InUse;
            self.catalog.move_volume(id, row.status, to, None).await?;
        }
        self.notify();
        Ok(api::AttachVolumeResponse {
            device_path: device.path.to_string_lossy().into_owned(),
            size_bytes: device.size_bytes,
            has_content_source: row.source != VolumeSource::Empty,
        })
    }

    /// Takes the device away again. A volume that is not attached, or not there, is success.
    pub(crate) async fn detach_volume(self: Arc<Self>, id: String) -> Result<(), ManagerError> {
        let Ok(id) = id.parse::<VolumeId>() else {
            return Ok(());
        };
        let _held = self.hold_volume(&id).await?;
        let attachment = self.catalog.attachment(AttachmentKind::Volume, id.as_str());
        let Some(attachment) = attachment.await? else {
            return Ok(());
        };
        if attachment.purpose != Purpose::Node {
            return Ok(());
        }
        self.detach_row(&attachment).await?;
        let (from, to) = (VolumeStatus::InUse, VolumeStatus::Available);
        if !self.catalog.move_volume(&id, from, to, None).await? {
            self.catalog.detached_while_backing_up(&id).await?;
        }
        self.notify();
        Ok(())
    }
}
