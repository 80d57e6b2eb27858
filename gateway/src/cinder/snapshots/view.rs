//! A snapshot as Cinder shows it.

use serde_json::{Value, json};
use stockpot_proto::stockpot::v1::{self as api, CopyState};

use super::COLLECTION;
use crate::cinder::{asked::Asked, fields, ids, page::Entry, words::Words};

/// Whether there is, or is to be, a local copy.
pub(super) fn is_local(snapshot: &api::Snapshot) -> bool {
    matches!(
        snapshot.local(),
        CopyState::Pending | CopyState::Present | CopyState::Failed
    )
}

/// A snapshot in Cinder's words.
pub(super) fn entry(asked: &Asked, snapshot: &api::Snapshot) -> Entry {
    let id = ids::shown(&snapshot.snapshot_id);
    let words = Words::read(&snapshot.metadata, &snapshot.name);
    let (status, progress) = match snapshot.local() {
        CopyState::Present => ("available", "100%"),
        CopyState::Pending => ("creating", "0%"),
        _ => ("error", "0%"),
    };
    let mut view = json!({
        "id": id,
        "name": words.name,
        "description": words.description,
        "status": status,
        "size": fields::Gib::of(snapshot.size_bytes),
        "volume_id": ids::shown(&snapshot.source_volume_id),
        "created_at": fields::time(snapshot.cut_at),
        "updated_at": Value::Null,
        "metadata": words.metadata,
        "os-extended-snapshot-attributes:progress": progress,
        "os-extended-snapshot-attributes:project_id": words.project,
        "links": asked.links(COLLECTION, &id),
    });
    for (since, key, value) in [
        (14, "group_snapshot_id", Value::Null),
        (41, "user_id", json!(words.user)),
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
