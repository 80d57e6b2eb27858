//! Growing and removing volumes.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};

use super::{find, status};
use crate::{
    cinder::{
        Body, Fault, Pairs,
        asked::{Asked, ThingPath},
        bad_input,
        fields::{Flag, Gib},
        invalid, refused,
    },
    state::Gateway,
};

/// Removes a volume. Backups of it stay.
#[utoipa::path(delete, path = "/volumes/{id}", tag = "cinder", operation_id = "cinder_delete_volume",
    params(ThingPath,
        ("cascade" = Option<bool>, Query, description = "also its snapshots: not supported"),
        ("force" = Option<bool>, Query, description = "whatever its status is: not heeded")),
    responses((status = 202, description = "it is being removed"),
        (status = 400, description = "it is in use, or has snapshots"),
        (status = 404, description = "there is no such volume")))]
pub(in crate::cinder) async fn delete(
    asked: Asked,
    State(gateway): State<Gateway>,
    pairs: Pairs,
) -> Result<StatusCode, Fault> {
    // What else a client says there is passed over, as Cinder does.
    let known = |(key, _): &&(String, String)| matches!(key.as_str(), "cascade" | "force");
    for (key, value) in pairs.0.iter().filter(known) {
        let flag = Flag::parse(value)
            .ok_or_else(|| bad_input(format!("{key} has to be true or false, not {value:?}")))?;
        if key == "cascade" && flag.0 {
            return Err(bad_input(
                "cascade is not supported: delete the snapshots of the volume first",
            ));
        }
    }
    let volume = find(&gateway, &asked.id).await?;
    remove(&gateway, volume).await
}

/// Commands: `os-extend` and `os-force_delete`.
#[utoipa::path(post, path = "/volumes/{id}/action", tag = "cinder", operation_id = "cinder_volume_action",
    params(ThingPath), request_body(content = Value, example = json!({"os-extend": {"new_size": 2}})),
    responses((status = 202, description = "it is being done"),
        (status = 400, description = "there is no such command, or the volume is not in a status for it"),
        (status = 404, description = "there is no such volume"),
        (status = 413, description = "there is no room")))]
pub(in crate::cinder) async fn action(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<Map<String, Value>>,
) -> Result<StatusCode, Fault> {
    let volume = find(&gateway, &asked.id).await?;
    let mut actions = body.0.into_iter();
    let (Some((name, said)), None) = (actions.next(), actions.next()) else {
        return Err(bad_input("the body has to name one action"));
    };
    match name.as_str() {
        "os-extend" => extend(&asked, &gateway, volume, said).await,
        "os-force_delete" => remove(&gateway, volume).await,
        "os-reset_status" => Err(bad_input(
            "os-reset_status is not supported: the status of a volume is what its record and the storage say",
        )),
        other => Err(bad_input(format!(
            "there is no action {other:?} for volumes: there are os-extend and os-force_delete"
        ))),
    }
}

/// What `os-extend` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extend {
    new_size: Gib,
}

async fn extend(
    asked: &Asked,
    gateway: &Gateway,
    volume: api::Volume,
    said: Value,
) -> Result<StatusCode, Fault> {
    let wanted: Extend =
        serde_json::from_value(said).map_err(|error| bad_input(format!("os-extend: {error}")))?;
    // Its user has to know how to look again: a later version's promise.
    if volume.status() == VolumeStatus::InUse && !asked.version.has(42) {
        return Err(invalid(
            "volume",
            format!(
                "Volume {} status must be available to extend, but current status is: in-use; from version 3.42 on it \
                 may be in use",
                asked.id
            ),
        ));
    }
    let required_bytes = wanted.new_size.bytes();
    if required_bytes <= volume.size_bytes {
        return Err(bad_input(format!(
            "New size for extend must be greater than current size. (current: {}, extended: {})",
            Gib::of(volume.size_bytes),
            Gib::of(required_bytes)
        )));
    }
    let request = api::ExtendVolumeRequest {
        volume_id: volume.volume_id,
        required_bytes,
        limit_bytes: 0,
    };
    let grown = gateway.manager.manager().extend_volume(request).await;
    grown.map_err(refused("volume"))?;
    Ok(StatusCode::ACCEPTED)
}

async fn remove(gateway: &Gateway, volume: api::Volume) -> Result<StatusCode, Fault> {
    if matches!(
        volume.status(),
        VolumeStatus::InUse | VolumeStatus::BackingUp
    ) {
        return Err(invalid(
            "volume",
            format!(
                "Volume status must be available or error or error_restoring, but current status is: {}",
                status(&volume)
            ),
        ));
    }
    let request = api::DeleteVolumeRequest {
        volume_id: volume.volume_id,
    };
    let deleted = gateway.manager.manager().delete_volume(request).await;
    deleted.map_err(refused("volume"))?;
    Ok(StatusCode::ACCEPTED)
}
