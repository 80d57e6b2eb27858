//! A volume as Cinder shows it.

use serde_json::{Value, json};
use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};

use super::COLLECTION;
use crate::cinder::{
    asked::Asked,
    fields, ids,
    page::Entry,
    words::{self, Words},
};

/// A volume in Cinder's words.
pub(super) fn entry(asked: &Asked, volume: &api::Volume) -> Entry {
    let id = ids::shown(&volume.volume_id);
    let words = Words::read(&volume.metadata, &volume.name);
    let snapshot = volume.source_snapshot.as_ref();
    // A backup's copy has the id of a snapshot, and is none in Cinder.
    let snapshot = snapshot.filter(|_| words.backup.is_none());
    let snapshot = snapshot.map(|source| ids::shown(&source.snapshot_id));
    let source = Some(&volume.source_volume_id).filter(|id| !id.is_empty());
    let source = source.map(|id| ids::shown(id));
    let mut view = json!({
        "id": id,
        "name": words.name,
        "description": words.description,
        "status": status(volume),
        "size": fields::Gib::of(volume.size_bytes),
        "availability_zone": fields::ZONE,
        "created_at": fields::time(volume.created_at),
        "updated_at": Value::Null,
        // Who attaches, no instance of a compute service does.
        "attachments": [],
        "bootable": "false",
        "encrypted": false,
        "multiattach": false,
        "replication_status": Value::Null,
        "migration_status": Value::Null,
        "consistencygroup_id": Value::Null,
        "volume_type": volume.pool,
        "snapshot_id": snapshot,
        "source_volid": source,
        "metadata": words.metadata,
        "user_id": words.user,
        "os-vol-tenant-attr:tenant_id": words.project,
        "links": asked.links(COLLECTION, &id),
    });
    for (since, key, value) in [
        (13, "group_id", Value::Null),
        // What everything else here calls it.
        (21, "provider_id", json!(volume.volume_id)),
        (48, "service_uuid", Value::Null),
        (48, "shared_targets", json!(false)),
        (61, "cluster_name", Value::Null),
        (63, "volume_type_id", json!(volume.pool)),
        (65, "consumes_quota", json!(true)),
    ] {
        if asked.version.has(since) {
            view[key] = value;
        }
    }
    Entry {
        project: words.project,
        view,
    }
}

/// Its status in Cinder's words.
pub(in crate::cinder) fn status(volume: &api::Volume) -> &'static str {
    match volume.status() {
        VolumeStatus::Creating => "creating",
        VolumeStatus::Restoring => "restoring-backup",
        VolumeStatus::Available => "available",
        VolumeStatus::InUse => "in-use",
        VolumeStatus::BackingUp => "backing-up",
        VolumeStatus::Extending => "extending",
        VolumeStatus::Deleting => "deleting",
        // As one that a backup was to fill; one made from a snapshot, or empty, is in error only.
        VolumeStatus::Error if words::is_restored(&volume.metadata) => "error_restoring",
        VolumeStatus::Error | VolumeStatus::Unspecified => "error",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn only_what_a_backup_was_to_fill_failed_to_be_restored() {
        let of_backup = Words {
            backup: Some("backup-1".to_owned()),
            ..Words::default()
        };
        for (metadata, shown) in [
            (of_backup.write(), "error_restoring"),
            (HashMap::new(), "error"),
        ] {
            let volume = api::Volume {
                status: VolumeStatus::Error.into(),
                source_snapshot: Some(api::SnapshotSource::default()),
                metadata,
                ..Default::default()
            };
            assert_eq!(status(&volume), shown);
        }
    }
}
