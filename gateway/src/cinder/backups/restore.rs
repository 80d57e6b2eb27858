//! A volume from a backup: a new one, or one that is there.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use stockpot_proto::stockpot::v1::{
    self as api, BackupStatus, SourceCopy, VolumeStatus, create_volume_request::Source,
};
use utoipa::ToSchema;

use super::find;
use crate::{
    cinder::{
        Body, Fault, Made,
        asked::{Asked, ThingPath},
        fields::{self, given},
        ids, invalid, made, refused, volumes,
        words::Words,
    },
    state::Gateway,
};

/// The body of a call that restores a backup.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cinder) struct RestoreBackup {
    // May be null, and has to be there.
    #[serde(deserialize_with = "Option::deserialize")]
    restore: Option<Restore>,
}

/// Where the content is to go.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Restore {
    /// A volume that is there, and is filled; a new one is made without.
    #[serde(default)]
    volume_id: Option<String>,
    /// What a new one is called.
    #[serde(default)]
    name: Option<String>,
}

/// Restores a backup.
#[utoipa::path(post, path = "/backups/{id}/restore", tag = "cinder", operation_id = "cinder_restore_backup",
    params(ThingPath), request_body = RestoreBackup,
    responses((status = 202, description = "it has begun", body = Value),
        (status = 400, description = "the backup or the volume is not available"),
        (status = 404, description = "there is no such backup or volume")))]
pub(in crate::cinder) async fn restore(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<RestoreBackup>,
) -> Result<Made, Fault> {
    let wanted = body.0.restore.unwrap_or_default();
    fields::check_len("name", wanted.name.as_deref().unwrap_or_default())?;
    let backup = find(&gateway, &asked.id).await?;
    check_available(&backup)?;
    let (volume, name) = match given(wanted.volume_id) {
        Some(id) => into_existing(&gateway, &backup, &id).await?,
        None => into_new(&asked, &gateway, &backup, given(wanted.name)).await?,
    };
    let body = json!({"restore": {
        "backup_id": ids::shown(&backup.backup_id),
        "volume_id": ids::shown(&volume),
        "volume_name": name,
    }});
    Ok(made(StatusCode::ACCEPTED, volume, body))
}

/// Refuses a backup that cannot be restored.
pub(in crate::cinder) fn check_available(backup: &api::Backup) -> Result<(), Fault> {
    match backup.status() {
        BackupStatus::Available => Ok(()),
        _ => Err(invalid("backup", "Backup status must be available")),
    }
}

/// The source of a volume that is made from a backup.
pub(in crate::cinder) fn source(backup: &api::Backup) -> Source {
    Source::Snapshot(api::SnapshotSource {
        snapshot_id: backup.snapshot_id.clone(),
        copy: SourceCopy::Cloud.into(),
    })
}

async fn into_new(
    asked: &Asked,
    gateway: &Gateway,
    backup: &api::Backup,
    name: Option<String>,
) -> Result<(String, String), Fault> {
    let name = name.unwrap_or_else(|| format!("restore_backup_{}", ids::shown(&backup.backup_id)));
    let words = Words {
        backup: Some(backup.backup_id.clone()),
        ..Words::new(asked, Some(name.clone()), None)
    };
    let request = api::CreateVolumeRequest {
        name: volumes::own_name(),
        source: Some(source(backup)),
        metadata: words.write(),
        ..Default::default()
    };
    let begun = gateway.manager.manager().create_volume(request).await;
    let begun = begun.map_err(refused("backup"))?.into_inner();
    Ok((begun.volume_id, name))
}

async fn into_existing(
    gateway: &Gateway,
    backup: &api::Backup,
    id: &str,
) -> Result<(String, String), Fault> {
    let volume = volumes::find(gateway, id).await?;
    if volume.status() != VolumeStatus::Available {
        return Err(invalid(
            "volume",
            "Volume to be restored to must be available",
        ));
    }
    let request = api::RestoreVolumeRequest {
        volume_id: volume.volume_id,
        snapshot_id: backup.snapshot_id.clone(),
    };
    let begun = gateway.manager.volumes().restore_volume(request).await;
    let begun = begun.map_err(refused("volume"))?.into_inner();
    let words = Words::read(&begun.metadata, &begun.name);
    Ok((begun.volume_id, words.name.unwrap_or_default()))
}
