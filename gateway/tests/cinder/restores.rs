//! Volumes from backups.

use serde_json::json;

use crate::lab::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_volume_by_both_ways() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("source", 7).await;
    let backup = lab.backed_up(&volume, "b").await;
    let path = format!("/v3/p/backups/{backup}/restore");
    // What python-cinderclient sends.
    let body = json!({"restore": {"volume_id": null, "name": null}});
    world.faults.hold_call("create_volume");
    let begun = lab.post(&path, &body).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let restore = &begun.body["restore"];
    assert_eq!(restore["backup_id"], json!(backup));
    assert_eq!(restore["volume_name"], format!("restore_backup_{backup}"));
    let id = restore["volume_id"].as_str().unwrap();
    world.faults.happened().await;
    lab.until("backup", &backup, "restoring").await;
    let new = lab.until("volume", id, "restoring-backup").await;
    assert_eq!(new["snapshot_id"], json!(null));
    lab.delete(&format!("/v3/p/backups/{backup}"))
        .await
        .fault(400, "badRequest");
    world.faults.clear();
    let new = lab.until("volume", id, "available").await;
    assert_eq!(new["name"], format!("restore_backup_{backup}"));
    world.assert_content(&new, 7);
    lab.until("backup", &backup, "available").await;
    let named = lab
        .post(&path, &json!({"restore": {"name": "again"}}))
        .await;
    let id = named.body["restore"]["volume_id"].as_str().unwrap();
    assert_eq!(named.body["restore"]["volume_name"], "again");
    world.assert_content(&lab.until("volume", id, "available").await, 7);
    // From 3.47 on a volume is made from a backup like from a snapshot.
    let body = json!({"volume": {"name": "third", "backup_id": backup}}).to_string();
    let early = lab.at("3.46", "POST", "/v3/p/volumes", &body).await;
    assert!(early.fault(400, "badRequest").contains("3.47"));
    let third = lab.at("3.47", "POST", "/v3/p/volumes", &body).await;
    assert_eq!(third.status, 202, "{third:?}");
    let id = third.body["volume"]["id"].as_str().unwrap();
    world.assert_content(&lab.until("volume", id, "available").await, 7);
    lab.stop().await;
    world.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn into_a_volume_that_is_there() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("source", 7).await;
    let backup = lab.backed_up(&volume, "b").await;
    world.fill(&volume, 8);
    let path = format!("/v3/p/backups/{backup}/restore");
    let shown = lab.shown(&volume).await;
    let body = json!({"restore": {"volume_id": shown}});
    // Not while somebody uses it.
    lab.attach(&volume).await;
    let refused = lab.post(&path, &body).await;
    let message = refused.fault(400, "badRequest");
    assert!(message.contains("must be available"), "{message}");
    lab.detach(&volume).await;
    let begun = lab.post(&path, &body).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let restore = &begun.body["restore"];
    assert_eq!(restore["volume_id"], json!(shown));
    assert_eq!(restore["volume_name"], "source");
    let filled = lab.until("volume", &shown, "available").await;
    world.assert_content(&filled, 7);
    let nobody = lab
        .post(&path, &json!({"restore": {"volume_id": "nobody"}}))
        .await;
    nobody.fault(404, "itemNotFound");
    lab.stop().await;
    world.assert_tidy();
}
