//! Records of backups: what another catalog needs to know one that is in the bucket.

use std::collections::HashMap;

use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stockpot_proto::stockpot::v1 as api;
use tonic::Code;
use utoipa::ToSchema;

use super::{find, restore::check_available, view};
use crate::{
    cinder::{
        Body, Fault, Made,
        asked::{Asked, ProjectPath, ThingPath},
        bad_input, invalid, made,
        page::summary,
        refused,
    },
    state::Gateway,
};

/// Who can read the record: in Cinder the name of a backup driver.
const SERVICE: &str = "stockpot";
/// Of the record.
const FORMAT: u32 = 1;

/// What is in a record, as JSON in base64.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    backup_id: String,
    /// The manager's name for it.
    name: String,
    snapshot_id: String,
    /// Where it lies: for whoever looks at the record, and not used.
    location: String,
    metadata: HashMap<String, String>,
}

/// The body of a call that imports a record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cinder) struct ImportRecord {
    #[serde(rename = "backup-record")]
    record: ExportedRecord,
}

/// A record as it was exported.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ExportedRecord {
    /// Who can read it.
    backup_service: String,
    /// What it says.
    backup_url: String,
}

/// The record of a backup.
#[utoipa::path(get, path = "/backups/{id}/export_record", tag = "cinder", operation_id = "cinder_export_record",
    params(ThingPath),
    responses((status = 200, description = "the record", body = Value),
        (status = 400, description = "the backup is not available"),
        (status = 404, description = "there is no such backup")))]
pub(in crate::cinder) async fn export_record(
    asked: Asked,
    State(gateway): State<Gateway>,
) -> Result<Json<Value>, Fault> {
    let backup = find(&gateway, &asked.id).await?;
    check_available(&backup)?;
    let record = Record {
        format: FORMAT,
        backup_id: backup.backup_id,
        name: backup.name,
        snapshot_id: backup.snapshot_id,
        location: backup.cloud_location,
        metadata: backup.metadata,
    };
    Ok(Json(json!({"backup-record": {
        "backup_service": SERVICE,
        "backup_url": record.encode(),
    }})))
}

/// Makes a backup known from its record. Its copy has to be in a repository to which a profile leads.
#[utoipa::path(post, path = "/backups/import_record", tag = "cinder", operation_id = "cinder_import_record",
    params(ProjectPath), request_body = ImportRecord,
    responses((status = 201, description = "it is known", body = Value),
        (status = 400, description = "the record cannot be used, or the backup is known already"),
        (status = 404, description = "its copy is in no repository")))]
pub(in crate::cinder) async fn import_record(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<ImportRecord>,
) -> Result<Made, Fault> {
    let exported = body.0.record;
    if exported.backup_service != SERVICE {
        return Err(invalid(
            "backup",
            format!(
                "a record of backup_service {:?} cannot be read here: only those of {SERVICE:?} can",
                exported.backup_service
            ),
        ));
    }
    let record = Record::decode(&exported.backup_url)?;
    let known = api::GetBackupRequest {
        backup_id: record.backup_id.clone(),
    };
    match gateway.manager.backups().get_backup(known).await {
        Ok(_) => return Err(invalid("backup", "Backup already exists in database.")),
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(status.into()),
    }
    let request = api::ImportBackupRequest {
        backup_id: record.backup_id,
        name: record.name,
        snapshot_id: record.snapshot_id,
        metadata: record.metadata,
    };
    let imported = gateway.manager.backups().import_backup(request).await;
    let imported = imported.map_err(refused("backup"))?.into_inner();
    let entry = view::entry(&asked, &imported, &[]);
    let body = json!({"backup": summary(&entry.view)});
    Ok(made(StatusCode::CREATED, imported.backup_id, body))
}

impl Record {
    fn encode(&self) -> String {
        let json = serde_json::to_string(self).expect("texts and a number");
        STANDARD.encode(json)
    }

    fn decode(text: &str) -> Result<Self, Fault> {
        let unreadable = || bad_input("Can't parse backup record: it is not one that was exported");
        // Clients break long lines.
        let text: String = text.split_whitespace().collect();
        let json = STANDARD.decode(text).map_err(|_| unreadable())?;
        let value: Value = serde_json::from_slice(&json).map_err(|_| unreadable())?;
        if value.get("format").and_then(Value::as_u64) != Some(FORMAT.into()) {
            return Err(bad_input(format!(
                "Can't parse backup record: it is of another format than {FORMAT}"
            )));
        }
        serde_json::from_value(value).map_err(|_| unreadable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_imported() {
        let record = Record {
            format: FORMAT,
            backup_id: "bak-0".to_owned(),
            name: "bak-0".to_owned(),
            snapshot_id: "snap-0".to_owned(),
            location: "s3://b/p".to_owned(),
            metadata: [("k".to_owned(), "é".to_owned())].into(),
        };
        let text = record.encode();
        assert_eq!(Record::decode(&text).unwrap(), record);
        assert_eq!(Record::decode(&format!(" {text}\n")).unwrap(), record);
        let later = STANDARD.encode(r#"{"format": 2}"#);
        for bad in ["", "!", "eA==", "e30=", "bnVsbA==", later.as_str()] {
            assert!(Record::decode(bad).is_err(), "{bad}");
        }
    }
}
