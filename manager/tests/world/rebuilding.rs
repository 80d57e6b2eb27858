//! A catalog that was lost is made again, and all goes on as before.

use std::fs;

use stockpot_manager::{
    Manager,
    rebuild::{Options, Rebuilt, rebuild},
};
use stockpot_proto::stockpot::v1 as api;

use super::{SIZE, World, content, filled_volume};
use crate::lab::{self, Client};

fn made_again(world: &World, options: Options) -> Result<Rebuilt, String> {
    lab::unlocked(&world.config().state_dir);
    asked(world, options)
}

fn asked(world: &World, options: Options) -> Result<Rebuilt, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = world.config();
    let made = runtime.block_on(rebuild(&config, world.parts(), options));
    made.map_err(|error| stockpot_manager::error::chain(&error))
}

fn state(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.dir.path().join("state")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What is known of a volume, without the time.
async fn listed(client: &mut Client) -> Vec<(String, String, u64)> {
    let volumes = lab::volumes(client).await.into_iter();
    volumes
        .map(|v| (v.volume_id, v.name, v.size_bytes))
        .collect()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from a catalog to the next"
)]
fn all_that_was_known_is_known_again() {
    let world = World::new();
    let foreign = world.storage.make_foreign("old", SIZE);
    content().write_to(&foreign).unwrap();
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    let mut volumes = run.volumes();
    let (before, source, kept) = run.block_on(async {
        let source = filled_volume(&world, &mut client).await.volume_id;
        lab::adopt(&mut volumes, "fake/old", "adopted")
            .await
            .unwrap();
        let cut = lab::snapshot_of(&source, "both", "offsite");
        lab::ready_snapshot(&mut client, &cut).await.unwrap();
        let cut = lab::snapshot_of(&source, "local", "");
        let kept = lab::ready_snapshot(&mut client, &cut).await.unwrap();
        lab::backed_up(&mut backups, &source, "nightly", false).await;
        (listed(&mut client).await, source, kept.snapshot_id)
    });
    run.stop();
    world.forget_catalog();

    let plan = made_again(
        &world,
        Options {
            dry_run: true,
            ..Options::default()
        },
    )
    .unwrap();
    assert!(
        !plan.done && plan.volumes.len() == 2 && plan.snapshots.len() == 3,
        "{plan:?}"
    );
    assert_eq!(state(&world), ["lock"]);
    let made = made_again(&world, Options::default()).unwrap();
    assert!(made.done && made.aside.is_none());
    assert_eq!((made.volumes.len(), made.backups.len()), (2, 1));
    assert_eq!(state(&world), ["catalog.sqlite", "lock"]);

    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    let mut volumes = run.volumes();
    assert_eq!(format!("{:?}", run.findings(false)), "[]");
    run.block_on(async {
        assert_eq!(listed(&mut client).await, before);
        let mut names: Vec<_> = lab::list(&mut client)
            .await
            .into_iter()
            .map(|s| s.name)
            .collect();
        names.sort();
        assert_eq!(names[1..], ["both", "local"]);
        assert!(names[0].starts_with("bak-"), "{names:?}");
        // Asked again by its name, a volume is the same one.
        let again = lab::available_volume(&mut client, &lab::empty_volume("source", SIZE)).await;
        assert_eq!(again.unwrap().volume_id, source);
        let restored = lab::volume_from("copy", &kept, api::SourceCopy::Local);
        let restored = lab::available_volume(&mut client, &restored).await.unwrap();
        world.assert_content(&restored.volume_id);
        // The base of the next backup is found: only what changed is read.
        let attach = api::AttachVolumeRequest {
            volume_id: source.clone(),
            read_only: false,
            as_attached: false,
        };
        client.attach_volume(attach).await.unwrap();
        let next = lab::backed_up(&mut backups, &source, "next", true).await;
        assert_eq!(next.reason, "incremental", "{next:?}");
        world.assert_restores(&mut client, &next.snapshot_id).await;
        let found = backups
            .list_backups(api::ListBackupsRequest::default())
            .await;
        let found = found.unwrap().into_inner().backups;
        let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["nightly", "next"]);
        assert_eq!(
            lab::release(&mut volumes, "adopted").await.unwrap(),
            "fake/old"
        );
    });
    run.stop();
}

