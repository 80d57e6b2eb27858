//! Block volumes.

use std::collections::{BTreeMap, HashMap};

use axum::{Extension, Json, extract::State, response::IntoResponse};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use stockpot_proto::stockpot::v1::{self as api, create_volume_request::Source};
use utoipa::ToSchema;

use super::{
    Answer, Asked, Body, Fault, Parts,
    listing::Listing,
    words::{self, ZONE},
};
use crate::{audit::Touched, listed, problem::Problem, state::Gateway};

/// Fields by which a list can be ordered and filtered.
const FIELDS: [&str; 12] = [
    "id",
    "createdAt",
    "updatedAt",
    "tenantId",
    "name",
    "description",
    "size",
    "availabilityZone",
    "status",
    "poolId",
    "profileId",
    "snapshotId",
];
/// Fields of answers that clients send back.
const ONLY_ANSWERED: [&str; 8] = [
    "createdAt",
    "updatedAt",
    "tenantId",
    "userId",
    "status",
    "attachStatus",
    "AttachStatus",
    "replicationDriverData",
];
/// Fields that would have an effect that is not to be had.
const NOT_HERE: [&str; 4] = ["id", "groupId", "replicationId", "multiAttach"];
/// The metadata by which a volume follows a profile: schedules look at it, too.
const PROFILE: &str = "profile";

/// A volume that is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = OpenSdsNewVolume)]
pub(super) struct NewVolume {
    /// Unique; one is made up without.
    #[schema(max_length = 128)]
    name: String,
    /// In words.
    description: String,
    /// In GiB; may be left out where it is made from a snapshot.
    #[schema(minimum = 1)]
    size: Option<i64>,
    /// default, the only one.
    availability_zone: String,
    /// Name of the pool; the default one without.
    pool_id: String,
    /// Id or name of the profile that it follows: schedules of that profile back it up.
    profile_id: String,
    /// Kept with it.
    metadata: BTreeMap<String, String>,
    /// The snapshot that it is made from.
    snapshot_id: String,
    /// Only from the copy in the cloud, though there be a local one.
    snapshot_from_cloud: bool,
}

/// A volume.
#[derive(Debug, ToSchema)]
#[schema(as = OpenSdsVolume, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is only described")]
struct VolumeBody {
    id: String,
    created_at: String,
    tenant_id: Option<String>,
    name: String,
    description: Option<String>,
    /// In GiB, rounded up.
    size: u64,
    availability_zone: String,
    /// creating, available, inUse, extending, deleting, error.
    status: String,
    pool_id: String,
    profile_id: Option<String>,
    snapshot_id: Option<String>,
    snapshot_from_cloud: Option<bool>,
    metadata: BTreeMap<String, String>,
}

/// A new size.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = OpenSdsResize)]
pub(super) struct Resize {
    /// In GiB; more than it has.
    #[schema(minimum = 1)]
    new_size: i64,
}

/// Makes a volume, empty or from a snapshot. The same one again, by its name, is answered as it is.
#[utoipa::path(post, path = "/block/volumes", tag = "OpenSDS", request_body = NewVolume,
    responses((status = 202, description = "It is being made.", body = VolumeBody)))]
pub(super) async fn create_volume(
    State(gateway): State<Gateway>,
    parts: Parts<String>,
    body: Body<Map<String, Value>>,
) -> Answer {
    let asked: NewVolume = words::fields(body.0, &ONLY_ANSWERED, &NOT_HERE)?;
    if !asked.availability_zone.is_empty() && asked.availability_zone != ZONE {
        let problem = format!("availabilityZone: there is one, {ZONE}");
        return Err(Problem::bad_request(problem).into());
    }
    let required_bytes = match asked.size {
        Some(size) => words::bytes_of("size", size)?,
        None if asked.snapshot_id.is_empty() => {
            return Err(Problem::bad_request("size: an empty volume needs one, in GiB").into());
        }
        None => 0,
    };
    let source = source(asked.snapshot_id, asked.snapshot_from_cloud)?;
    let mut metadata = words::kept(asked.metadata, asked.description, parts.0)?;
    if !asked.profile_id.is_empty() {
        let name = words::profile_name(&gateway, &asked.profile_id).await?;
        metadata.insert(PROFILE.to_owned(), name);
    }
    let request = api::CreateVolumeRequest {
        name: words::name_or_new(asked.name, "volume"),
        required_bytes,
        limit_bytes: 0,
        pool: asked.pool_id,
        source,
        metadata,
    };
    let made = gateway.manager.manager().create_volume(request).await;
    answer(
        &gateway,
        made.map_err(words::named_in_body)?.into_inner(),
        StatusCode::ACCEPTED,
    )
    .await
}

fn source(snapshot_id: String, from_cloud: bool) -> Result<Option<Source>, Problem> {
    match (snapshot_id.is_empty(), from_cloud) {
        (true, false) => Ok(None),
        (true, true) => Err(Problem::bad_request(
            "snapshotFromCloud: needs the snapshot's id, snapshotId",
        )),
        (false, _) => Ok(Some(Source::Snapshot(api::SnapshotSource {
            snapshot_id,
            copy: match from_cloud {
                true => api::SourceCopy::Cloud,
                false => api::SourceCopy::Auto,
            }
            .into(),
        }))),
    }
}

/// Lists volumes.
#[utoipa::path(get, path = "/block/volumes", tag = "OpenSDS",
    params(("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query),
           ("sortKey" = Option<String>, Query), ("sortDir" = Option<String>, Query),
           ("name" = Option<String>, Query), ("status" = Option<String>, Query)),
    responses((status = 200, description = "Those that fit.", body = Vec<VolumeBody>)))]
