//! `/latest/backups`: made, asked about, cleaned up.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use stockpot_proto::stockpot::v1 as api;
use utoipa::IntoParams;

use super::{
    Asked, Body, Fault, Name,
    destination::Destination,
    documents::{self, BackupDocument, Status, required},
    records::{self, Key, Record, What},
};
use crate::{
    audit::{Removed, Touched},
    manager::Manager,
    problem::Problem,
    state::Gateway,
};

/// What the plugin takes for "nothing to tell".
pub(super) fn nothing() -> axum::Json<&'static str> {
    axum::Json("")
}

/// Makes a backup.
///
/// Answered as soon as its moment is fixed; what follows is asked for with GET. A volume that is not there, or not whole, is
/// no error of this call: the status of the backup is `Failed` then.
#[utoipa::path(
    post, path = "/backups", tag = "cStor", operation_id = "createBackup",
    request_body = BackupDocument, responses((status = 200, description = "it is under way", body = String))
)]
pub(super) async fn create(State(gateway): State<Gateway>, body: Body<Value>) -> Response {
    let mut removed = None;
    let mut response = match begin(&gateway, &body.0, &mut removed).await {
        Ok(Some(id)) => (Extension(Touched(id)), nothing()).into_response(),
        Ok(None) => nothing().into_response(),
        Err(problem) => Fault::from(problem).into_response(),
    };
    // Also where what was to take its place was refused.
    if let Some(removed) = removed {
        response.extensions_mut().insert(removed);
    }
    response
}

/// The id of what was begun; nothing where it was before, or cannot be. `removed` is the one that had failed and is made anew.
async fn begin(
    gateway: &Gateway,
    posted: &Value,
    removed: &mut Option<Removed>,
) -> Result<Option<String>, Problem> {
    let document: BackupDocument = documents::read(posted)?;
    check(&document)?;
    required("spec.snapName", &document.spec.snap_name)?;
    let key = Key::of(&document);
    let manager = &gateway.manager;
    let destination = Destination::of(manager, &document.spec).await?;
    let there = records::of_volume(manager, key.volume).await?;
    let failed = match there.iter().find(|record| record.is_named(key)) {
        Some(record) => {
            check_same(record, &document, &destination)?;
            // One that failed is made anew; any other is the answer to the same question.
            if record.status() != Status::Failed {
                return Ok(None);
            }
            Some(record)
        }
        None => None,
    };
    let volume = records::volume(manager, key.volume).await?;
    let Some(volume) = volume.filter(records::is_healthy) else {
        tracing::warn!(
            volume = key.volume,
            backup = key.snapshot,
            "there is no healthy volume to back up: the backup has failed"
        );
        gateway.unbegun.note(key);
        return Ok(None);
    };
    if let Some(record) = failed {
        *removed = Some(remove(manager, record).await?);
    }
    let previous = match document.spec.disable_incremental_backups {
        true => String::new(),
        false => records::last_completed(&there, &document, &destination),
    };
    let words = records::words(&document, posted, &destination, &previous);
    let id = match destination {
        Destination::Bucket { profile, .. } => {
            let request = api::CreateBackupRequest {
                name: key.name(),
                volume: volume.volume_id,
                profile,
                // A volume in use is what it is made for: then a temporary snapshot is read.
                force: true,
                metadata: words,
                full: document.spec.disable_incremental_backups,
                ..Default::default()
            };
            let made = manager.backups().create_backup(request).await?;
            made.into_inner().backup_id
        }
        Destination::Local => cut(manager, key, volume, words).await?.snapshot_id,
        Destination::Address(address) => {
            let snapshot = cut(manager, key, volume, words).await?;
            send(gateway, &snapshot, address).await?;
            snapshot.snapshot_id
        }
    };
    gateway.unbegun.forget(key);
    Ok(Some(id))
}

