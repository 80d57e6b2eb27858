//! Volumes: empty, from a snapshot's local or cloud copy, or from another volume.

mod adopt;
mod attach;
mod change;
mod create;
mod in_place;
mod origin;
mod restore;
#[cfg(test)]
mod tests;

use stockpot_driver::VolumeId;
use stockpot_proto::stockpot::v1 as api;

use crate::{
    Manager, ManagerError,
    catalog::{AttachmentKind, JobKind, Purpose, VolumeRow, VolumeStatus},
    locks::{Held, Subject},
    translate,
};

impl Manager {
    /// A volume in the words of the interface, with the progress of its restore.
    pub(crate) fn describe_volume(&self, row: &VolumeRow) -> api::Volume {
        let mut volume = translate::volume(row);
        if row.status == VolumeStatus::Restoring {
            let how_far = self.transfers.how_far(JobKind::Restore, row.id.as_str());
            volume.progress = how_far.map(|how_far| {
                let progress = translate::progress(&how_far);
                match how_far.waits_for {
                    // There is no other place to say it.
                    Some(why) => api::Progress {
                        phase: format!("waits: {why}"),
                        ..progress
                    },
                    None => progress,
                }
            });
        }
        volume
    }

    /// Volumes in the words of the interface, with the devices that they are on this node.
    pub(crate) async fn describe_volumes(
        &self,
        rows: &[VolumeRow],
    ) -> Result<Vec<api::Volume>, ManagerError> {
        let attached = self.catalog.attachments().await?;
        let device_of = |row: &VolumeRow| {
            let mut attached = attached.iter();
            let held = attached.find(|held| {
                held.kind == AttachmentKind::Volume
                    && held.purpose == Purpose::Node
                    && held.id == row.id.as_str()
            });
            held.and_then(|held| held.device_path.as_ref())
        };
        let volumes = rows.iter().map(|row| api::Volume {
            device_path: device_of(row)
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            ..self.describe_volume(row)
        });
        Ok(volumes.collect())
    }

    /// The row of a volume that has to be there.
    pub(crate) async fn volume_row(&self, id: &str) -> Result<VolumeRow, ManagerError> {
        let absent = || ManagerError::NotFound(format!("volume {id:?}"));
        let parsed: VolumeId = id.parse().map_err(|_| absent())?;
        self.catalog.volume(&parsed).await?.ok_or_else(absent)
    }

    /// Waits until a volume is in a final status, or the manager stops. Being told of an error counts as reported.
    pub(crate) async fn wait_volume(&self, id: &str) -> Result<VolumeRow, ManagerError> {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let row = self.volume_row(id).await?;
            match row.status {
                status if status.is_there() => return Ok(row),
                VolumeStatus::Error => {
                    self.catalog.report_volume(&row.id).await?;
                    return Ok(row);
                }
                // Being made, or removed.
                _ => {}
            }
            tokio::select! {
                // The sender lives as long as the manager.
                _ = changes.changed() => {}
                () = self.stopping.cancelled() => {
                    return Err(ManagerError::NotReady("the manager is stopping".to_owned()));
                }
            }
        }
    }

    /// Waits for the turn of an operation on a volume.
    pub(crate) async fn hold_volume(&self, id: &VolumeId) -> Result<Held, ManagerError> {
        self.locks.hold(Subject::Volume(id.to_string())).await
    }
}
