//! The catalog is deleted, and made again from LVM and the bucket; a check finds what was done by hand.

use stockpot_manager::{
    Parts,
    rebuild::{Options, rebuild},
};
use stockpot_proto::stockpot::v1 as api;

use super::{Kind, World, assert_holds, content, filled_volume, run};
use crate::lab;

fn words(found: &[api::CatalogFinding]) -> Vec<String> {
    let word = |f: &api::CatalogFinding| format!("{} {} {}", f.r#where, f.kind, f.what);
    found.iter().map(word).collect()
}

fn made_again(kind: Kind) {
    let world = World::new(kind);
    let manager = world.start();
    let (mut client, mut backups) = (manager.client(), manager.backups());
    let image = content(3);
    let volume = manager.block_on(async {
        let volume = filled_volume(&mut client, &image).await;
        super::attach(&mut client, &volume.volume_id).await;
        lab::backed_up(&mut backups, &volume.volume_id, "first", true).await;
        lab::cleaned(&mut backups, "first").await;
        super::detach(&mut client, &volume.volume_id).await;
        volume
    });
    manager.stop();
    world.forget_catalog();
    let config = world.config();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let made = rebuild(&config, Parts::new(&config).unwrap(), Options::default());
    let made = runtime.block_on(made).unwrap();
    assert_eq!(
        (made.volumes.len(), made.snapshots.len(), made.backups.len()),
        (1, 1, 1)
    );
    drop(runtime);
    let manager = world.start();
    let (mut client, mut backups) = (manager.client(), manager.backups());
    assert_eq!(format!("{:?}", manager.findings(false)), "[]");
    manager.block_on(async {
        let found = lab::volumes(&mut client).await;
        assert_eq!(
            (found[0].volume_id.clone(), found[0].name.as_str()),
            (volume.volume_id.clone(), "source")
        );
        assert_holds(&mut client, &volume.volume_id, &image).await;
        super::attach(&mut client, &volume.volume_id).await;
        let next = lab::backed_up(&mut backups, &volume.volume_id, "next", true).await;
        assert_eq!(next.reason, "incremental", "{next:?}");
        lab::cleaned(&mut backups, "next").await;
        super::detach(&mut client, &volume.volume_id).await;
        let copy = lab::volume_from("copy", &next.snapshot_id, api::SourceCopy::Cloud);
        let copy = lab::available_volume(&mut client, &copy).await.unwrap();
        assert_holds(&mut client, &copy.volume_id, &image).await;
        for id in [&copy.volume_id, &volume.volume_id] {
            lab::delete_volume(&mut client, id).await.unwrap();
        }
    });
    manager.stop();
    world.close();
}

#[test]
fn a_catalog_of_thin_volumes_is_made_again() {
    made_again(Kind::LvmThin);
}

#[test]
fn a_catalog_of_thick_volumes_is_made_again() {
    made_again(Kind::LvmThick);
}

#[test]
fn a_check_finds_what_was_done_by_hand() {
    let world = World::new(Kind::LvmThin);
    let manager = world.start();
    let mut client = manager.client();
    let vg = world.volume_group().to_owned();
    let lost = manager.block_on(async {
        let request = lab::empty_volume("lost", 8 << 20);
        lab::available_volume(&mut client, &request)
            .await
            .unwrap()
            .volume_id
    });
    assert_eq!(format!("{:?}", manager.findings(false)), "[]");
    let name = |id: &str| format!("{vg}/stockpot.v.{}", id.replace('-', "."));
    // One of ours goes, and one that nobody knows comes.
    run(
        "lvrename",
        &[
            &vg,
            name(&lost).split('/').next_back().unwrap(),
            "stockpot.v.planted",
        ],
    );
    let planted = format!("{vg}/stockpot.v.planted");
    let (old, new) = (
        format!("stockpot.id={lost}"),
        "stockpot.id=planted".to_owned(),
    );
    run("lvchange", &["--deltag", &old, "--addtag", &new, &planted]);
    let found = manager.findings(true);
    assert_eq!(
        words(&found),
        ["storage missing volume", "storage unknown volume"]
    );
    assert_eq!(
        (found[0].id.as_str(), found[1].id.as_str()),
        (lost.as_str(), "planted")
    );
    // The advice is good: it comes on record by its name in LVM.
    assert!(found[1].advice.contains(&planted), "{}", found[1].advice);
    let mut volumes = manager.volumes();
    manager.block_on(async {
        let back = lab::adopt(&mut volumes, &planted, "back").await.unwrap();
        assert_eq!(back.volume_id, "planted");
        lab::delete_volume(&mut client, "planted").await.unwrap();
        lab::delete_volume(&mut client, &lost).await.unwrap();
    });
    assert_eq!(format!("{:?}", manager.findings(false)), "[]");
    manager.stop();
    world.close();
}
