//! `/latest/restore`: a volume filled from whoever sends it, from a snapshot beside its source, or from a bucket.

use std::collections::HashMap;

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use stockpot_proto::stockpot::v1::{
    self as api, StreamStatus, VolumeStatus, create_volume_request::Source,
};

use super::{
    Body, Fault, backups,
    destination::{is_address, shortened},
    documents::{self, KEPT_BYTES_MAX, RestoreDocument, Status, required},
    quantity,
    records::{self, Key, RESTORE, What},
};
use crate::{audit::Touched, manager::Manager, problem::Problem, state::Gateway};

/// Fills a volume.
///
/// It is made if it is not there. Answered as soon as that is on record; the answer says where hosts will find the volume, where this
/// node exports any. Each backup stands on its own, so restoring it alone and restoring all before it come to the same.
#[utoipa::path(
    post, path = "/restore", tag = "cStor", operation_id = "createRestore",
    request_body = RestoreDocument, responses((status = 200, description = "it is under way", body = Object))
)]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    body: Body<Value>,
) -> Result<Response, Fault> {
    let posted = body.0;
    let document: RestoreDocument = documents::read(&posted)?;
    let spec = &document.spec;
    required("spec.restoreName", &spec.restore_name)?;
    required("spec.volumeName", &spec.volume_name)?;
    required("spec.restoreSrc", &spec.restore_src)?;
    if !spec.local_restore {
        required("metadata.namespace", &document.metadata.namespace)?;
    }
    let size_bytes = match &spec.size {
        None | Some(Value::Null) => 0,
        Some(size) => quantity::bytes(size).ok_or_else(|| {
            let shown = shortened(&size.to_string());
            Problem::bad_request(format!("spec.size: {shown} is no size, such as \"5Gi\""))
        })?,
    };
    let words = words(&document, &posted);
    let manager = &gateway.manager;
    let volume_id = match is_address(&spec.restore_src) && !spec.local_restore {
        true => receive(&gateway, &document, size_bytes, words).await?,
        false => copy(manager, &document, size_bytes, words).await?,
    };
    let answer = target(manager, &volume_id).await?;
    Ok((Extension(Touched(volume_id)), axum::Json(answer)).into_response())
}

/// Tells what has become of a restore: the bare status.
#[utoipa::path(
    get, path = "/restore", tag = "cStor", operation_id = "showRestore",
    request_body = RestoreDocument, responses((status = 200, description = "its status", body = Status))
)]
pub(super) async fn show(
    State(gateway): State<Gateway>,
    body: Body<Value>,
) -> Result<axum::Json<Status>, Fault> {
    let asked = body.0;
    let document: RestoreDocument = documents::read(&asked)?;
    required("spec.restoreName", &document.spec.restore_name)?;
    required("spec.volumeName", &document.spec.volume_name)?;
    let manager = &gateway.manager;
    if let Some(stream) = newest(manager, &document).await? {
        return Ok(axum::Json(records::of_stream(&stream)));
    }
    let volume = records::volume(manager, &document.spec.volume_name).await?;
    let is_it = |volume: &api::Volume| is_of(&volume.metadata, &document);
    let status = volume
        .filter(is_it)
        .map_or(Status::Invalid, |volume| match volume.status() {
            VolumeStatus::Creating => Status::Init,
            VolumeStatus::Restoring => Status::InProgress,
            VolumeStatus::Error | VolumeStatus::Deleting => Status::Failed,
            _ => Status::Done,
        });
    Ok(axum::Json(status))
}

fn words(document: &RestoreDocument, posted: &Value) -> HashMap<String, String> {
    let mut words = HashMap::from([(RESTORE.to_owned(), document.spec.restore_name.clone())]);
    let posted = posted.to_string();
    if posted.len() <= KEPT_BYTES_MAX {
        words.insert("cstor.document".to_owned(), posted);
    }
    words
}

fn is_of(words: &HashMap<String, String>, document: &RestoreDocument) -> bool {
    words.get(RESTORE) == Some(&document.spec.restore_name)
}

