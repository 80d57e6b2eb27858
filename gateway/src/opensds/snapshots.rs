//! Snapshots of block volumes, and their copies in the cloud.

use std::collections::{BTreeMap, HashMap};

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use stockpot_proto::stockpot::v1 as api;
use utoipa::ToSchema;

use super::{Answer, Asked, Body, Fault, Parts, listing::Listing, words};
use crate::{audit::Touched, listed, problem::Problem, state::Gateway};

/// Fields by which a list can be ordered and filtered.
const FIELDS: [&str; 10] = [
    "id",
    "createdAt",
    "updatedAt",
    "tenantId",
    "name",
    "description",
    "size",
    "status",
    "profileId",
    "volumeId",
];
/// Fields of answers that clients send back.
const ONLY_ANSWERED: [&str; 6] = [
    "createdAt",
    "updatedAt",
    "tenantId",
    "userId",
    "status",
    "size",
];
/// Fields that would have an effect that is not to be had.
const NOT_HERE: [&str; 1] = ["id"];

/// A snapshot that is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = OpenSdsNewSnapshot)]
pub(super) struct NewSnapshot {
    /// Unique; one is made up without.
    #[schema(max_length = 128)]
    name: String,
    /// In words.
    description: String,
    /// The volume.
    #[schema(min_length = 1, required)]
    volume_id: String,
    /// Id or name of a profile with a topology: the snapshot is uploaded there. Without, it is local.
    profile_id: String,
    /// Kept with it, in the cloud, too.
    metadata: BTreeMap<String, String>,
}

/// A snapshot.
#[derive(Debug, ToSchema)]
#[schema(as = OpenSdsSnapshot, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is only described")]
struct SnapshotBody {
    id: String,
    created_at: Option<String>,
    tenant_id: Option<String>,
    name: Option<String>,
    description: Option<String>,
    profile_id: Option<String>,
    /// Of the volume, in GiB, rounded up.
    size: u64,
    /// creating, available (with a profile: its copy in the cloud is committed), deleting, error.
    status: String,
    volume_id: String,
    /// What was kept with it, and `bucket` and `location` of a copy in the cloud that is there; `error` and `progress`.
    metadata: BTreeMap<String, String>,
}

/// Cuts a snapshot; with a profile it is uploaded then. The same one again, by its name, is answered as it is.
#[utoipa::path(post, path = "/block/snapshots", tag = "OpenSDS", request_body = NewSnapshot,
    responses((status = 202, description = "It is cut; the upload goes on behind.", body = SnapshotBody)))]
pub(super) async fn create_snapshot(
    State(gateway): State<Gateway>,
    parts: Parts<String>,
    body: Body<Map<String, Value>>,
) -> Answer {
    let asked: NewSnapshot = words::fields(body.0, &ONLY_ANSWERED, &NOT_HERE)?;
    if asked.volume_id.is_empty() {
        return Err(Problem::bad_request("volumeId: name the volume").into());
    }
    let metadata = words::kept(asked.metadata, asked.description, parts.0)?;
    let request = api::CreateSnapshotRequest {
        name: words::name_or_new(asked.name, "snapshot"),
        source_volume_id: asked.volume_id,
        profile: words::profile_name(&gateway, &asked.profile_id).await?,
        metadata,
    };
    let cut = gateway.manager.manager().create_snapshot(request).await;
    answer(
        &gateway,
        cut.map_err(words::named_in_body)?.into_inner(),
        StatusCode::ACCEPTED,
    )
    .await
}

/// Lists snapshots: those of this node, and those in the repositories of its profiles.
#[utoipa::path(get, path = "/block/snapshots", tag = "OpenSDS",
    params(("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query),
           ("sortKey" = Option<String>, Query), ("sortDir" = Option<String>, Query),
           ("name" = Option<String>, Query), ("volumeId" = Option<String>, Query)),
    responses((status = 200, description = "Those that fit; the header `Warning` tells of a repository that could not be listed.",
               body = Vec<SnapshotBody>)))]
pub(super) async fn list_snapshots(State(gateway): State<Gateway>, asked: Asked) -> Answer {
    let listing = Listing::parse(asked.0, &FIELDS)?;
    let (snapshots, warnings) = listed::snapshots(&gateway.manager, false).await?;
    let follows = |snapshot: &api::Snapshot| !snapshot.profile.is_empty();
    let ids = words::profile_ids(&gateway, snapshots.iter().any(follows)).await?;
    let all = snapshots.iter().map(|snapshot| object(snapshot, &ids));
    let response = Json(listing.of(all.collect())).into_response();
    Ok(with_warnings(response, &warnings))
}

