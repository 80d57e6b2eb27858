//! Records that somebody took away past the rules: a tombstone, so that a snapshot is committed again, or a manifest in a
//! bucket that keeps it as an old version.

use std::sync::Arc;

use bytes::Bytes;
use stockpot_repository::{
    CreateOptions, Repository, RepositoryError, forget,
    format::ids::SnapshotId,
    prune::{PruneError, PruneSettings, execute},
    snapshots,
    store::MemoryStore,
};

use super::{
    scene::{Scene, at_once},
    versioned::Versioned,
};
use crate::{keeping::Keeping, layer::Over};

pub(super) fn below(memory: &MemoryStore, prefix: &str) -> Vec<String> {
    let keys = memory.keys().into_iter();
    keys.filter(|key| key.starts_with(prefix)).collect()
}

pub(super) fn record(snapshot: &SnapshotId) -> String {
    format!("snapshots/vol-1/{snapshot}.json")
}

/// Two snapshots of the same data, the first of which was deleted: all that it needs is there still, for the second one.
async fn one_deleted_of_two() -> (Scene, MemoryStore, SnapshotId, Bytes) {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    let second = scene.up(1).await;
    let manifest = memory.peek(&record(&first)).unwrap();
    // The list of the first one's packs lies in a pack that only it needs.
    let kept: Vec<(String, Bytes)> = below(&memory, "packs/")
        .into_iter()
        .map(|key| (key.clone(), memory.peek(&key).unwrap()))
        .collect();
    scene.delete(&first).await;
    scene.pruned(PruneSettings::default()).await.unwrap();
    for (key, body) in kept {
        if memory.peek(&key).is_none() {
            memory.tamper(&key, Some(body));
        }
    }
    scene.delete(&second).await;
    (scene, memory, first, manifest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_tombstone_is_taken_away_keeps_its_packs() {
    let (scene, memory, first, manifest) = one_deleted_of_two().await;
    memory.tamper(&record(&first), Some(manifest));
    let plan = scene.planned(at_once()).await.unwrap();
    assert_eq!(plan.snapshots, 1);
    let report = execute(plan).await.unwrap();
    assert!(report.kept.packs > 0, "{report:?}");
    assert_eq!((scene.problems().await, scene.check_images().await), (0, 1));
    // It is noted as committed from now on.
    scene.pruned(at_once()).await.unwrap();
    assert_eq!(scene.check_images().await, 1);
    scene.check_tidy().await;
}

/// A plan may be as old as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn also_where_it_is_taken_away_after_the_plan() {
    let (scene, memory, first, manifest) = one_deleted_of_two().await;
    let plan = scene.planned(at_once()).await.unwrap();
    assert!(plan.to_delete.packs > 0);
    memory.tamper(&record(&first), Some(manifest));
    execute(plan).await.unwrap();
    assert_eq!((scene.problems().await, scene.check_images().await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_pack_list_is_gone_as_well_stops_it_until_it_is_deleted_again() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    scene.up(2).await;
    let manifest = memory.peek(&record(&first)).unwrap();
    scene.delete(&first).await;
    scene.pruned(at_once()).await.unwrap();
    memory.tamper(&record(&first), Some(manifest));
    let before = below(&memory, "packs/");
    let error = scene.pruned(at_once()).await.unwrap_err();
    let PruneError::Returned { snapshot, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*snapshot, first);
    assert!(error.to_string().contains("stockpot forget"), "{error}");
    assert_eq!(below(&memory, "packs/"), before);
    scene.delete(&first).await;
    assert_eq!(scene.check_images().await, 1);
    scene.check_tidy().await;
}

/// A bucket with versions, two snapshots in it that no prune remembers, and the way to what is in sight.
pub(super) async fn with_versions(may_list: bool) -> (Scene, MemoryStore, [SnapshotId; 2]) {
    let memory = MemoryStore::new();
    let scene = Scene::new(Arc::new(Over(Versioned::over(&memory, may_list)))).await;
    let snapshots = [scene.up(1).await, scene.up(2).await];
    scene.pruned(PruneSettings::default()).await.unwrap();
    for key in below(&memory, "snapshots/") {
        scene.bench.store.delete(&key).await.unwrap();
    }
    for key in below(&memory, "seen/") {
        scene.bench.store.delete(&key).await.unwrap();
    }
    (scene, memory, snapshots)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_only_an_old_version_is_not_taken_for_an_upload_that_died() {
    let (scene, memory, [first, second]) = with_versions(true).await;
    // With something on top, as if to hide what is below.
    let store = &scene.bench.store;
    for snapshot in [&first, &second] {
        let key = record(snapshot);
        scene.show(&key, Bytes::from_static(b"coins")).await;
        store.delete(&key).await.unwrap();
    }
    let before = memory.keys();
    for settings in [PruneSettings::default(), at_once()] {
        let error = scene.pruned(settings).await.unwrap_err();
        assert!(matches!(error, PruneError::Vanished { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("--first-versions"), "{text}");
    }
    assert_eq!(memory.keys(), before, "no tombstone, and no pack is gone");
    // One is put back, the other one was meant.
    let versions = store.versions().unwrap().versions(&record(&first)).await;
    let manifest = versions.unwrap().pop().unwrap();
    let read =
        (store.versions().unwrap()).get_version(&manifest.key, &manifest.version_id, 1 << 20);
    let body = read.await.unwrap();
    memory.tamper(&record(&first), Some(body));
    let found = snapshots::list(&scene.bench.repository).await.unwrap();
    let named = forget::named(&scene.bench.repository, &found, &[second.to_string()]).await;
    for target in named.unwrap() {
        scene.delete(&target.snapshot_id).await;
    }
    let report = scene.pruned(at_once()).await.unwrap();
    assert!(report.deleted.packs > 0 && report.given_up.is_empty());
    assert_eq!(scene.check_images().await, 1);
    scene.check_tidy().await;
}

/// A snapshot of which nothing had changed has no pack of its own: nothing in sight tells of it when its manifest is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_only_an_old_version_is_missed_though_no_pack_is_its_own() {
    let memory = MemoryStore::new();
    let scene = Scene::new(Arc::new(Over(Versioned::over(&memory, true)))).await;
    let (first, second) = (scene.up(1).await, scene.up(1).await);
    assert_eq!(below(&memory, &format!("packs/vol-1/{second}/")), [""; 0]);
    scene.delete(&first).await;
    let plan = scene.planned(at_once()).await.unwrap();
    let packs = below(&memory, "packs/");
    let store = &scene.bench.store;
    for key in below(&memory, "seen/").into_iter().chain([record(&second)]) {
        store.delete(&key).await.unwrap();
    }
    // A plan may be as old as it likes, and new ones are made.
    let vanished = |error: PruneError| {
        assert!(
            matches!(&error, PruneError::Vanished { snapshot, .. } if *snapshot == second),
            "{error:?}"
        );
    };
    vanished(scene.planned(at_once()).await.unwrap_err());
    vanished(execute(plan).await.unwrap_err());
    assert_eq!(below(&memory, "packs/"), packs);
    // It was meant, and is said.
    scene.forget_named(&second).await;
    let report = scene.pruned(at_once()).await.unwrap();
    assert!(report.deleted.packs > 0, "{report:?}");
    assert_eq!(below(&memory, "packs/"), [""; 0]);
}

/// Who buries a manifest deep enough stops the prune as well, and verify says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_more_versions_than_are_read_stops_it() {
    let memory = MemoryStore::new();
    let scene = Scene::new(Arc::new(Over(Versioned::over(&memory, true)))).await;
    let (first, second) = (scene.up(1).await, scene.up(1).await);
    scene.delete(&first).await;
    for _ in 0..=1000 {
        scene
            .show(&record(&second), Bytes::from_static(b"coins"))
            .await;
    }
    scene.bench.store.delete(&record(&second)).await.unwrap();
    let packs = below(&memory, "packs/");
    let error = scene.pruned(at_once()).await.unwrap_err();
    assert!(
        matches!(
            error,
            PruneError::Repository(RepositoryError::TooMany { .. })
        ),
        "{error:?}"
    );
    assert_eq!(below(&memory, "packs/"), packs);
    let told = scene.told().await;
    let is_told = |text: &String| text.contains("more than 1000 versions");
    assert!(told.iter().any(is_told), "{told:?}");
}

/// Between the look at the records and the look at the intents: it is decided, and nothing is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_commits_while_it_is_given_up_is_kept() {
    let keeping = Keeping::default();
    let scene = Scene::new(Arc::new(Over(keeping.clone()))).await;
    scene.up(1).await;
    let dead = scene.dead_upload().await;
    let intents = below(&keeping.memory, "intents/");
    let intent = keeping.memory.peek(&intents[0]).unwrap();
    let plan = scene.planned(at_once()).await.unwrap();
    let repository = scene.seen_by("go-on", None).await;
    let going = scene.go_on("go-on", &repository, Some(dead));
    scene.gate.run_out("go-on").await;
    going.await.unwrap().unwrap();
    scene.show(&intents[0], intent).await;
    let report = execute(plan).await.unwrap();
    assert_eq!(report.given_up, []);
    assert_eq!(below(&keeping.memory, "intents/"), [""; 0]);
    assert_eq!((scene.problems().await, scene.check_images().await), (0, 2));
}

/// Deleted by us, and the tombstone taken out of sight: packs that nothing in sight tells of stop it until that is said again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_by_a_tombstone_that_is_an_old_version_is_deleted_again() {
    let (scene, memory, [first, second]) = with_versions(true).await;
    let store = &scene.bench.store;
    for snapshot in [&first, &second] {
        scene.delete(snapshot).await;
        store.delete(&record(snapshot)).await.unwrap();
    }
    let error = scene.pruned(at_once()).await.unwrap_err();
    assert!(
        matches!(error, PruneError::Unaccounted { others: 1, .. }),
        "{error:?}"
    );
    for snapshot in [&first, &second] {
        scene.forget_named(snapshot).await;
    }
    scene.pruned(at_once()).await.unwrap();
    assert_eq!(below(&memory, "packs/"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ended_where_the_credentials_may_not_look_below() {
    let (scene, memory, _) = with_versions(false).await;
    let before = memory.keys();
    let error = scene.pruned(at_once()).await.unwrap_err();
    assert!(
        matches!(error, PruneError::VersionsUnknown { .. }),
        "{error:?}"
    );
    assert_eq!(memory.keys(), before);
}

/// A new repository would come to lie over it, and hide it for good. Who may not look below cannot know.
#[tokio::test(flavor = "multi_thread")]
async fn no_repository_is_made_over_one_that_was_deleted() {
    for may_list in [true, false] {
        let (scene, memory, _) = with_versions(may_list).await;
        let store = scene.bench.store.clone();
        for key in memory.keys() {
            store.delete(&key).await.unwrap();
        }
        let made = Repository::open_or_create(store, CreateOptions::default()).await;
        let Err(error) = made else {
            assert!(!may_list, "it was made");
            continue;
        };
        assert!(may_list, "{error:?}");
        assert!(matches!(error, RepositoryError::Hidden { .. }), "{error:?}");
        assert!(error.to_string().contains("--first-versions"), "{error}");
        assert_eq!(memory.keys(), [""; 0]);
    }
}

/// Data alone: a prune reads pack lists only, and asks for what no listing named.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_needed_and_was_deleted_is_missed() {
    let (scene, memory) = Scene::in_memory().await;
    scene.up(1).await;
    assert_eq!(scene.planned(at_once()).await.unwrap().missing, []);
    let largest = below(&memory, "packs/")
        .into_iter()
        .max_by_key(|key| memory.peek(key).map(|pack| pack.len()));
    let largest = largest.unwrap();
    memory.tamper(&largest, None);
    let plan = scene.planned(at_once()).await.unwrap();
    let missing: Vec<String> = plan.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, [largest]);
}
