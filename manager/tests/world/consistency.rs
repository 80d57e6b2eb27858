//! What is on record against what is there.

use stockpot_proto::stockpot::v1::{self as api, catalog_service_client::CatalogServiceClient};
use tonic::transport::Channel;

use super::{SIZE, World, filled_volume};
use crate::lab::{self, Run};

/// So many things are attached, and a check finds nothing but what passes by itself.
pub(super) async fn assert_explained(
    catalog: &mut CatalogServiceClient<Channel>,
    when: &str,
    attachments: usize,
) {
    let checked = catalog.check_catalog(api::CheckCatalogRequest { local_only: true });
    let checked = checked.await.unwrap().into_inner();
    let counted = format!(" {attachments} attachments ");
    assert!(
        checked.looked_at.iter().any(|line| line.contains(&counted)),
        "{when}: {:?}",
        checked.looked_at
    );
    let findings = checked.findings;
    assert!(
        findings.iter().all(|found| found.passing),
        "{when}: {findings:?}"
    );
}

/// Where, how and what, of each finding.
fn words(found: &[api::CatalogFinding]) -> Vec<String> {
    let word = |f: &api::CatalogFinding| format!("{} {} {}", f.r#where, f.kind, f.what);
    found.iter().map(word).collect()
}

#[test]
fn nothing_is_found_where_all_is_as_it_should_be() {
    let world = World::new();
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let cut = lab::snapshot_of(&volume, "s", "offsite");
        lab::ready_snapshot(&mut client, &cut).await.unwrap();
        let attach = api::AttachVolumeRequest {
            volume_id: volume.clone(),
            read_only: false,
            as_attached: false,
        };
        client.attach_volume(attach).await.unwrap();
        lab::back_up(&mut backups, &volume, "b", true)
            .await
            .unwrap();
        lab::cleaned(&mut backups, "b").await;
    });
    assert_eq!(words(&run.findings(false)), [""; 0]);
    run.stop();
}

#[test]
fn what_is_lost_and_what_is_unknown_in_the_storage_is_found() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let id = run.block_on(async {
        let request = lab::empty_volume("lost", SIZE);
        let volume = lab::available_volume(&mut client, &request).await.unwrap();
        volume.volume_id
    });
    world.storage.lose_volume(&id.parse().unwrap());
    world
        .storage
        .plant_volume(&"vol-planted".parse().unwrap(), SIZE);
    let found = run.findings(true);
    assert_eq!(
        words(&found),
        ["storage missing volume", "storage unknown volume"]
    );
    assert_eq!(
        (found[0].id.as_str(), found[1].id.as_str()),
        (id.as_str(), "vol-planted")
    );
    assert!(
        found
            .iter()
            .all(|f| !f.passing && !f.text.is_empty() && !f.advice.is_empty())
    );
    // Nothing was changed, and the advice is good.
    run.block_on(async {
        lab::delete_volume(&mut client, "vol-planted")
            .await
            .unwrap();
        lab::delete_volume(&mut client, &id).await.unwrap();
    });
    assert!(run.findings(false).is_empty());
    run.stop();
}

/// A second manager, which knows nothing, removes a cloud copy.
fn delete_elsewhere(world: &World, snapshot: &str) {
    let mut config = world.config();
    config.state_dir = world.dir.path().join("elsewhere");
    let run = Run::start(config, world.parts());
    let mut client = run.client();
    run.block_on(async {
        let request = api::DeleteSnapshotRequest {
            snapshot_id: snapshot.to_owned(),
            only: Some(api::delete_snapshot_request::Only::CloudOnly(true)),
        };
        client.delete_snapshot(request).await.unwrap();
    });
    run.stop();
}

#[test]
fn a_cloud_copy_that_was_deleted_is_found_and_a_silent_bucket_is() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let snapshot = run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let cut = lab::snapshot_of(&volume, "s", "offsite");
        lab::ready_snapshot(&mut client, &cut)
            .await
            .unwrap()
            .snapshot_id
    });
    run.stop();
    delete_elsewhere(&world, &snapshot);
    let run = world.start();
    let found = run.findings(false);
    assert_eq!(words(&found), ["bucket missing cloud copy"]);
    assert_eq!(found[0].id, snapshot);
    assert!(found[0].text.contains("deleted"), "{}", found[0].text);
    assert!(run.findings(true).is_empty());
    world.stores.set_out_of_reach(true);
    let found = run.findings(false);
    assert_eq!(words(&found), ["bucket missing repository"]);
    assert!(found[0].passing);
    world.stores.set_out_of_reach(false);
    run.stop();
}