pub(super) async fn list_volumes(State(gateway): State<Gateway>, asked: Asked) -> Answer {
    let listing = Listing::parse(asked.0, &FIELDS)?;
    let volumes = listed::volumes(&gateway.manager).await?;
    let follows = |volume: &api::Volume| volume.metadata.contains_key(PROFILE);
    let ids = words::profile_ids(&gateway, volumes.iter().any(follows)).await?;
    let all = volumes.iter().map(|volume| object(volume, &ids));
    Ok(Json(listing.of(all.collect())).into_response())
}

/// Shows one volume.
#[utoipa::path(get, path = "/block/volumes/{volumeId}", tag = "OpenSDS",
    responses((status = 200, description = "It.", body = VolumeBody)))]
pub(super) async fn get_volume(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
) -> Answer {
    let volume = find(&gateway, parts.0.1).await?;
    answer(&gateway, volume, StatusCode::OK).await
}

/// Changes nothing: names and descriptions stay. A body that says what is there already is answered.
#[utoipa::path(put, path = "/block/volumes/{volumeId}", tag = "OpenSDS",
    request_body = inline(Map<String, Value>),
    responses((status = 200, description = "As it is.", body = VolumeBody)))]
pub(super) async fn update_volume(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
    body: Body<Map<String, Value>>,
) -> Answer {
    let volume = find(&gateway, parts.0.1).await?;
    let follows = volume.metadata.contains_key(PROFILE);
    let ids = words::profile_ids(&gateway, follows).await?;
    let now = object(&volume, &ids);
    words::same(&body.0, &now, "a volume")?;
    answer(&gateway, volume, StatusCode::OK).await
}

/// Removes a volume; its snapshots stay.
#[utoipa::path(delete, path = "/block/volumes/{volumeId}", tag = "OpenSDS",
    responses((status = 202, description = "It is being removed.")))]
pub(super) async fn delete_volume(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
) -> Answer {
    let volume_id = find(&gateway, parts.0.1).await?.volume_id;
    let request = api::DeleteVolumeRequest { volume_id };
    gateway.manager.manager().delete_volume(request).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Grows a volume.
#[utoipa::path(post, path = "/block/volumes/{volumeId}/resize", tag = "OpenSDS", request_body = Resize,
    responses((status = 202, description = "It grows.", body = VolumeBody)))]
pub(super) async fn resize_volume(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
    body: Body<Resize>,
) -> Answer {
    let required_bytes = words::bytes_of("newSize", body.0.new_size)?;
    let volume = find(&gateway, parts.0.1).await?;
    if required_bytes <= volume.size_bytes {
        let problem = format!(
            "newSize: {} GiB is not more than the {} bytes that it has",
            body.0.new_size, volume.size_bytes
        );
        return Err(Problem::bad_request(problem).into());
    }
    let request = api::ExtendVolumeRequest {
        volume_id: volume.volume_id,
        required_bytes,
        limit_bytes: 0,
    };
    let grown = gateway.manager.manager().extend_volume(request).await?;
    answer(&gateway, grown.into_inner(), StatusCode::ACCEPTED).await
}

async fn find(gateway: &Gateway, volume_id: String) -> Result<api::Volume, Fault> {
    let request = api::GetVolumeRequest { volume_id };
    let found = gateway.manager.manager().get_volume(request).await?;
    Ok(found.into_inner())
}

async fn answer(gateway: &Gateway, volume: api::Volume, status: StatusCode) -> Answer {
    let ids = words::profile_ids(gateway, volume.metadata.contains_key(PROFILE)).await?;
    let touched = Touched(volume.volume_id.clone());
    Ok((status, Extension(touched), Json(object(&volume, &ids))).into_response())
}

/// A volume as OpenSDS tells it.
pub(super) fn object(volume: &api::Volume, ids: &HashMap<String, String>) -> Value {
    let (description, tenant, mut metadata) = words::told(&volume.metadata);
    let profile = metadata.remove(PROFILE);
    if !volume.error.is_empty() {
        metadata.insert("error".to_owned(), volume.error.clone());
    }
    if let Some(progress) = &volume.progress
        && progress.bytes_total > 0
    {
        let text = format!("{} of {} bytes", progress.bytes_done, progress.bytes_total);
        metadata.insert("progress".to_owned(), text);
    }
    let created_at = words::time_of(volume.created_at);
    let source = volume.source_snapshot.as_ref();
    words::without_empty(json!({
        "id": volume.volume_id,
        "createdAt": created_at,
        "updatedAt": created_at,
        "tenantId": tenant,
        "name": volume.name,
        "description": description,
        "size": words::gib_of(volume.size_bytes),
        "availabilityZone": ZONE,
        "status": status(volume.status()),
        "poolId": volume.pool,
        "profileId": profile.map(|name| words::id_of(ids, &name)),
        "metadata": metadata,
        "snapshotId": source.map(|source| &source.snapshot_id),
        "snapshotFromCloud": source.is_some_and(|source| source.copy() == api::SourceCopy::Cloud),
    }))
}

fn status(status: api::VolumeStatus) -> &'static str {
    use api::VolumeStatus::{
        Available, BackingUp, Creating, Deleting, Error, Extending, InUse, Restoring, Unspecified,
    };
    match status {
        // OpenSDS has no word for a volume that is being filled.
        Creating | Restoring => "creating",
        Available => "available",
        InUse => "inUse",
        // Nor for one that is read: nobody else may have it meanwhile.
        BackingUp => "inUse",
        Extending => "extending",
        Deleting => "deleting",
        Error | Unspecified => "error",
    }
}