/// Tells which part of a list is missing (RFC 7234, section 5.5).
fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        tracing::warn!(warning, "a list of snapshots is not complete");
        let plain = |c: char| {
            if c.is_ascii_graphic() && c != '"' && c != '\\' {
                c
            } else {
                ' '
            }
        };
        let text: String = warning.chars().map(plain).take(512).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("199 stockpot \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// Shows one snapshot.
#[utoipa::path(get, path = "/block/snapshots/{snapshotId}", tag = "OpenSDS",
    responses((status = 200, description = "It.", body = SnapshotBody)))]
pub(super) async fn get_snapshot(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
) -> Answer {
    let snapshot = find(&gateway, parts.0.1).await?;
    answer(&gateway, snapshot, StatusCode::OK).await
}

/// Changes nothing: names and descriptions stay. A body that says what is there already is answered.
#[utoipa::path(put, path = "/block/snapshots/{snapshotId}", tag = "OpenSDS",
    request_body = inline(Map<String, Value>),
    responses((status = 200, description = "As it is.", body = SnapshotBody)))]
pub(super) async fn update_snapshot(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
    body: Body<Map<String, Value>>,
) -> Answer {
    let snapshot = find(&gateway, parts.0.1).await?;
    let ids = words::profile_ids(&gateway, !snapshot.profile.is_empty()).await?;
    words::same(&body.0, &object(&snapshot, &ids), "a snapshot")?;
    answer(&gateway, snapshot, StatusCode::OK).await
}

/// Removes a snapshot: both copies. A running upload is cancelled.
#[utoipa::path(delete, path = "/block/snapshots/{snapshotId}", tag = "OpenSDS",
    responses((status = 202, description = "It is being removed.")))]
pub(super) async fn delete_snapshot(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
) -> Answer {
    let snapshot_id = find(&gateway, parts.0.1).await?.snapshot_id;
    let request = api::DeleteSnapshotRequest {
        snapshot_id,
        only: None,
    };
    gateway.manager.manager().delete_snapshot(request).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn find(gateway: &Gateway, snapshot_id: String) -> Result<api::Snapshot, Fault> {
    let request = api::GetSnapshotRequest { snapshot_id };
    let found = gateway.manager.manager().get_snapshot(request).await?;
    Ok(found.into_inner())
}

async fn answer(gateway: &Gateway, snapshot: api::Snapshot, status: StatusCode) -> Answer {
    let ids = words::profile_ids(gateway, !snapshot.profile.is_empty()).await?;
    let touched = Touched(snapshot.snapshot_id.clone());
    Ok((status, Extension(touched), Json(object(&snapshot, &ids))).into_response())
}

/// A snapshot as OpenSDS tells it.
pub(super) fn object(snapshot: &api::Snapshot, ids: &HashMap<String, String>) -> Value {
    let (description, tenant, mut metadata) = words::told(&snapshot.metadata);
    let mut tell = |key: &str, text: String| metadata.insert(key.to_owned(), text);
    if snapshot.cloud() == api::CopyState::Present {
        tell("location", snapshot.cloud_location.clone());
        if let Some(bucket) = bucket_of(&snapshot.cloud_location) {
            tell("bucket", bucket.to_owned());
        }
    }
    if !snapshot.error.is_empty() {
        tell("error", snapshot.error.clone());
    }
    if let Some(progress) = &snapshot.progress
        && snapshot.cloud() == api::CopyState::Pending
        && progress.bytes_total > 0
    {
        let text = format!("{} of {} bytes", progress.bytes_done, progress.bytes_total);
        tell("progress", text);
    }
    let profile = match snapshot.profile.as_str() {
        "" => String::new(),
        name => words::id_of(ids, name),
    };
    let created_at = words::time_of(snapshot.cut_at);
    words::without_empty(json!({
        "id": snapshot.snapshot_id,
        "createdAt": created_at,
        "updatedAt": created_at,
        "tenantId": tenant,
        "name": snapshot.name,
        "description": description,
        "profileId": profile,
        "size": words::gib_of(snapshot.size_bytes),
        "status": status(snapshot),
        "volumeId": snapshot.source_volume_id,
        "metadata": metadata,
    }))
}

/// The bucket in `s3://bucket/…`.
fn bucket_of(location: &str) -> Option<&str> {
    let rest = location.strip_prefix("s3://")?;
    rest.split('/').next().filter(|bucket| !bucket.is_empty())
}

fn status(snapshot: &api::Snapshot) -> &'static str {
    use api::CopyState::{Failed, Pending, Present};
    let wanted = match snapshot.profile.is_empty() {
        true => snapshot.local(),
        false => snapshot.cloud(),
    };
    match wanted {
        _ if snapshot.ready => "available",
        Pending => "creating",
        Failed => "error",
        // It is there and not for use.
        Present => "deleting",
        // The copy that was asked for was deleted, or its bucket does not answer.
        _ => "error",
    }
}
