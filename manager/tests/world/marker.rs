//! Somebody deletes the marker of a repository, or all of it, while a manager has it open.

use stockpot_proto::stockpot::v1::{self as api, BackupStatus};
use tonic::Code;

use super::{World, backups::begin};
use crate::lab;

const MARKER: &str = "repository.json";

fn repositories(found: &[api::CatalogFinding]) -> Vec<&api::CatalogFinding> {
    found.iter().filter(|f| f.what == "repository").collect()
}

#[test]
fn nothing_is_sent_where_the_marker_is_gone() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        lab::backed_up(&mut backups, &volume, "first", false).await;
        let marker = world.stores.peek(MARKER).unwrap();
        world.stores.tamper(MARKER, None);
        let before = world.stores.content();
        // The first one finds it out.
        lab::back_up(&mut backups, &volume, "b", false)
            .await
            .unwrap();
        let failed = lab::cleaned(&mut backups, "b").await;
        assert_eq!(failed.status(), BackupStatus::Error, "{failed:?}");
        assert!(
            failed.error.contains("put repository.json back"),
            "{failed:?}"
        );
        // The next one is not begun.
        let refused = lab::back_up(&mut backups, &volume, "c", false).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(
            refused.message().contains("put repository.json back"),
            "{refused}"
        );
        assert_eq!(world.stores.content(), before);
        world.stores.tamper(MARKER, Some(&marker));
        let done = lab::backed_up(&mut backups, &volume, "d", false).await;
        world.assert_restores(&mut client, &done.snapshot_id).await;
    });
    run.stop();
}

#[test]
fn a_check_finds_that_the_marker_is_gone() {
    let world = World::new();
    let (run, _client, mut backups, volume) = begin(&world, false);
    run.block_on(lab::backed_up(&mut backups, &volume, "first", false));
    assert!(run.findings(false).is_empty());
    let marker = world.stores.peek(MARKER).unwrap();
    world.stores.tamper(MARKER, None);
    // While it is open, and after that.
    for _ in 0..2 {
        let found = run.findings(false);
        let [found] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (found.r#where.as_str(), found.what.as_str(), found.passing),
            ("bucket", "repository", false)
        );
        assert!(found.text.contains("put repository.json back"), "{found:?}");
    }
    world.stores.tamper(MARKER, Some(&marker));
    assert!(run.findings(false).is_empty());
    run.stop();
}

/// A tombstone would keep everybody from making a repository there again.
#[test]
fn nothing_is_deleted_where_all_is_gone_and_the_next_backup_makes_a_repository() {
    let world = World::new();
    let (run, mut client, mut backups, volume) = begin(&world, false);
    run.block_on(async {
        lab::backed_up(&mut backups, &volume, "first", false).await;
        for key in world.stores.content().0 {
            world.stores.tamper(&key, None);
        }
        let refused = backups.delete_backup(lab::backup("first")).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("marker"), "{refused}");
        assert_eq!(world.stores.content(), (Vec::new(), 0));
    });
    let found = run.findings(false);
    let found = repositories(&found);
    assert!(
        matches!(found[..], [one] if one.text.contains("is empty now")),
        "{found:?}"
    );
    run.block_on(async {
        let done = lab::backed_up(&mut backups, &volume, "again", false).await;
        world.assert_restores(&mut client, &done.snapshot_id).await;
    });
    run.stop();
}
