//! Records of backups: from one catalog to another.

use serde_json::json;

use crate::lab::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_known_again_after_its_catalog_was_lost() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("source", 9).await;
    let backup = lab.backed_up(&volume, "nightly").await;
    let path = format!("/v3/p/backups/{backup}");
    let before = lab.until("backup", &backup, "available").await;
    let exported = lab.get(&format!("{path}/export_record")).await;
    assert_eq!(exported.status, 200, "{exported:?}");
    let record = exported.body;
    assert_eq!(record["backup-record"]["backup_service"], "stockpot");
    let known = lab.post("/v3/p/backups/import_record", &record).await;
    assert!(known.fault(400, "badRequest").contains("already exists"));
    lab.stop().await;
    world.forget_catalog().await;

    let lab = world.start().await;
    lab.get(&path).await.fault(404, "itemNotFound");
    let imported = lab.post("/v3/p/backups/import_record", &record).await;
    assert_eq!(imported.status, 201, "{imported:?}");
    assert_eq!(imported.body["backup"]["id"], json!(backup));
    assert_eq!(imported.body["backup"]["name"], "nightly");
    let after = lab.until("backup", &backup, "available").await;
    for same in [
        "volume_id",
        "size",
        "data_timestamp",
        "container",
        "name",
        "is_incremental",
        "os-backup-project-attr:project_id",
    ] {
        assert_eq!(after[same], before[same], "{same}");
    }
    let restored = lab
        .post(&format!("{path}/restore"), &json!({"restore": {}}))
        .await;
    let id = restored.body["restore"]["volume_id"].as_str().unwrap();
    world.assert_content(&lab.until("volume", id, "available").await, 9);
    // It can be deleted like any other; then there is nothing to import any more.
    assert_eq!(lab.delete(&path).await.status, 202);
    lab.get(&path).await.fault(404, "itemNotFound");
    let gone = lab.post("/v3/p/backups/import_record", &record).await;
    gone.fault(404, "itemNotFound");
    lab.stop().await;
    world.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_on_record_after_a_restart() {
    let world = World::new();
    let mut lab = world.start().await;
    let volume = lab.volume("source", 9).await;
    let backup = lab.backed_up(&volume, "nightly").await;
    let path = format!("/v3/p/backups/{backup}");
    let record = lab.get(&format!("{path}/export_record")).await.body;
    lab.stop().await;
    world.forget_catalog().await;
    let lab = world.start().await;
    let imported = lab.post("/v3/p/backups/import_record", &record).await;
    assert_eq!(imported.status, 201, "{imported:?}");
    lab.stop().await;
    let lab = world.start().await;
    lab.until("backup", &backup, "available").await;
    lab.stop().await;
}
