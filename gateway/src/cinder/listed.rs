//! Everything of one kind that the manager has: all pages of its lists.

use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};
use tonic::Status;

use crate::state::Gateway;

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
    let mut client = gateway.manager.manager();
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let request = api::ListVolumesRequest {
            max_entries: 0,
            starting_token: token,
        };
        let page = client.list_volumes(request).await?.into_inner();
        all.extend(page.volumes);
        if page.next_token.is_empty() {
            return Ok(all);
        }
        token = page.next_token;
    }
}

/// Every backup; of one volume if that is named.
pub(super) async fn backups(gateway: &Gateway, volume: &str) -> Result<Vec<api::Backup>, Status> {
    let mut client = gateway.manager.backups();
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let request = api::ListBackupsRequest {
            max_entries: 0,
            starting_token: token,
            volume: volume.to_owned(),
        };
        let page = client.list_backups(request).await?.into_inner();
        all.extend(page.backups);
        if page.next_token.is_empty() {
            return Ok(all);
        }
        token = page.next_token;
    }
}

/// Every snapshot on record.
pub(super) async fn snapshots(gateway: &Gateway) -> Result<Vec<api::Snapshot>, Status> {
    let mut client = gateway.manager.manager();
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let request = api::ListSnapshotsRequest {
            starting_token: token,
            // A local copy is on record; no bucket has to be asked.
            on_record_only: true,
            ..Default::default()
        };
        let page = client.list_snapshots(request).await?.into_inner();
        all.extend(page.snapshots);
        if page.next_token.is_empty() {
            return Ok(all);
        }
        token = page.next_token;
    }
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
