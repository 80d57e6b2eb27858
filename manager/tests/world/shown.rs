//! What a copy shows stands in the bucket: who has nothing but that knows it, and so does a catalog that is made again.

use std::collections::BTreeMap;

use stockpot_manager::rebuild::{Options, rebuild};
use stockpot_proto::stockpot::v1 as api;

use super::backups::{attach, begin};
use crate::{
    lab::{self, Client, Run},
    world::World,
};

const WORD: &str = "stockpot.consistency";
const TEXT: &str = "stockpot.consistency_text";

async fn in_bucket(client: &mut Client, id: &str) -> BTreeMap<String, String> {
    let snapshot_id = id.to_owned();
    let found = client.get_snapshot(api::GetSnapshotRequest { snapshot_id });
    found
        .await
        .unwrap()
        .into_inner()
        .metadata
        .into_iter()
        .collect()
}

fn begin_again(world: &World) -> (Run, Client) {
    let run = world.start();
    let client = run.client();
    (run, client)
}

/// Copies of all kinds, by what they show.
fn copies(world: &World) -> Vec<(String, &'static str)> {
    let (run, mut client, mut backups, volume) = begin(world, false);
    let (unused, idle) = run.block_on(async {
        let unused = lab::backed_up(&mut backups, &volume, "unused", false).await;
        // Cut while nobody uses it, and backed up when somebody does.
        let idle = lab::cut(&mut client, &lab::snapshot_of(&volume, "idle", "")).await;
        client.attach_volume(attach(&volume)).await.unwrap();
        (unused.snapshot_id, idle.snapshot_id)
    });
    let (kept, in_use, asked, killed) = run.block_on(async {
        let kept_of = |name: &str, snapshot_id: &str| api::CreateBackupRequest {
            name: name.to_owned(),
            snapshot_id: snapshot_id.to_owned(),
            ..Default::default()
        };
        let begun = backups.create_backup(kept_of("kept", &idle)).await;
        let idle_shows = lab::ended(&mut backups, "kept").await.consistency;
        assert!(!idle_shows.is_empty(), "it is taken over from the snapshot");
        let kept = begun.unwrap().into_inner().snapshot_id;
        let in_use = lab::backed_up(&mut backups, &volume, "in-use", true).await;
        assert_eq!(in_use.consistency, "crash");
        let mut request = lab::snapshot_of(&volume, "asked", "offsite");
        // Callers do not say what is shown.
        request.metadata = [(WORD, "perfect"), ("note", "mine")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let asked = lab::ready_snapshot(&mut client, &request).await.unwrap();
        // Its upload is not through when the manager is killed.
        world.faults.hold_call("put");
        let request = lab::snapshot_of(&volume, "killed", "offsite");
        let killed = lab::cut(&mut client, &request).await;
        world.faults.happened().await;
        (
            kept,
            in_use.snapshot_id,
            asked.snapshot_id,
            killed.snapshot_id,
        )
    });
    run.kill();
    world.faults.clear();
    let (run, mut client) = begin_again(world);
    run.block_on(async {
        let request = lab::snapshot_of(&volume, "killed", "offsite");
        lab::ready_snapshot(&mut client, &request).await.unwrap();
    });
    run.stop();
    vec![
        (unused, "unused"),
        (kept, "unused"),
        (in_use, "crash"),
        (asked, "crash"),
        (killed, "crash"),
    ]
}

#[test]
fn what_each_copy_shows_is_known_from_the_bucket_alone() {
    let world = World::new();
    let copies = copies(&world);
    world.forget_catalog();
    let (run, mut client) = begin_again(&world);
    run.block_on(async {
        for (id, shows) in &copies {
            let metadata = in_bucket(&mut client, id).await;
            assert_eq!(metadata[WORD], *shows, "{id}: {metadata:?}");
            assert!(!metadata[TEXT].is_empty(), "{metadata:?}");
        }
        let asked = in_bucket(&mut client, &copies[3].0).await;
        assert_eq!(asked["note"], "mine");
    });
    run.stop();

    world.forget_catalog();
    lab::unlocked(&world.config().state_dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = world.config();
    let made = rebuild(&config, world.parts(), Options::default());
    runtime.block_on(made).unwrap();
    let (run, mut client) = begin_again(&world);
    let mut backups = run.backups();
    run.block_on(async {
        let all = backups.list_backups(api::ListBackupsRequest::default());
        let all = all.await.unwrap().into_inner().backups;
        assert_eq!(all.len(), 3, "{all:?}");
        for backup in all {
            let (_, shows) = copies
                .iter()
                .find(|(id, _)| *id == backup.snapshot_id)
                .unwrap();
            assert_eq!(backup.consistency, *shows, "{backup:?}");
            assert!(!backup.consistency_text.is_empty(), "{backup:?}");
            assert!(!backup.metadata.contains_key(WORD), "{backup:?}");
        }
        let asked = in_bucket(&mut client, &copies[3].0).await;
        assert_eq!(asked["note"], "mine");
    });
    run.stop();
}
