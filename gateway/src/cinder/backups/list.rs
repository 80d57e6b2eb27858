//! Looking at backups.

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

const BACKUPS: Collection = Collection {
    name: COLLECTION,
    filters: &[
        "id",
        "name",
        "status",
        "volume_id",
        "snapshot_id",
        "container",
        "availability_zone",
    ],
    sort_keys: &[
        "id",
        "name",
        "status",
        "size",
        "volume_id",
        "container",
        "availability_zone",
        "created_at",
        "updated_at",
        "data_timestamp",
    ],
};

/// What its lists can be asked for.
struct Params;

impl IntoParams for Params {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        BACKUPS.params()
    }
}

/// The backups of a project, by name.
#[utoipa::path(get, path = "/backups", tag = "cinder", operation_id = "cinder_backups",
    params(ProjectPath, Params),
    responses((status = 200, description = "their ids and names", body = Value)))]
pub(in crate::cinder) async fn list(
    asked: Asked,
    State(gateway): State<Gateway>,
    pairs: Pairs,
) -> Result<Json<Value>, Fault> {
    answer(&asked, &gateway, &pairs.0, false).await
}

/// The backups of a project, with all that is known of them.
#[utoipa::path(get, path = "/backups/detail", tag = "cinder", operation_id = "cinder_backups_detail",
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
    let query = Query::parse(&BACKUPS, asked, pairs)?;
    let backups = listed::backups(gateway, "")
        .await
        .map_err(refused("backup"))?;
    let restored = listed::being_restored(gateway).await?;
    let entries = backups.iter().map(|b| view::entry(asked, b, &restored));
    Ok(Json(query.answer(asked, entries.collect(), detailed)?))
}

/// One backup.
#[utoipa::path(get, path = "/backups/{id}", tag = "cinder", operation_id = "cinder_backup",
    params(ThingPath),
    responses((status = 200, description = "all of it", body = Value),
        (status = 404, description = "there is none")))]
pub(in crate::cinder) async fn show(
    asked: Asked,
    State(gateway): State<Gateway>,
) -> Result<Json<Value>, Fault> {
    let backup = find(&gateway, &asked.id).await?;
    let restored = listed::being_restored(&gateway).await?;
    let entry = view::entry(&asked, &backup, &restored);
    Ok(Json(json!({"backup": entry.view})))
}