/// Refuses what differs from the one that has its name.
fn check_same(
    record: &Record,
    document: &BackupDocument,
    destination: &Destination,
) -> Result<(), Problem> {
    let difference = if record.namespace() != document.metadata.namespace {
        "for another namespace"
    } else if record.schedule() != document.spec.backup_name
        || record.destination() != destination.text()
    {
        "with another backupName or destination"
    } else {
        return Ok(());
    };
    Err(Problem::conflict(format!(
        "backup {} of volume {} exists already {difference}: delete that, or choose another snapName",
        document.spec.snap_name, document.spec.volume_name
    )))
}

/// Tells what has become of a backup.
///
/// The document in the body names it; the answer is that document with its `status` and `prevSnapName`.
#[utoipa::path(
    get, path = "/backups", tag = "cStor", operation_id = "showBackup",
    request_body = BackupDocument, responses((status = 200, description = "the document, with its status", body = Object))
)]
pub(super) async fn show(
    State(gateway): State<Gateway>,
    body: Body<Value>,
) -> Result<axum::Json<Value>, Fault> {
    let asked = body.0;
    let document: BackupDocument = documents::read(&asked)?;
    check(&document)?;
    required("spec.snapName", &document.spec.snap_name)?;
    let key = Key::of(&document);
    let records = records::of_volume(&gateway.manager, key.volume).await?;
    let (answer, previous, status) = match records.into_iter().find(|record| record.is(key)) {
        Some(record) => {
            let status = record.status();
            if status == Status::Failed {
                tracing::info!(
                    volume = key.volume,
                    backup = key.snapshot,
                    why = record.why(),
                    "the backup has failed"
                );
            }
            let previous = record.previous().to_owned();
            (record.document().unwrap_or(asked), previous, status)
        }
        None => {
            let volume = records::volume(&gateway.manager, key.volume).await?;
            // Whoever asks until it has ended has to be told an end.
            let is_healthy = volume.is_some_and(|volume| records::is_healthy(&volume));
            let status = match is_healthy && !gateway.unbegun.has(key) {
                true => Status::Invalid,
                false => Status::Failed,
            };
            (asked.clone(), String::new(), status)
        }
    };
    let answer = documents::answer(answer, &key.object(), &previous, status);
    Ok(axum::Json(answer))
}

/// What a deletion names besides the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deletion {
    /// The volume.
    #[serde(default)]
    volume: String,
    /// The namespace of its claim.
    #[serde(default)]
    namespace: String,
    /// The schedule; the backup itself where there is none. Older plugins leave it out.
    #[serde(default)]
    schedule: String,
    /// The backup, where it does not stand in the path.
    #[serde(default)]
    snapshot: String,
    /// `delete`: a completed copy in a bucket goes, too. Without it the plugin's own clean-up after a backup would take it away.
    #[serde(default)]
    cloud_copy: String,
}

/// Cleans up after a backup.
///
/// Its snapshot beside the volume goes, and all of one that is not complete. A completed copy in a bucket stays unless
/// `cloudCopy=delete` is asked for. One that is not there is success.
#[utoipa::path(
    delete, path = "/backups/{snapName}", tag = "cStor", operation_id = "deleteBackup",
    params(("snapName" = String, Path, description = "The backup."), Deletion),
    responses((status = 200, description = "it is cleaned up", body = String))
)]
pub(super) async fn delete(
    State(gateway): State<Gateway>,
    snapshot: Name,
    asked: Asked<Deletion>,
) -> Result<Response, Fault> {
    clean_up(&gateway, &snapshot.0, &asked.0).await
}

/// The same, with the backup named in the query.
#[utoipa::path(
    delete, path = "/backups", tag = "cStor", operation_id = "deleteBackupByQuery",
    params(Deletion), responses((status = 200, description = "it is cleaned up", body = String))
)]
pub(super) async fn delete_named(
    State(gateway): State<Gateway>,
    asked: Asked<Deletion>,
) -> Result<Response, Fault> {
    clean_up(&gateway, &asked.0.snapshot, &asked.0).await
}

