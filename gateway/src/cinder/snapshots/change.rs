//! Cutting and removing snapshots.

use std::collections::BTreeMap;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use stockpot_proto::stockpot::v1::{
    self as api, CopyState, VolumeStatus, delete_snapshot_request::Only,
};
use ulid::Ulid;
use utoipa::ToSchema;

use super::{find, view};
use crate::{
    cinder::{
        Body, Fault, Made,
        asked::{Asked, ProjectPath, ThingPath},
        bad_input,
        fields::{self, Flag, given},
        invalid, made, refused, volumes,
        words::Words,
    },
    state::Gateway,
};

/// The body of a call that cuts a snapshot.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cinder) struct CreateSnapshot {
    snapshot: NewSnapshot,
}

/// What a snapshot is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSnapshot {
    /// The volume that is cut.
    volume_id: String,
    #[serde(default, alias = "display_name")]
    name: Option<String>,
    #[serde(default, alias = "display_description")]
    description: Option<String>,
    /// Also while the volume is in use. From 3.66 on that needs no asking, and `false` is refused.
    #[serde(default)]
    force: Option<Flag>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// Cuts a snapshot of a volume.
#[utoipa::path(post, path = "/snapshots", tag = "cinder", operation_id = "cinder_create_snapshot",
    params(ProjectPath), request_body = CreateSnapshot,
    responses((status = 202, description = "it is cut", body = Value),
        (status = 400, description = "the volume is in use, or the request does not fit"),
        (status = 404, description = "there is no such volume"),
        (status = 413, description = "there is no room")))]
pub(in crate::cinder) async fn create(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<CreateSnapshot>,
) -> Result<Made, Fault> {
    let wanted = body.0.snapshot;
    wanted.check()?;
    let force = match wanted.force {
        Some(Flag(false)) if asked.version.has(66) => {
            return Err(bad_input(
                "since microversion 3.66 the 'force' flag is invalid, unless it is true: leave it out",
            ));
        }
        _ if asked.version.has(66) => true,
        force => force.unwrap_or_default().0,
    };
    let volume = volumes::find(&gateway, &wanted.volume_id).await?;
    if volume.status() == VolumeStatus::InUse && !force {
        return Err(invalid(
            "volume",
            format!(
                "Volume {} status must be available, but current status is: in-use.",
                wanted.volume_id
            ),
        ));
    }
    let words = Words {
        metadata: wanted.metadata.unwrap_or_default(),
        ..Words::new(&asked, given(wanted.name), given(wanted.description))
    };
    let own_name = Ulid::generate().to_string().to_ascii_lowercase();
    let request = api::CreateSnapshotRequest {
        name: format!("snapshot-{own_name}"),
        source_volume_id: volume.volume_id,
        profile: String::new(),
        metadata: words.write(),
    };
    let cut = gateway.manager.manager().create_snapshot(request).await;
    let cut = cut.map_err(refused("volume"))?.into_inner();
    let body = json!({"snapshot": view::entry(&asked, &cut).view});
    Ok(made(StatusCode::ACCEPTED, cut.snapshot_id, body))
}

impl NewSnapshot {
    fn check(&self) -> Result<(), Fault> {
        fields::check_text("volume_id", &self.volume_id)?;
        for (field, text) in [("name", &self.name), ("description", &self.description)] {
            fields::check_len(field, text.as_deref().unwrap_or_default())?;
        }
        match &self.metadata {
            Some(metadata) => fields::check_metadata(metadata),
            None => Ok(()),
        }
    }
}

/// Removes a snapshot. A cloud copy of it stays.
#[utoipa::path(delete, path = "/snapshots/{id}", tag = "cinder", operation_id = "cinder_delete_snapshot",
    params(ThingPath),
    responses((status = 202, description = "it is being removed"),
        (status = 400, description = "it is being read"),
        (status = 404, description = "there is no such snapshot")))]
pub(in crate::cinder) async fn delete(
    asked: Asked,
    State(gateway): State<Gateway>,
) -> Result<StatusCode, Fault> {
    let snapshot = find(&gateway, &asked.id).await?;
    remove(&gateway, snapshot).await
}

/// Commands of administrators: `os-force_delete`.
#[utoipa::path(post, path = "/snapshots/{id}/action", tag = "cinder", operation_id = "cinder_snapshot_action",
    params(ThingPath), request_body(content = Value, example = json!({"os-force_delete": null})),
    responses((status = 202, description = "it is being done"),
        (status = 400, description = "there is no such command"),
        (status = 404, description = "there is no such snapshot")))]
pub(in crate::cinder) async fn action(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<Map<String, Value>>,
) -> Result<StatusCode, Fault> {
    let snapshot = find(&gateway, &asked.id).await?;
    let mut names = body.0.keys().map(String::as_str);
    match (names.next(), names.next()) {
        (Some("os-force_delete"), None) => remove(&gateway, snapshot).await,
        (Some("os-reset_status"), None) => Err(bad_input(
            "os-reset_status is not supported: the status of a snapshot is what its record and the storage say",
        )),
        (Some(other), None) => Err(bad_input(format!(
            "there is no action {other:?} for snapshots: os-force_delete is the only one"
        ))),
        _ => Err(bad_input("the body has to name one action")),
    }
}

async fn remove(gateway: &Gateway, snapshot: api::Snapshot) -> Result<StatusCode, Fault> {
    // What lies in a bucket, or is on its way there, was not made by this API, and is not its to remove.
    let has_cloud = matches!(
        snapshot.cloud(),
        CopyState::Pending | CopyState::Present | CopyState::Unknown
    );
    let request = api::DeleteSnapshotRequest {
        snapshot_id: snapshot.snapshot_id,
        only: has_cloud.then_some(Only::LocalOnly(true)),
    };
    let deleted = gateway.manager.manager().delete_snapshot(request).await;
    deleted.map_err(refused("snapshot"))?;
    Ok(StatusCode::ACCEPTED)
}
