//! What is told of volumes and snapshots, and what is taken.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use stockpot_proto::stockpot::v1 as api;

use super::{snapshots, volumes, words};

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn a_snapshot_is_available_with_its_cloud_copy_and_says_where_it_is() {
    let ids = HashMap::from([("offsite".to_owned(), "id-1".to_owned())]);
    let mut snapshot = api::Snapshot {
        snapshot_id: "snap-1".to_owned(),
        name: "nightly".to_owned(),
        source_volume_id: "vol-1".to_owned(),
        size_bytes: (1 << 30) + 1,
        local: api::CopyState::Present.into(),
        cloud: api::CopyState::Pending.into(),
        profile: "offsite".to_owned(),
        cloud_location: "s3://backups/a/snapshots/vol-1/snap-1.json".to_owned(),
        progress: Some(api::Progress {
            bytes_total: 10,
            bytes_done: 5,
            ..Default::default()
        }),
        metadata: words::kept(
            [("k".to_owned(), "v".to_owned())].into(),
            "words".to_owned(),
            "t1".to_owned(),
            &[],
        )
        .unwrap(),
        ..Default::default()
    };
    let told = snapshots::object(&snapshot, &ids);
    assert_eq!(told["status"], "creating");
    assert_eq!(told["size"], 2);
    assert_eq!(told["profileId"], "id-1");
    assert_eq!(told["description"], "words");
    assert_eq!(told["tenantId"], "t1");
    assert_eq!(
        told["metadata"],
        json!({"k": "v", "progress": "5 of 10 bytes"})
    );
    snapshot.cloud = api::CopyState::Present.into();
    snapshot.ready = true;
    let told = snapshots::object(&snapshot, &ids);
    assert_eq!(told["status"], "available");
    assert_eq!(told["metadata"]["bucket"], "backups");
    assert_eq!(told["metadata"]["location"], snapshot.cloud_location);
    snapshot.ready = false;
    assert_eq!(snapshots::object(&snapshot, &ids)["status"], "deleting");
    for state in [
        api::CopyState::Failed,
        api::CopyState::Deleted,
        api::CopyState::Unknown,
    ] {
        snapshot.cloud = state.into();
        let told = snapshots::object(&snapshot, &ids);
        assert_eq!(told["status"], "error", "{state:?}");
        assert!(told["metadata"].get("bucket").is_none());
    }
    snapshot.profile = String::new();
    snapshot.ready = true;
    let told = snapshots::object(&snapshot, &ids);
    assert_eq!(told["status"], "available");
    assert!(told.get("profileId").is_none());
}

#[test]
fn volumes_are_told_without_what_is_empty() {
    let volume = api::Volume {
        volume_id: "vol-1".to_owned(),
        name: "data".to_owned(),
        size_bytes: 3 << 30,
        status: api::VolumeStatus::Restoring.into(),
        pool: "pool".to_owned(),
        created_at: Some(prost_types::Timestamp {
            seconds: 1_767_225_600,
            nanos: 5,
        }),
        source_snapshot: Some(api::SnapshotSource {
            snapshot_id: "snap-1".to_owned(),
            copy: api::SourceCopy::Cloud.into(),
        }),
        ..Default::default()
    };
    assert_eq!(
        volumes::object(&volume, &HashMap::new()),
        json!({
            "id": "vol-1", "createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00", "name": "data",
            "size": 3, "availabilityZone": "default", "status": "creating", "poolId": "pool", "metadata": {},
            "snapshotId": "snap-1", "snapshotFromCloud": true,
        })
    );
}

#[test]
fn sizes() {
    assert_eq!(words::bytes_of("size", 2).unwrap(), 2 << 30);
    for bad in [0, -1, i64::MIN, i64::MAX, 1 << 33] {
        let problem = words::bytes_of("newSize", bad).unwrap_err();
        assert!(problem.message.contains("newSize"), "{bad}");
    }
    assert_eq!(words::gib_of(1), 1);
    assert_eq!(words::gib_of(0), 0);
}

#[test]
fn fields_of_answers_are_taken_back_and_others_are_not() {
    let read = |body: Value| -> Result<volumes::NewVolume, _> {
        words::fields(
            map(body),
            &["status", "createdAt"],
            &["groupId", "multiAttach"],
        )
    };
    read(
        json!({"name": "a", "size": 1, "status": "available", "groupId": "", "multiAttach": false}),
    )
    .unwrap();
    for (body, named) in [
        (json!({"groupId": "g"}), "groupId"),
        (json!({"multiAttach": true}), "multiAttach"),
        (json!({"colour": "red"}), "colour"),
        (json!({"size": "1"}), "size"),
        (json!({"name": 7}), "string"),
        (json!({"metadata": {"k": 1}}), "string"),
    ] {
        let problem = read(body).unwrap_err();
        assert_eq!(problem.status, 400);
        assert!(
            problem.message.contains(named) || named == "size",
            "{}",
            problem.message
        );
    }
    for (key, reserved, is_taken) in [
        ("opensds.tenant", &[][..], false),
        ("profile", &["profile", "error"], false),
        ("error", &["profile", "error"], false),
        ("Profile", &["profile", "error"], true),
    ] {
        let metadata = [(key.to_owned(), "x".to_owned())].into();
        let kept = words::kept(metadata, String::new(), String::new(), reserved);
        match kept {
            Ok(kept) => assert!(is_taken && kept[key] == "x", "{key}"),
            Err(problem) => {
                assert!(!is_taken && problem.message.contains(key), "{key}");
                assert_eq!(problem.status, 400);
            }
        }
    }
}

#[test]
fn what_stays_as_it_was_made() {
    let now = json!({"name": "a", "size": 1});
    words::same(
        &map(json!({"name": "a", "description": "", "size": 1})),
        &now,
        "it",
    )
    .unwrap();
    words::same(&map(json!({"name": "b"})), &now, "it").unwrap_err();
    words::same(&map(json!({"description": "new"})), &now, "it").unwrap_err();
}