/// The last stream of a restore.
async fn newest(
    manager: &Manager,
    document: &RestoreDocument,
) -> Result<Option<api::Stream>, Problem> {
    let asked = api::ListStreamsRequest {
        volume: document.spec.volume_name.clone(),
    };
    let streams = manager.streams().list_streams(asked).await?.into_inner();
    let mut streams = streams.streams.into_iter();
    Ok(streams.rfind(|stream| !stream.sending && is_of(&stream.metadata, document)))
}

/// From whoever sends it, to a new volume or to one that is there.
async fn receive(
    gateway: &Gateway,
    document: &RestoreDocument,
    size_bytes: u64,
    metadata: HashMap<String, String>,
) -> Result<String, Problem> {
    let manager = &gateway.manager;
    if let Some(stream) = newest(manager, document).await?
        && stream.status() == StreamStatus::Running
    {
        return Ok(stream.volume_id);
    }
    let there = records::volume(manager, &document.spec.volume_name).await?;
    let request = api::ReceiveVolumeRequest {
        name: document.spec.volume_name.clone(),
        size_bytes,
        pool: String::new(),
        source: document.spec.restore_src.clone(),
        metadata,
        into_volume_id: there.map(|volume| volume.volume_id).unwrap_or_default(),
    };
    let begun = manager.streams().receive_volume(request).await?;
    let mut begun = begun.into_inner();
    let first = begun.message().await?.unwrap_or_default();
    backups::follow(gateway, begun);
    Ok(first.volume_id)
}

/// From a snapshot beside its source, or from the bucket that it was uploaded to.
async fn copy(
    manager: &Manager,
    document: &RestoreDocument,
    size_bytes: u64,
    metadata: HashMap<String, String>,
) -> Result<String, Problem> {
    let spec = &document.spec;
    let key = Key {
        // A local restore may say none.
        namespace: "",
        volume: &spec.restore_src,
        snapshot: &spec.restore_name,
    };
    let records = records::of_volume(manager, key.volume).await?;
    let record = records.iter().find(|record| record.is(key));
    let snapshot_id = match record.map(|record| &record.what) {
        Some(What::Local(snapshot) | What::Sent(snapshot, _)) => snapshot.snapshot_id.clone(),
        Some(What::Uploaded(_)) if spec.local_restore => {
            return Err(Problem::bad_request(format!(
                "backup {} of volume {} lies in a bucket: ask for it without localRestore",
                spec.restore_name, spec.restore_src
            )));
        }
        Some(What::Uploaded(backup)) => backup.snapshot_id.clone(),
        None => {
            return Err(Problem::bad_request(format!(
                "there is no backup {} of volume {}, and spec.restoreSrc is no HOST:PORT",
                spec.restore_name,
                shortened(&spec.restore_src)
            )));
        }
    };
    let source = api::SnapshotSource {
        snapshot_id,
        copy: api::SourceCopy::Auto.into(),
    };
    let request = api::CreateVolumeRequest {
        name: spec.volume_name.clone(),
        required_bytes: size_bytes,
        source: Some(Source::Snapshot(source)),
        metadata,
        ..Default::default()
    };
    let made = manager.manager().create_volume(request).await?;
    Ok(made.into_inner().volume_id)
}

/// Where hosts find the volume, in both forms that plugins read.
async fn target(manager: &Manager, volume_id: &str) -> Result<Value, Problem> {
    let request = api::GetVolumeRequest {
        volume_id: volume_id.to_owned(),
    };
    let target = manager.streams().get_target(request).await?.into_inner();
    let found = json!({
        "targetPortal": target.portals.first().cloned().unwrap_or_default(),
        "portals": target.portals,
        "iqn": target.target_iqn,
        "lun": target.lun,
        "fsType": "",
        "readOnly": false,
    });
    let mut answer = found.clone();
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("metadata".to_owned(), json!({"name": volume_id}));
        fields.insert("spec".to_owned(), found);
    }
    Ok(answer)
}
