//! Renaming, removing and commanding backups.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State};
use http::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use stockpot_proto::stockpot::v1 as api;
use utoipa::ToSchema;

use super::{find, view};
use crate::{
    cinder::{
        Body, Fault,
        asked::{Asked, ThingPath},
        bad_input, fields, invalid, listed,
        page::summary,
        refused,
        words::Words,
    },
    problem::Problem,
    state::Gateway,
};

/// How long a caller waits for the end of a deletion. It goes on at the manager after that.
const WAIT: Duration = Duration::from_secs(15);

/// The body of a call that changes a backup's words.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cinder) struct UpdateBackup {
    // May be null, and has to be there.
    #[serde(deserialize_with = "Option::deserialize")]
    backup: Option<NewWords>,
}

/// What is to be said of it from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWords {
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// From 3.43 on.
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// `null` says that there is to be none; nothing says nothing.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Ok(Some(Option::<String>::deserialize(deserializer)?))
}

/// Changes the name, the description or the metadata of a backup. From 3.9 on.
#[utoipa::path(put, path = "/backups/{id}", tag = "cinder", operation_id = "cinder_update_backup",
    params(ThingPath), request_body = UpdateBackup,
    responses((status = 200, description = "as it is called now", body = Value),
        (status = 400, description = "there is nothing to change"),
        (status = 404, description = "there is no such backup, or the version is before 3.9")))]
pub(in crate::cinder) async fn update(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<UpdateBackup>,
) -> Result<Json<Value>, Fault> {
    if !asked.version.has(9) {
        let message = "backups can be changed from version 3.9 on";
        return Err(Problem::new(StatusCode::NOT_FOUND, message).into());
    }
    let Some(words) = body.0.backup else {
        return Err(bad_input("there is nothing to change in 'backup'"));
    };
    let metadata = words.metadata.filter(|_| asked.version.has(43));
    if words.name.is_none() && words.description.is_none() && metadata.is_none() {
        return Err(bad_input("there is nothing to change in 'backup'"));
    }
    for (field, text) in [("name", &words.name), ("description", &words.description)] {
        let text = text.as_ref().and_then(Option::as_deref);
        fields::check_len(field, text.unwrap_or_default())?;
    }
    if let Some(metadata) = &metadata {
        fields::check_metadata(metadata)?;
    }
    let backup = find(&gateway, &asked.id).await?;
    let (set, remove) = Words::changes(&backup.metadata, words.name, words.description, metadata);
    let request = api::UpdateBackupRequest {
        backup_id: backup.backup_id,
        set,
        remove,
    };
    let changed = gateway.manager.backups().update_backup(request).await;
    let changed = changed.map_err(refused("backup"))?.into_inner();
    let entry = view::entry(&asked, &changed, &[]);
    Ok(Json(json!({"backup": summary(&entry.view)})))
}

/// Removes a backup and its copy in the bucket.
#[utoipa::path(delete, path = "/backups/{id}", tag = "cinder", operation_id = "cinder_delete_backup",
    params(ThingPath),
    responses((status = 202, description = "it is being removed"),
        (status = 400, description = "it is neither available nor failed"),
        (status = 404, description = "there is no such backup")))]
pub(in crate::cinder) async fn delete(
    asked: Asked,
    State(gateway): State<Gateway>,
) -> Result<StatusCode, Fault> {
    let backup = find(&gateway, &asked.id).await?;
    let restored = listed::being_restored(&gateway).await?;
    if !matches!(view::status(&backup, &restored), "available" | "error") {
        return Err(invalid(
            "backup",
            "Backup status must be available or error",
        ));
    }
    remove(&gateway, backup).await
}

/// Commands of administrators: `os-force_delete`.
#[utoipa::path(post, path = "/backups/{id}/action", tag = "cinder", operation_id = "cinder_backup_action",
    params(ThingPath), request_body(content = Value, example = json!({"os-force_delete": null})),
    responses((status = 202, description = "it is being done"),
        (status = 400, description = "there is no such command"),
        (status = 404, description = "there is no such backup")))]
pub(in crate::cinder) async fn action(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<Map<String, Value>>,
) -> Result<StatusCode, Fault> {
    let backup = find(&gateway, &asked.id).await?;
    let mut names = body.0.keys().map(String::as_str);
    match (names.next(), names.next()) {
        // However far it is: an upload under way is cancelled first.
        (Some("os-force_delete"), None) => remove(&gateway, backup).await,
        (Some("os-reset_status"), None) => Err(bad_input(
            "os-reset_status is not supported: the status of a backup is what its record and its copy in the bucket say",
        )),
        (Some(other), None) => Err(bad_input(format!(
            "there is no action {other:?} for backups: os-force_delete is the only one"
        ))),
        _ => Err(bad_input("the body has to name one action")),
    }
}

async fn remove(gateway: &Gateway, backup: api::Backup) -> Result<StatusCode, Fault> {
    let request = api::GetBackupRequest {
        backup_id: backup.backup_id,
    };
    let mut client = gateway.manager.backups();
    let deleting = client.delete_backup(request);
    // The manager goes on with it, whoever waits.
    if let Ok(deleted) = tokio::time::timeout(WAIT, deleting).await {
        deleted.map_err(refused("backup"))?;
    }
    Ok(StatusCode::ACCEPTED)
}
