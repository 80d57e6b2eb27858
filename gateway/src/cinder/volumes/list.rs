//! Looking at volumes.

use axum::{Json, extract::State};
use serde_json::{Value, json};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::{COLLECTION, find, view};
use crate::{
    cinder::{
        Fault, Pairs,
        asked::{Asked, ProjectPath, ThingPath},
        listed,
        page::{Collection, Query},
        refused,
    },
    state::Gateway,
};

const VOLUMES: Collection = Collection {
    name: COLLECTION,
    filters: &[
        "id",
        "name",
        "status",
        "bootable",
        "volume_type",
        "availability_zone",
        "snapshot_id",
        "source_volid",
    ],
    sort_keys: &[
        "id",
        "name",
        "status",
        "size",
        "bootable",
        "availability_zone",
        "created_at",
        "updated_at",
    ],
};

/// What its lists can be asked for.
struct Params;

impl IntoParams for Params {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        VOLUMES.params()
    }
}

/// The volumes of a project, by name.
#[utoipa::path(get, path = "/volumes", tag = "cinder", operation_id = "cinder_volumes",
    params(ProjectPath, Params),
    responses((status = 200, description = "their ids and names", body = Value)))]
pub(in crate::cinder) async fn list(
    asked: Asked,
    State(gateway): State<Gateway>,
    pairs: Pairs,
) -> Result<Json<Value>, Fault> {
    answer(&asked, &gateway, &pairs.0, false).await
}

/// The volumes of a project, with all that is known of them.
#[utoipa::path(get, path = "/volumes/detail", tag = "cinder", operation_id = "cinder_volumes_detail",
    params(ProjectPath, Params),
    responses((status = 200, description = "all of them", body = Value)))]
pub(in crate::cinder) async fn detail(
    asked: Asked,
    State(gateway): State<Gateway>,
    pairs: Pairs,
) -> Result<Json<Value>, Fault> {
    answer(&asked, &gateway, &pairs.0, true).await
}

async fn answer(
    asked: &Asked,
    gateway: &Gateway,
    pairs: &[(String, String)],
    detailed: bool,
) -> Result<Json<Value>, Fault> {
    let query = Query::parse(&VOLUMES, asked, pairs)?;
    let volumes = listed::volumes(gateway).await.map_err(refused("volume"))?;
    let entries = volumes.iter().map(|volume| view::entry(asked, volume));
    Ok(Json(query.answer(asked, entries.collect(), detailed)?))
}

/// One volume.
#[utoipa::path(get, path = "/volumes/{id}", tag = "cinder", operation_id = "cinder_volume",
    params(ThingPath),
    responses((status = 200, description = "all of it", body = Value),
        (status = 404, description = "there is none")))]
pub(in crate::cinder) async fn show(
    asked: Asked,
    State(gateway): State<Gateway>,
) -> Result<Json<Value>, Fault> {
    let volume = find(&gateway, &asked.id).await?;
    Ok(Json(json!({"volume": view::entry(&asked, &volume).view})))
}
