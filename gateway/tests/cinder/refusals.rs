//! What cannot be meant is refused in Cinder's words, and leaves nothing.

use serde_json::{Value, json};

use crate::lab::World;

/// Bodies that are refused with 400 wherever they are sent.
const NONSENSE: [&str; 9] = [
    "",
    "{",
    "null",
    "[]",
    "7",
    "\"text\"",
    "{}",
    r#"{"backup": null, "volume": null, "snapshot": null, "backup-record": null}"#,
    r#"{"backup": [], "volume": [], "snapshot": [], "restore": [], "backup-record": []}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_none() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("v", 1).await;
    let backup = lab.backed_up(&volume, "b").await;
    for path in [
        "/v2/p/backups".to_owned(),
        "/v3/p/backups".to_owned(),
        "/v3/p/backups/import_record".to_owned(),
        "/v3/p/volumes".to_owned(),
        "/v3/p/snapshots".to_owned(),
        format!("/v3/p/backups/{backup}/restore"),
        format!("/v3/p/backups/{backup}/action"),
        format!("/v3/p/volumes/{volume}/action"),
    ] {
        for body in NONSENSE {
            let answer = lab.send("POST", &path, &[], body).await;
            answer.fault(400, "badRequest");
        }
    }
    for body in NONSENSE {
        let path = format!("/v3/p/backups/{backup}");
        lab.at("3.43", "PUT", &path, body)
            .await
            .fault(400, "badRequest");
    }
    assert_eq!(count(&lab.get("/v3/p/backups").await.body), 1);
    assert_eq!(count(&lab.get("/v3/p/volumes").await.body), 1);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn requests_that_do_not_fit() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("v", 1).await;
    let long = "x".repeat(256);
    let cases = [
        ("backups", "backup", json!({}), 400),
        ("backups", "backup", json!({"volume_id": ""}), 400),
        ("backups", "backup", json!({"volume_id": 7}), 400),
        ("backups", "backup", json!({"volume_id": null}), 400),
        ("backups", "backup", json!({"volume_id": "nobody"}), 404),
        ("backups", "backup", json!({"volume_id": "../../etc"}), 404),
        ("backups", "backup", json!({"volume_id": long}), 400),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "name": long}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "description": long}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "name": 1}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "name": "a", "display_name": "b"}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "force": "perhaps"}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "incremental": true}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "unknown": 1}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "metadata": {"k": 1}}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "metadata": {"": "v"}}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "metadata": {"k": long}}),
            400,
        ),
        (
            "backups",
            "backup",
            json!({"volume_id": volume, "availability_zone": "moon"}),
            400,
        ),
        ("volumes", "volume", json!({}), 400),
        ("volumes", "volume", json!({"size": 0}), 400),
        ("volumes", "volume", json!({"size": -1}), 400),
        ("volumes", "volume", json!({"size": 1.5}), 400),
        ("volumes", "volume", json!({"size": "large"}), 400),
        (
            "volumes",
            "volume",
            json!({"size": 99_999_999_999_u64}),
            400,
        ),
        (
            "volumes",
            "volume",
            json!({"size": 1, "volume_type": "nobody"}),
            404,
        ),
        (
            "volumes",
            "volume",
            json!({"size": 1, "imageRef": "cirros"}),
            400,
        ),
        (
            "volumes",
            "volume",
            json!({"size": 1, "multiattach": true}),
            400,
        ),
        (
            "volumes",
            "volume",
            json!({"size": 1, "group_id": "g"}),
            400,
        ),
        ("volumes", "volume", json!({"source_volid": "nobody"}), 404),
        ("volumes", "volume", json!({"snapshot_id": "nobody"}), 404),
        (
            "volumes",
            "volume",
            json!({"snapshot_id": "a", "source_volid": volume}),
            400,
        ),
        ("snapshots", "snapshot", json!({}), 400),
        ("snapshots", "snapshot", json!({"volume_id": "nobody"}), 404),
        (
            "snapshots",
            "snapshot",
            json!({"volume_id": volume, "force": "perhaps"}),
            400,
        ),
        (
            "snapshots",
            "snapshot",
            json!({"volume_id": volume, "profile": "p"}),
            400,
        ),
    ];
    for (collection, key, body, status) in cases {
        for api in ["v2", "v3"] {
            let path = format!("/{api}/p/{collection}");
            let answer = lab.post(&path, &json!({key: body})).await;
            let fault = if status == 400 {
                "badRequest"
            } else {
                "itemNotFound"
            };
            assert_eq!(answer.status, status, "{body}: {answer:?}");
            answer.fault(status, fault);
        }
    }
    let flat = lab
        .post("/v3/p/backups", &json!({"volume_id": volume}))
        .await;
    flat.fault(400, "badRequest");
    assert_eq!(count(&lab.get("/v3/p/backups").await.body), 0);
    assert_eq!(count(&lab.get("/v3/p/volumes").await.body), 1);
    assert_eq!(count(&lab.get("/v3/p/snapshots").await.body), 0);
    lab.stop().await;
    world.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_none() {
    let world = World::new();
    let lab = world.start().await;
    for (service, url, status) in [
        ("cinder.backup.drivers.swift", "e30=", 400),
        ("stockpot", "", 400),
        ("stockpot", "no base64", 400),
        ("stockpot", "e30=", 400),
        // {"format":1,"backup_id":"../x","name":"","snapshot_id":"x","location":"","metadata":{}}
        (
            "stockpot",
            "eyJmb3JtYXQiOjEsImJhY2t1cF9pZCI6Ii4uL3giLCJuYW1lIjoiIiwic25hcHNob3RfaWQiOiJ4IiwibG9jYXRpb24iOiIiLCJtZXRhZGF0YSI6e319",
            400,
        ),
    ] {
        let body = json!({"backup-record": {"backup_service": service, "backup_url": url}});
        let answer = lab.post("/v3/p/backups/import_record", &body).await;
        assert_eq!(answer.status, status, "{url}: {answer:?}");
    }
    assert_eq!(count(&lab.get("/v3/p/backups").await.body), 0);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_are_none() {
    let world = World::new();
    let lab = world.start().await;
    for path in [
        "/v3/p/types",
        "/v3/p",
        "/v3/p/backups/nobody",
        "/v3/p/backups/nobody/export_record",
        "/v3/p/volumes/nobody",
        "/v3/p/snapshots/snap-01jd0000000000000000000000",
        "/v3/p/backups/0193c2a4-0000-4000-8000-000000000000",
        "/v3/p/volumes/0193c2a4-0000-4000-8000-000000000000",
        "/v3/p/snapshots/0193c2a40000400080000000000000ff",
        "/v3/p/backups/%2e%2e",
        "/v2/p/backups/a%00b",
    ] {
        lab.get(path).await.fault(404, "itemNotFound");
    }
    lab.get("/v3/p/backups/%ff").await.fault(400, "badRequest");
    lab.send("PATCH", "/v3/p/backups", &[], "")
        .await
        .fault(405, "badMethod");
    for path in ["/v3/p/backups/nobody", "/v3/p/volumes/nobody"] {
        lab.delete(path).await.fault(404, "itemNotFound");
    }
    for path in [
        "backups/nobody/action",
        "volumes/nobody/action",
        "snapshots/nobody/action",
    ] {
        let answer = lab
            .post(&format!("/v3/p/{path}"), &json!({"os-reset_status": {}}))
            .await;
        answer.fault(404, "itemNotFound");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_answer_is_not_the_callers_fault() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("v", 1).await;
    world.set_out_of_reach(true);
    let body = json!({"backup": {"volume_id": volume, "name": "n"}});
    let answer = lab.post("/v3/p/backups", &body).await;
    answer.fault(503, "serviceUnavailable");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(count(&lab.get("/v3/p/backups").await.body), 0);
    world.set_out_of_reach(false);
    lab.stop().await;
}

fn count(body: &Value) -> usize {
    let lists = body.as_object().unwrap().values();
    lists.filter_map(Value::as_array).map(Vec::len).sum()
}