async fn clean_up(gateway: &Gateway, snapshot: &str, asked: &Deletion) -> Result<Response, Fault> {
    required("the backup's name", snapshot)?;
    required("volume", &asked.volume)?;
    required("namespace", &asked.namespace)?;
    let is_all = match asked.cloud_copy.as_str() {
        "" => false,
        "delete" => true,
        _ => {
            return Err(Problem::bad_request("cloudCopy is \"delete\" or left out").into());
        }
    };
    let key = Key {
        namespace: &asked.namespace,
        volume: &asked.volume,
        snapshot,
    };
    gateway.unbegun.forget(key);
    let manager = &gateway.manager;
    let records = records::of_volume(manager, key.volume).await?;
    let Some(record) = records.into_iter().find(|record| record.is(key)) else {
        return Ok(nothing().into_response());
    };
    if !asked.schedule.is_empty() && record.schedule() != asked.schedule {
        return Err(Problem::bad_request(format!(
            "backup {snapshot} belongs to schedule {:?}, not {:?}",
            record.schedule(),
            super::destination::shortened(&asked.schedule)
        ))
        .into());
    }
    let stays = matches!(record.what, What::Uploaded(_)) && record.status() == Status::Done;
    let mut response = (Extension(Touched(record.id().to_owned())), nothing()).into_response();
    if !stays || is_all {
        let removed = remove(manager, &record).await?;
        response.extensions_mut().insert(removed);
    }
    Ok(response)
}

fn check(document: &BackupDocument) -> Result<(), Problem> {
    required("spec.backupName", &document.spec.backup_name)?;
    required("metadata.namespace", &document.metadata.namespace)?;
    required("spec.volumeName", &document.spec.volume_name)
}

/// Removes all of a backup.
async fn remove(manager: &Manager, record: &Record) -> Result<Removed, Problem> {
    match &record.what {
        What::Local(_) | What::Sent(..) => delete_snapshot(manager, record.id()).await?,
        What::Uploaded(_) => {
            let backup_id = record.id().to_owned();
            let request = api::GetBackupRequest { backup_id };
            manager.backups().delete_backup(request).await?;
        }
    }
    Ok(Removed {
        id: record.id().to_owned(),
        copies: record.copies(),
    })
}

async fn delete_snapshot(manager: &Manager, id: &str) -> Result<(), Problem> {
    let request = api::DeleteSnapshotRequest {
        snapshot_id: id.to_owned(),
        only: None,
    };
    manager.manager().delete_snapshot(request).await?;
    Ok(())
}

/// Cuts a snapshot beside the volume.
async fn cut(
    manager: &Manager,
    key: Key<'_>,
    volume: api::Volume,
    words: std::collections::HashMap<String, String>,
) -> Result<api::Snapshot, Problem> {
    let request = api::CreateSnapshotRequest {
        name: key.name(),
        source_volume_id: volume.volume_id,
        profile: String::new(),
        metadata: words,
    };
    let cut = manager.manager().create_snapshot(request).await?;
    Ok(cut.into_inner())
}

/// Begins to send a snapshot; one that is refused leaves no snapshot either.
async fn send(
    gateway: &Gateway,
    snapshot: &api::Snapshot,
    destination: String,
) -> Result<(), Problem> {
    let manager = &gateway.manager;
    let request = api::SendSnapshotRequest {
        snapshot_id: snapshot.snapshot_id.clone(),
        destination,
        metadata: snapshot.metadata.clone(),
    };
    let refused = match manager.streams().send_snapshot(request).await {
        Ok(begun) => {
            follow(gateway, begun.into_inner());
            return Ok(());
        }
        Err(refused) => refused,
    };
    let asked = api::ListStreamsRequest {
        volume: snapshot.source_volume_id.clone(),
    };
    let streams = manager.streams().list_streams(asked).await?.into_inner();
    let of_it = |stream: &api::Stream| stream.snapshot_id == snapshot.snapshot_id;
    // Where somebody else sends it, it is not ours to remove.
    if !streams.streams.iter().any(of_it) {
        delete_snapshot(manager, &snapshot.snapshot_id).await?;
    }
    Err(refused.into())
}

/// Listens to a stream until its end, since it is given up when nobody does. How it goes stands at the manager.
pub(super) fn follow(gateway: &Gateway, mut stream: tonic::Streaming<api::StreamProgress>) {
    gateway
        .behind
        .spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
}