#[test]
fn a_sound_catalog_is_replaced_only_by_force() {
    let world = World::new();
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        let source = filled_volume(&world, &mut client).await.volume_id;
        lab::backed_up(&mut backups, &source, "nightly", false).await;
    });
    let error = asked(&world, Options::default()).unwrap_err();
    assert!(error.contains("in use by another process"), "{error}");
    run.stop();
    let error = made_again(&world, Options::default()).unwrap_err();
    assert!(
        error.contains("--force") && error.contains("catalog check"),
        "{error}"
    );
    let force = Options {
        force: true,
        ..Options::default()
    };
    let made = made_again(&world, force).unwrap();
    assert!(made.aside.unwrap().exists());
    let run = world.start();
    let mut backups = run.backups();
    // What only the catalog knew is known still: what a backup was called.
    run.block_on(async {
        let found = backups.get_backup(lab::backup("nightly")).await;
        assert_eq!(
            found.unwrap().into_inner().status(),
            api::BackupStatus::Available
        );
    });
    assert_eq!(format!("{:?}", run.findings(false)), "[]");
    run.stop();
}

#[test]
fn a_damaged_catalog_says_what_to_do_and_that_helps() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let id = run.block_on(async { filled_volume(&world, &mut client).await.volume_id });
    run.stop();
    // What holds it last writes the log of changes back.
    lab::unlocked(&world.config().state_dir);
    let path = world.dir.path().join("state/catalog.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0);
    fs::write(&path, bytes).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let opened = runtime.block_on(Manager::open(world.config(), world.parts()));
    let error = stockpot_manager::error::chain(&opened.unwrap_err());
    assert!(error.contains("stockpot catalog rebuild"), "{error}");
    let made = made_again(&world, Options::default()).unwrap();
    assert!(made.before.contains("cannot be used"), "{}", made.before);
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volumes = lab::volumes(&mut client).await;
        assert_eq!(
            (volumes[0].volume_id.as_str(), volumes[0].name.as_str()),
            (id.as_str(), "source")
        );
        world.assert_content(&id);
    });
    run.stop();
}

#[test]
fn what_cannot_be_asked_stops_it_unless_it_is_left_out() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let source = filled_volume(&world, &mut client).await.volume_id;
        let cut = lab::snapshot_of(&source, "s", "offsite");
        lab::ready_snapshot(&mut client, &cut).await.unwrap();
    });
    run.stop();
    world.forget_catalog();
    world.stores.set_out_of_reach(true);
    let error = made_again(&world, Options::default()).unwrap_err();
    assert!(error.contains("--skip-unreachable"), "{error}");
    assert_eq!(state(&world), ["lock"]);
    world.faults.break_call("remember");
    let error = made_again(&world, Options::default()).unwrap_err();
    assert!(error.contains("pool pool cannot be asked"), "{error}");
    world
        .faults
        .choose(u64::MAX, stockpot_manager::fakes::Fault::Fail);
    let skip = Options {
        skip_unreachable: true,
        ..Options::default()
    };
    let made = made_again(&world, skip).unwrap();
    assert_eq!((made.volumes.len(), made.snapshots.len()), (1, 1));
    assert!(
        made.remarks.iter().any(|remark| remark.contains("offsite")),
        "{:?}",
        made.remarks
    );
}

/// A volume that was made more than once on the way is called by its name all the same.
#[test]
fn a_restored_volume_keeps_its_name() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    let before = run.block_on(async {
        let source = filled_volume(&world, &mut client).await.volume_id;
        let cut = lab::snapshot_of(&source, "s", "offsite");
        let cut = lab::ready_snapshot(&mut client, &cut).await.unwrap();
        let request = lab::volume_from("copy", &cut.snapshot_id, api::SourceCopy::Cloud);
        lab::available_volume(&mut client, &request).await.unwrap();
        listed(&mut client).await
    });
    run.stop();
    world.forget_catalog();
    made_again(&world, Options::default()).unwrap();
    let run = world.start();
    let mut client = run.client();
    assert_eq!(run.block_on(listed(&mut client)), before);
    run.stop();
}
