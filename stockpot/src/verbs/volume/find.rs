//! Volumes and snapshots by what people call them.

use anyhow::{anyhow, bail};
use stockpot_proto::{
    socket,
    stockpot::v1::{
        BackupStatus, GetBackupRequest, GetSnapshotRequest, GetVolumeRequest, ListSnapshotsRequest,
        ListVolumesRequest, Volume, backups_client::BackupsClient, manager_client::ManagerClient,
    },
};
use tonic::{Code, transport::Channel};

use super::super::driver::{client, said};
use crate::cli::SocketArgs;

/// The volume of an id or name, which has to be there.
///
/// # Errors
/// If it is not, or the driver cannot be asked.
pub(in crate::verbs) async fn volume_named(
    client: &mut ManagerClient<Channel>,
    at: &SocketArgs,
    name: &str,
) -> anyhow::Result<Volume> {
    let found = volume(client, at, name).await?;
    found.ok_or_else(|| anyhow!("there is no volume of the id or name {name:?}"))
}

/// The volume of an id or name, if there is one.
pub(super) async fn volume(
    client: &mut ManagerClient<Channel>,
    at: &SocketArgs,
    name: &str,
) -> anyhow::Result<Option<Volume>> {
    let request = GetVolumeRequest {
        volume_id: name.to_owned(),
    };
    match client.get_volume(request).await {
        Ok(found) => return Ok(Some(found.into_inner())),
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(said(at, &status)),
    }
    let all = volumes(client, at).await?;
    Ok(all.into_iter().find(|volume| volume.name == name))
}

/// Every volume.
pub(in crate::verbs) async fn volumes(
    client: &mut ManagerClient<Channel>,
    at: &SocketArgs,
) -> anyhow::Result<Vec<Volume>> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListVolumesRequest {
            max_entries: 0,
            starting_token: token,
        };
        let page = client.list_volumes(request).await;
        let page = page.map_err(|status| said(at, &status))?.into_inner();
        all.extend(page.volumes);
        token = page.next_token;
        if token.is_empty() {
            return Ok(all);
        }
    }
}

/// The id of the snapshot that is meant: by its id or name, or those of a backup.
pub(super) async fn snapshot_named(at: &SocketArgs, name: &str) -> anyhow::Result<String> {
    let mut manager = client(at);
    let request = GetSnapshotRequest {
        snapshot_id: name.to_owned(),
    };
    match manager.get_snapshot(request).await {
        Ok(found) => return Ok(found.into_inner().snapshot_id),
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(said(at, &status)),
    }
    if let Some(snapshot) = of_backup(at, name).await? {
        return Ok(snapshot);
    }
    let found = snapshot_of_name(at, name).await?;
    found.ok_or_else(|| anyhow!("there is no snapshot or backup of the id or name {name:?}"))
}

/// The id of the snapshot of a name, if there is one.
pub(in crate::verbs) async fn snapshot_of_name(
    at: &SocketArgs,
    name: &str,
) -> anyhow::Result<Option<String>> {
    let mut manager = client(at);
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListSnapshotsRequest {
            starting_token: token,
            ..ListSnapshotsRequest::default()
        };
        let page = manager.list_snapshots(request).await;
        let page = page.map_err(|status| said(at, &status))?.into_inner();
        let named = page.snapshots.into_iter().filter(|one| one.name == name);
        ids.extend(named.map(|one| one.snapshot_id));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    match ids.len() {
        0 | 1 => Ok(ids.pop()),
        // Those of other nodes may have the same.
        _ => bail!(
            "several snapshots are named {name:?}: give the id of one, {}",
            ids.join(" or ")
        ),
    }
}

/// The cloud copy of the backup of an id or name.
async fn of_backup(at: &SocketArgs, name: &str) -> anyhow::Result<Option<String>> {
    let mut backups = BackupsClient::new(socket::channel(at.socket.clone()));
    let request = GetBackupRequest {
        backup_id: name.to_owned(),
    };
    let backup = match backups.get_backup(request).await {
        Ok(found) => found.into_inner(),
        Err(status) if status.code() == Code::NotFound => return Ok(None),
        Err(status) => return Err(said(at, &status)),
    };
    if backup.status() != BackupStatus::Available {
        bail!("backup {name:?} has no complete cloud copy (`stockpot backup show` says more)");
    }
    Ok(Some(backup.snapshot_id))
}
