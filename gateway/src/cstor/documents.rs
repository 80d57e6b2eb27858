//! The documents that are posted, and what they answer. Fields that are not known here are kept, and never an error.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::problem::Problem;

/// Longest a name may be, in bytes: as long as one of Kubernetes.
const NAME_BYTES_MAX: usize = 253;
/// Most of a document that is kept with what it asked for, in bytes.
pub(super) const KEPT_BYTES_MAX: usize = 2000;

/// `CStorBackupStatus` and `CStorRestoreStatus`, of which each has the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) enum Status {
    /// It is on record, and nothing has moved yet.
    Init,
    /// It is stopped, or waits for its turn.
    Pending,
    /// It is under way.
    InProgress,
    /// It is complete.
    Done,
    /// It failed, or had no healthy volume to begin with.
    Failed,
    /// Nobody has asked for it.
    Invalid,
}

/// A backup: `CStorBackup` of OpenEBS.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
#[schema(as = CStorBackup)]
pub(super) struct BackupDocument {
    /// Which object it is.
    pub(super) metadata: ObjectMetadata,
    /// What is asked for.
    pub(super) spec: BackupSpec,
}

/// Where a document belongs.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub(super) struct ObjectMetadata {
    /// The namespace of the claim.
    pub(super) namespace: String,
}

/// `CStorBackupSpec`.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, rename_all = "camelCase")]
#[schema(as = CStorBackupSpec)]
pub(super) struct BackupSpec {
    /// The schedule, or the backup where there is none.
    pub(super) backup_name: String,
    /// Name or id of the volume.
    pub(super) volume_name: String,
    /// The backup.
    pub(super) snap_name: String,
    /// Where it goes: `s3://BUCKET/PREFIX` of a profile, or `HOST:PORT` of somebody who waits for it.
    pub(super) backup_dest: String,
    /// Only a snapshot beside the volume.
    pub(super) local_snap: bool,
    /// It builds on no earlier one.
    pub(super) disable_incremental_backups: bool,
}

/// A restore: `CStorRestore` of OpenEBS.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
#[schema(as = CStorRestore)]
pub(super) struct RestoreDocument {
    /// Which object it is.
    pub(super) metadata: ObjectMetadata,
    /// What is asked for.
    pub(super) spec: RestoreSpec,
}

/// `CStorRestoreSpec`. `storageClass`, `maxRetryCount` and `retryCount` are kept and mean nothing here.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, rename_all = "camelCase")]
#[schema(as = CStorRestoreSpec)]
pub(super) struct RestoreSpec {
    /// The backup: its `snapName`.
    pub(super) restore_name: String,
    /// Name of the volume that is filled; made if it is not there.
    pub(super) volume_name: String,
    /// `HOST:PORT` of somebody who sends it, or the volume that was backed up.
    pub(super) restore_src: String,
    /// At least so large; a quantity of Kubernetes.
    #[schema(value_type = Option<String>)]
    pub(super) size: Option<Value>,
    /// It comes from the snapshot beside that volume.
    pub(super) local_restore: bool,
}

/// Reads one; what is no object, or has a known field of another type, is told.
pub(super) fn read<T: DeserializeOwned>(document: &Value) -> Result<T, Problem> {
    if !document.is_object() {
        return Err(Problem::bad_request("the body is not a JSON object"));
    }
    T::deserialize(document)
        .map_err(|error| Problem::bad_request(format!("the body does not fit: {error}")))
}

/// A field that has to be there.
pub(super) fn required(field: &str, value: &str) -> Result<(), Problem> {
    if value.trim().is_empty() {
        return Err(Problem::bad_request(format!("{field} is missing")));
    }
    if value.len() > NAME_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(Problem::bad_request(format!(
            "{field} has to have at most {NAME_BYTES_MAX} bytes and no control characters"
        )));
    }
    Ok(())
}

/// The answer to a question about a backup: the document with what has become of it.
pub(super) fn answer(mut document: Value, name: &str, previous: &str, status: Status) -> Value {
    let Some(fields) = document.as_object_mut() else {
        return json!({"status": status});
    };
    object(fields, "metadata").insert("name".to_owned(), json!(name));
    object(fields, "spec").insert("prevSnapName".to_owned(), json!(previous));
    fields.insert("status".to_owned(), json!(status));
    document
}

fn object<'a>(fields: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = fields.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made one above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_other_versions_stay() {
        let posted = json!({
            "kind": "CStorBackup", "metadata": {"namespace": "shop", "creationTimestamp": null, "labels": {"a": "b"}},
            "spec": {"backupName": "s", "volumeName": "v", "snapName": "s-1", "newField": [1]}, "other": 1,
        });
        let read: BackupDocument = read(&posted).unwrap();
        assert_eq!(
            (
                read.metadata.namespace.as_str(),
                read.spec.snap_name.as_str()
            ),
            ("shop", "s-1")
        );
        assert!(!read.spec.local_snap);
        let answer = answer(posted, "s-1-v", "s-0", Status::InProgress);
        assert_eq!(answer["status"], "InProgress");
        assert_eq!(answer["spec"]["prevSnapName"], "s-0");
        assert_eq!(answer["spec"]["newField"], json!([1]));
        assert_eq!(answer["metadata"]["labels"]["a"], "b");
        assert_eq!(answer["other"], 1);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for bad in [
            json!(null),
            json!([]),
            json!("a"),
            json!({"spec": 1}),
            json!({"spec": {"localSnap": "yes"}}),
        ] {
            assert!(read::<BackupDocument>(&bad).is_err(), "{bad}");
        }
        assert!(
            required("snapName", " ")
                .unwrap_err()
                .message
                .contains("snapName")
        );
        assert!(required("snapName", "a\nb").is_err());
        assert!(required("snapName", "a").is_ok());
    }
}
