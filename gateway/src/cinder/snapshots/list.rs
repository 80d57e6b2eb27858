//! Looking at snapshots.

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

const SNAPSHOTS: Collection = Collection {
    name: COLLECTION,
    filters: &["id", "name", "status", "volume_id"],
    sort_keys: &[
        "id",
        "name",
        "status",
        "size",
        "volume_id",
        "created_at",
        "updated_at",
    ],
};

/// What its lists can be asked for.
struct Params;

impl IntoParams for Params {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        SNAPSHOTS.params()
    }
}

/// The snapshots of a project, by name.
#[utoipa::path(get, path = "/snapshots", tag = "cinder", operation_id = "cinder_snapshots",
    params(ProjectPath, Params),
    responses((status = 200, description = "their ids and names", body = Value)))]
pub(in crate::cinder) async fn list(
    asked: Asked,
    State(gateway): State<Gateway>,
    pairs: Pairs,
) -> Result<Json<Value>, Fault> {
    answer(&asked, &gateway, &pairs.0, false).await
}

/// The snapshots of a project, with all that is known of them.
#[utoipa::path(get, path = "/snapshots/detail", tag = "cinder", operation_id = "cinder_snapshots_detail",
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
    let query = Query::parse(&SNAPSHOTS, asked, pairs)?;
    let snapshots = listed::snapshots(gateway)
        .await
        .map_err(refused("snapshot"))?;
    let local = snapshots.iter().filter(|snapshot| view::is_local(snapshot));
    let entries = local.map(|snapshot| view::entry(asked, snapshot));
    Ok(Json(query.answer(asked, entries.collect(), detailed)?))
}

/// One snapshot.
#[utoipa::path(get, path = "/snapshots/{id}", tag = "cinder", operation_id = "cinder_snapshot",
    params(ThingPath),
    responses((status = 200, description = "all of it", body = Value),
        (status = 404, description = "there is none")))]
pub(in crate::cinder) async fn show(
    asked: Asked,
    State(gateway): State<Gateway>,
) -> Result<Json<Value>, Fault> {
    let snapshot = find(&gateway, &asked.id).await?;
    let entry = view::entry(&asked, &snapshot);
    Ok(Json(json!({"snapshot": entry.view})))
}
