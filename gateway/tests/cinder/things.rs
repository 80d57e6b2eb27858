//! Volumes and snapshots, as far as backups need them, and the versions of the API.

use serde_json::{Value, json};

use crate::lab::World;

/// Of a backup, in every version, in order.
const BACKUP_KEYS: [&str; 17] = [
    "availability_zone",
    "container",
    "created_at",
    "data_timestamp",
    "description",
    "fail_reason",
    "has_dependent_backups",
    "id",
    "is_incremental",
    "links",
    "name",
    "object_count",
    "size",
    "snapshot_id",
    "status",
    "updated_at",
    "volume_id",
];

fn keys(thing: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = thing
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_from_its_making_to_its_end() {
    let world = World::new();
    let lab = world.start().await;
    // What python-cinderclient sends, with its nulls.
    let body = json!({"volume": {
        "size": 1, "consistencygroup_id": null, "snapshot_id": null, "name": "data", "description": null,
        "volume_type": "pool", "availability_zone": null, "metadata": {"k": "v"}, "imageRef": null,
        "source_volid": null, "backup_id": null,
    }});
    let made = lab
        .at("3.66", "POST", "/v3/p/volumes", &body.to_string())
        .await;
    assert_eq!(made.status, 202, "{made:?}");
    let id = made.body["volume"]["id"].as_str().unwrap();
    let volume = lab.until("volume", id, "available").await;
    assert_eq!(volume["name"], "data");
    assert_eq!(volume["size"], 1);
    assert_eq!(volume["metadata"], json!({"k": "v"}));
    assert_eq!(volume["volume_type"], "pool");
    assert_eq!(volume["bootable"], "false");
    assert_eq!(volume["os-vol-tenant-attr:tenant_id"], "p");
    // Names need not be unique, nor be there.
    let twin = lab
        .post(
            "/v3/p/volumes",
            &json!({"volume": {"size": "1", "name": "data"}}),
        )
        .await;
    let twin = twin.body["volume"]["id"].as_str().unwrap().to_owned();
    assert_ne!(twin, id);
    let nameless = lab
        .post("/v3/p/volumes", &json!({"volume": {"size": 1}}))
        .await;
    assert_eq!(nameless.body["volume"]["name"], json!(null));
    let copy = lab
        .post("/v3/p/volumes", &json!({"volume": {"source_volid": id}}))
        .await;
    assert_eq!(copy.body["volume"]["source_volid"], id, "{copy:?}");
    let action = format!("/v3/p/volumes/{id}/action");
    let grown = lab
        .post(&action, &json!({"os-extend": {"new_size": 2}}))
        .await;
    assert_eq!(grown.status, 202, "{grown:?}");
    let path = format!("/v3/p/volumes/{id}");
    assert_eq!(lab.get(&path).await.body["volume"]["size"], 2);
    let smaller = lab
        .post(&action, &json!({"os-extend": {"new_size": 1}}))
        .await;
    assert!(
        smaller
            .fault(400, "badRequest")
            .contains("greater than current size")
    );
    assert_eq!(lab.delete(&path).await.status, 202);
    lab.get(&path).await.fault(404, "itemNotFound");
    lab.delete(&path).await.fault(404, "itemNotFound");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_backed_up_and_stays() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("source", 3).await;
    lab.attach(&volume).await;
    let body = json!({"snapshot": {"volume_id": volume, "name": "s", "metadata": {}}}).to_string();
    // Before 3.66 a volume in use has to be forced.
    let refused = lab.at("3.65", "POST", "/v3/p/snapshots", &body).await;
    let message = refused.fault(400, "badRequest");
    assert!(message.contains("status must be available"), "{message}");
    let cut = lab.at("3.66", "POST", "/v3/p/snapshots", &body).await;
    assert_eq!(cut.status, 202, "{cut:?}");
    let id = cut.body["snapshot"]["id"].as_str().unwrap();
    let snapshot = lab.until("snapshot", id, "available").await;
    assert_eq!(snapshot["volume_id"], json!(lab.shown(&volume).await));
    assert_eq!(snapshot["name"], "s");
    let forced = json!({"snapshot": {"volume_id": volume, "force": "True"}});
    let forced = lab.post("/v3/p/snapshots", &forced).await;
    assert_eq!(forced.status, 202, "{forced:?}");
    let listed = lab.get("/v3/p/snapshots?name=s").await;
    assert_eq!(listed.body["snapshots"].as_array().unwrap().len(), 1);
    // It is what the backup shows, and stays.
    let asked = json!({"backup": {"volume_id": volume, "snapshot_id": id}});
    let begun = lab.post("/v3/p/backups", &asked).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let backup = begun.body["backup"]["id"].as_str().unwrap();
    let backup = lab.until("backup", backup, "available").await;
    assert_eq!(backup["snapshot_id"], id);
    lab.until("snapshot", id, "available").await;
    let path = format!("/v3/p/snapshots/{id}");
    let volume = lab
        .post("/v3/p/volumes", &json!({"volume": {"snapshot_id": id}}))
        .await;
    assert_eq!(volume.body["volume"]["snapshot_id"], id, "{volume:?}");
    let copy = volume.body["volume"]["id"].as_str().unwrap();
    world.assert_content(&lab.until("volume", copy, "available").await, 3);
    assert_eq!(lab.delete(&path).await.status, 202);
    lab.get(&path).await.fault(404, "itemNotFound");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_what_each_shows() {
    let world = World::new();
    let mut lab = world.start().await;
    let all = lab.get("/").await;
    assert_eq!(all.status, 300);
    let versions = all.body["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(versions[1]["min_version"], "3.0");
    for path in ["/v3", "/v3/"] {
        let third = lab.get(path).await;
        assert_eq!(
            (third.status, &third.body["versions"][0]["id"]),
            (200, &json!("v3.0"))
        );
    }
    let volume = lab.volume("v", 1).await;
    let backup = lab.backed_up(&volume, "b").await;
    let path = format!("/v3/p/backups/{backup}");
    // Each version's keys beside those of all, and no other.
    let oldest = lab.at("3.0", "GET", &path, "").await;
    let oldest = keys(&oldest.body["backup"]);
    assert_eq!(oldest, BACKUP_KEYS);
    let later = ["metadata", "os-backup-project-attr:project_id", "user_id"];
    for (version, shown) in [
        ("3.17", &[][..]),
        ("3.18", &later[1..2]),
        ("3.42", &later[1..2]),
        ("3.43", &later[..2]),
        ("3.55", &later[..2]),
        ("3.56", &later[..]),
        ("3.66", &later[..]),
    ] {
        let answer = lab.at(version, "GET", &path, "").await;
        let header = &answer.headers["openstack-api-version"];
        assert_eq!(header, &format!("volume {version}"));
        assert_eq!(answer.headers["vary"], "OpenStack-API-Version");
        assert!(answer.headers["x-compute-request-id"].starts_with("req-"));
        let mut wanted: Vec<&str> = BACKUP_KEYS.iter().chain(shown).copied().collect();
        wanted.sort_unstable();
        assert_eq!(keys(&answer.body["backup"]), wanted, "{version}");
    }
    lab.at("3.99", "GET", &path, "")
        .await
        .fault(406, "computeFault");
    lab.at("nonsense", "GET", &path, "")
        .await
        .fault(400, "badRequest");
    // Without the header it is the oldest; before version 3 there are none.
    let oldest = lab.get(&path).await;
    assert_eq!(oldest.headers["openstack-api-version"], "volume 3.0");
    let second = lab.get(&path.replace("/v3/", "/v2/")).await;
    assert!(!second.headers.contains_key("openstack-api-version"));
    lab.stop().await;
}
