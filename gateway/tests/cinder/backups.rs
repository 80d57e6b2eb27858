//! Backups from asking for one to its end.

use serde_json::json;

use crate::lab::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_request_of_the_text_on_an_attached_volume() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("database", 1).await;
    lab.attach(&volume).await;
    let mut body = json!({
        "backup": {
            "display_name": "nightly001",
            "display_description": "Nightly backup",
            "volume_id": volume,
            "container": "nightlybackups",
            "force": false,
        }
    });
    // By default it is refused, and nothing is left of it.
    let refused = lab.post("/v2/tenant/backups", &body).await;
    let message = refused.fault(400, "badRequest");
    assert!(message.starts_with("Invalid volume: "), "{message}");
    assert!(message.contains("force"), "{message}");
    let none = lab.get("/v2/tenant/backups").await;
    assert_eq!(none.body, json!({"backups": []}));
    body["backup"]["force"] = json!(true);
    let begun = lab.post("/v2/tenant/backups", &body).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let summary = &begun.body["backup"];
    assert_eq!(summary["name"], "nightly001");
    let id = summary["id"].as_str().unwrap();
    assert_eq!(id.len(), 36, "{id} is no UUID");
    let links = json!([
        {"rel": "self", "href": format!("http://cinder.example:8776/v2/tenant/backups/{id}")},
        {"rel": "bookmark", "href": format!("http://cinder.example:8776/tenant/backups/{id}")},
    ]);
    assert_eq!(summary["links"], links);
    assert_eq!(summary.as_object().unwrap().len(), 3);
    let backup = lab.until("backup", id, "available").await;
    assert_eq!(backup["description"], "Nightly backup");
    assert_eq!(backup["container"], "nightlybackups");
    assert_eq!(backup["volume_id"], json!(lab.shown(&volume).await));
    assert_eq!(backup["size"], 1);
    assert_eq!(backup["is_incremental"], false);
    assert_eq!(backup["fail_reason"], json!(null));
    assert_eq!(backup["os-backup-project-attr:project_id"], "tenant");
    for moment in ["created_at", "updated_at", "data_timestamp"] {
        assert_eq!(backup[moment].as_str().unwrap().len(), 26, "{backup}");
    }
    let of_volume = lab.get(&format!("/v2/tenant/volumes/{volume}")).await;
    assert_eq!(of_volume.body["volume"]["status"], "in-use");
    assert_eq!(of_volume.body["volume"]["name"], "database");
    lab.stop().await;
    world.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_nobody_uses_shows_what_is_done_with_it() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("quiet", 1).await;
    let first = lab.backed_up(&volume, "first").await;
    // What python-cinderclient sends, with its nulls.
    let body = json!({"backup": {
        "volume_id": volume, "container": null, "name": null, "description": null,
        "incremental": false, "force": false, "snapshot_id": null, "metadata": {"k": "v"},
    }});
    world.faults.hold_call("put");
    let begun = lab
        .at("3.43", "POST", "/v3/p/backups", &body.to_string())
        .await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let id = begun.body["backup"]["id"].as_str().unwrap().to_owned();
    assert_eq!(begun.body["backup"]["name"], json!(null));
    world.faults.happened().await;
    lab.until("volume", &volume, "backing-up").await;
    let path = format!("/v3/p/backups/{id}");
    let backup = &lab.get(&path).await.body["backup"];
    assert_eq!(backup["status"], "creating");
    // It is neither to be deleted nor to be restored now, and the volume not to be deleted.
    lab.delete(&path).await.fault(400, "badRequest");
    let restore = lab
        .post(&format!("{path}/restore"), &json!({"restore": {}}))
        .await;
    let message = restore.fault(400, "badRequest");
    assert_eq!(message, "Invalid backup: Backup status must be available");
    let gone = lab.delete(&format!("/v3/p/volumes/{volume}")).await;
    assert!(gone.fault(400, "badRequest").contains("backing-up"));
    world.faults.clear();
    let backup = lab.until("backup", &id, "available").await;
    assert_eq!(backup["is_incremental"], true, "{backup}");
    assert_eq!(backup["metadata"], json!({"k": "v"}));
    assert_eq!(backup["container"], "offsite");
    lab.until("volume", &volume, "available").await;
    // Each goes by itself.
    for id in [first, id] {
        let path = format!("/v3/p/backups/{id}");
        let deleted = lab.delete(&path).await;
        assert_eq!((deleted.status, deleted.body), (202, json!(null)));
        let message = format!("Backup {id} could not be found.");
        assert_eq!(lab.get(&path).await.fault(404, "itemNotFound"), message);
        lab.delete(&path).await.fault(404, "itemNotFound");
    }
    lab.stop().await;
    world.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn force_delete_gives_up_what_is_under_way() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("quiet", 1).await;
    lab.backed_up(&volume, "first").await;
    world.faults.hold_call("put");
    let body = json!({"backup": {"volume_id": volume}});
    let begun = lab.post("/v3/p/backups", &body).await;
    let id = begun.body["backup"]["id"].as_str().unwrap();
    world.faults.happened().await;
    let path = format!("/v3/p/backups/{id}/action");
    let refused = lab
        .post(&path, &json!({"os-reset_status": {"status": "available"}}))
        .await;
    assert!(refused.fault(400, "badRequest").contains("os-reset_status"));
    let body = json!({"os-force_delete": null});
    let deleting = lab.post(&path, &body);
    let freeing = async {
        // What is under way is given up; the bucket has to be told, and answers again.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        world.faults.clear();
    };
    let (deleted, ()) = tokio::join!(deleting, freeing);
    assert_eq!(deleted.status, 202, "{deleted:?}");
    let path = format!("/v3/p/backups/{id}");
    lab.get(&path).await.fault(404, "itemNotFound");
    lab.until("volume", &volume, "available").await;
    lab.stop().await;
    world.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_profiles_and_words() {
    let world = World::new();
    world.add_profile("elsewhere", "weekly");
    let mut lab = world.start().await;
    let volume = lab.volume("quiet", 1).await;
    let ask = |more: serde_json::Value| {
        let mut backup = json!({"volume_id": volume});
        backup
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"backup": backup})
    };
    // An increment of nothing.
    let none = lab
        .post(
            "/v3/p/backups",
            &ask(json!({"incremental": "True", "container": "offsite"})),
        )
        .await;
    assert!(
        none.fault(400, "badRequest")
            .contains("No backups available")
    );
    // Two profiles, and neither is named.
    let which = lab
        .post("/v3/p/backups", &ask(json!({"container": "nobody's"})))
        .await;
    let message = which.fault(400, "badRequest");
    assert!(message.contains("elsewhere, offsite"), "{message}");
    for (container, incremental) in [("elsewhere", false), ("weekly", true)] {
        let body = ask(json!({"container": container, "incremental": incremental}));
        let begun = lab.post("/v3/p/backups", &body).await;
        let id = begun.body["backup"]["id"].as_str().unwrap();
        let backup = lab.until("backup", id, "available").await;
        assert_eq!(backup["container"], container);
        assert_eq!(backup["is_incremental"], incremental, "{backup}");
        let path = format!("/v3/p/backups/{id}");
        // Words change, each by itself.
        let early = lab
            .at("3.8", "PUT", &path, r#"{"backup": {"name": "x"}}"#)
            .await;
        early.fault(404, "itemNotFound");
        let body = r#"{"backup": {"name": "renamed", "metadata": {"a": "b"}}}"#;
        let renamed = lab.at("3.43", "PUT", &path, body).await;
        assert_eq!(renamed.status, 200, "{renamed:?}");
        assert_eq!(renamed.body["backup"]["name"], "renamed");
        let body = r#"{"backup": {"description": "d"}}"#;
        lab.at("3.43", "PUT", &path, body).await;
        let backup = lab.until("backup", id, "available").await;
        assert_eq!(backup["name"], "renamed");
        assert_eq!(backup["description"], "d");
        assert_eq!(backup["metadata"], json!({"a": "b"}));
        assert_eq!(backup["container"], container);
        let nothing = lab.at("3.43", "PUT", &path, r#"{"backup": {}}"#).await;
        nothing.fault(400, "badRequest");
    }
    // What the other repository has is nothing to build on.
    let body = ask(json!({"container": "offsite", "incremental": true}));
    let none = lab.post("/v3/p/backups", &body).await;
    let message = none.fault(400, "badRequest");
    assert!(message.contains("No backups available"), "{message}");
    lab.stop().await;
}
