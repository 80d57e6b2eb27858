//! What handlers look up in lists.

use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};
use tonic::Status;

use crate::{listed, state::Gateway};

/// What the ids of volumes and backups that this manager makes begin with, after their kind.
pub(super) async fn node(gateway: &Gateway) -> Result<String, Status> {
    let info = gateway
        .manager
        .manager()
        .get_info(api::GetInfoRequest {})
        .await?;
    Ok(info.into_inner().node_short_id)
}

/// Every volume.
pub(super) async fn volumes(gateway: &Gateway) -> Result<Vec<api::Volume>, Status> {
    listed::volumes(&gateway.manager).await
}

/// Every backup; of one volume if that is named.
pub(super) async fn backups(gateway: &Gateway, volume: &str) -> Result<Vec<api::Backup>, Status> {
    listed::backups(&gateway.manager, volume).await
}

/// Every snapshot on record.
pub(super) async fn snapshots(gateway: &Gateway) -> Result<Vec<api::Snapshot>, Status> {
    listed::snapshots_on_record(&gateway.manager).await
}

/// The cloud copies that are being restored now, by id.
pub(super) async fn being_restored(gateway: &Gateway) -> Result<Vec<String>, Status> {
    let volumes = volumes(gateway).await?.into_iter();
    let restoring = volumes.filter(|volume| volume.status() == VolumeStatus::Restoring);
    Ok(restoring
        .filter_map(|volume| volume.source_snapshot)
        .map(|source| source.snapshot_id)
        .collect())
}
