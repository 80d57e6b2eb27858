//! What a prune removes, what it leaves, and what makes it stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use stockpot_repository::{
    CreateOptions, Repository,
    forget::{self, Retention},
    prune::{PruneError, PruneSettings, UploadState, execute, plan},
    snapshots::{self, Status},
    store::{EndpointReport, MemoryStore, ObjectStore, PutMode, probe::Conditional},
};
use tokio_util::sync::CancellationToken;

use super::{
    gate::Lie,
    scene::{Scene, at_once},
};
use crate::{layer::Over, support::key};

fn packs(memory: &MemoryStore) -> u64 {
    let keys = memory.keys();
    keys.iter().filter(|key| key.starts_with("packs/")).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_forgotten_snapshots_needed_goes() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    for number in 2..6 {
        scene.up(number).await;
    }
    let all = packs(&memory);
    let nothing = scene.planned(PruneSettings::default()).await.unwrap();
    assert_eq!((nothing.to_delete.packs, nothing.snapshots), (0, 5));
    assert_eq!(nothing.kept.packs, all);
    // Retention takes the three in the middle by name, and leaves the first and the newest.
    let found = snapshots::list(&scene.bench.repository).await.unwrap();
    let names: Vec<String> = found
        .iter()
        .map(|s| s.snapshot_id.to_string())
        .filter(|id| *id != first.to_string())
        .collect();
    let retention = Retention {
        last: 1,
        ..Retention::default()
    };
    let now = jiff::Timestamp::now();
    let choices = forget::plan(&forget::items(&found), &retention, now);
    assert_eq!(choices.iter().filter(|c| c.stays()).count(), 1);
    let targets = forget::named(&scene.bench.repository, &found, &names[..3]).await;
    for target in targets.unwrap() {
        scene.delete(&target.snapshot_id).await;
    }
    let before = memory.keys();
    let dry = scene.planned(PruneSettings::default()).await.unwrap();
    assert_eq!(memory.keys(), before, "a plan writes nothing");
    assert!(dry.to_delete.packs >= 6, "{dry:?}");
    let report = execute(dry).await.unwrap();
    assert!(report.deleted.packs >= 6 && report.live_bytes > 0);
    assert!(report.live_bytes <= report.kept.bytes);
    assert_eq!(all - packs(&memory), report.deleted.packs);
    assert_eq!(scene.problems().await, 0);
    assert_eq!(scene.check_images().await, 2);
    scene.check_tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_fits_nothing_stops_before_anything_is_done() {
    let (scene, _) = Scene::in_memory().await;
    let first = scene.up(1).await.to_string();
    let found = snapshots::list(&scene.bench.repository).await.unwrap();
    let texts = [first.clone(), "snap-nowhere".to_owned()];
    let error = forget::named(&scene.bench.repository, &found, &texts).await;
    assert!(error.unwrap_err().to_string().contains("snap-nowhere"));
    // Named twice is once.
    let texts = [first.clone(), first];
    let targets = forget::named(&scene.bench.repository, &found, &texts).await;
    assert_eq!(targets.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_spared_until_it_is_given_up() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    scene.up(2).await;
    scene.dead_upload().await;
    // Its base has no other friend.
    let base = {
        let found = snapshots::list(&scene.bench.repository).await.unwrap();
        let committed = found.iter().filter(|s| s.status == Status::Committed);
        let newest = committed.max_by_key(|s| s.manifest.as_ref().map(|m| m.committed_at));
        newest.unwrap().snapshot_id.clone()
    };
    scene.delete(&base).await;
    let all = packs(&memory);
    assert_eq!(memory.open_uploads(), 1);
    let report = scene.pruned(PruneSettings::default()).await.unwrap();
    assert_eq!(report.deleted.packs, 0, "{report:?}");
    assert!(report.spared.packs > 0);
    assert_eq!((packs(&memory), memory.open_uploads()), (all, 1));
    let dead = scene.planned(at_once()).await.unwrap();
    let states: Vec<UploadState> = dead.uploads.iter().map(|u| u.state).collect();
    assert_eq!(states, [UploadState::Dead]);
    let report = execute(dead).await.unwrap();
    assert_eq!((report.given_up.len(), report.aborted_multiparts), (1, 1));
    assert!(report.deleted.packs > 0);
    assert_eq!(memory.open_uploads(), 0);
    let listed = snapshots::list(&scene.bench.repository).await.unwrap();
    assert!(listed.iter().any(|s| s.snapshot_id == first));
    assert_eq!(scene.check_images().await, 1);
    scene.check_tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_stops_it() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    scene.up(2).await;
    scene.delete(&first).await;
    scene.dead_upload().await;
    let doubtful = |key: &String| key.starts_with("snapshots/") || key.starts_with("intents/");
    let found = snapshots::list(&scene.bench.repository).await.unwrap();
    let manifest = found.iter().find_map(|s| s.manifest.clone()).unwrap();
    let list = manifest.pack_list.unwrap().pack.object_key();
    scene.pruned(PruneSettings::default()).await.unwrap();
    let seen = |key: &String| key.starts_with("seen/");
    let keys: Vec<String> = memory.keys();
    let keys = keys.into_iter().filter(|k| doubtful(k) || seen(k));
    for key in keys.chain([list]) {
        let good = memory.peek(&key).unwrap();
        for bad in [Bytes::from_static(b"{}"), good.slice(..good.len() / 2)] {
            memory.tamper(&key, Some(bad));
            let before = packs(&memory);
            // Also where it is a tombstone that an earlier prune saw: it may be one no longer.
            let error = scene.pruned(at_once()).await.unwrap_err();
            let PruneError::Unreadable { source } = &error else {
                panic!("{key}: {error:?}");
            };
            assert!(source.to_string().contains(&key), "{key}: {source}");
            assert_eq!(packs(&memory), before, "{key}");
        }
        memory.tamper(&key, Some(good));
    }
    assert_eq!(scene.problems().await, 0);
    scene.check_tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_vanished_stops_it_until_somebody_says_why() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    scene.up(2).await;
    scene.pruned(PruneSettings::default()).await.unwrap();
    let place = format!("snapshots/vol-1/{first}.json");
    let manifest = memory.peek(&place).unwrap();
    memory.tamper(&place, None);
    let before = packs(&memory);
    for settings in [PruneSettings::default(), at_once()] {
        let error = scene.pruned(settings).await.unwrap_err();
        let PruneError::Vanished { snapshot, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*snapshot, first);
    }
    assert_eq!(packs(&memory), before);
    // It was an accident, and is mended.
    memory.tamper(&place, Some(manifest));
    scene.pruned(at_once()).await.unwrap();
    assert_eq!(scene.check_images().await, 2);
    // It was meant, and is said.
    memory.tamper(&place, None);
    scene.forget_named(&first).await;
    let report = scene.pruned(at_once()).await.unwrap();
    assert!(report.deleted.packs > 0);
    assert_eq!(scene.check_images().await, 1);
    scene.check_tidy().await;
}

/// No prune ever saw the snapshot, but its packs are there. However old they are, that is no upload that died: one would have left
/// its intent.
#[tokio::test(flavor = "multi_thread")]
async fn packs_that_nothing_tells_of_stop_it_until_somebody_says_why() {
    let (scene, memory) = Scene::in_memory().await;
    scene.up(1).await;
    let second = scene.up(2).await;
    let place = format!("snapshots/vol-1/{second}.json");
    memory.tamper(&place, None);
    let before = packs(&memory);
    memory.set_clock_ahead_s(400 * 86_400);
    for settings in [PruneSettings::default(), at_once()] {
        let error = scene.pruned(settings).await.unwrap_err();
        let PruneError::Unaccounted {
            snapshot, others, ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!((snapshot, *others), (&second, 0));
    }
    assert_eq!(packs(&memory), before);
    scene.forget_named(&second).await;
    let report = scene.pruned(at_once()).await.unwrap();
    assert!(report.deleted.packs > 0);
    assert_eq!(scene.check_images().await, 1);
    scene.check_tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_leaves_something_out_stops_it() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    scene.up(2).await;
    scene.delete(&first).await;
    let before = packs(&memory);
    // Before it listed any intent, there was no snapshot.
    let empty = memory.keys();
    let hidden: Vec<(String, Bytes)> = empty
        .iter()
        .filter(|key| key.starts_with("snapshots/"))
        .map(|key| (key.clone(), memory.peek(key).unwrap()))
        .collect();
    let repository = scene.seen_by("prune", Some(Lie::SnapshotsFirst)).await;
    for (key, _) in &hidden {
        memory.tamper(key, None);
    }
    let prune = scene.prune("prune", &repository, at_once());
    assert!(scene.gate.run_until("prune", "list snapshots/").await);
    for (key, body) in hidden {
        memory.tamper(&key, Some(body));
    }
    scene.gate.run_out("prune").await;
    let error = prune.await.unwrap().unwrap_err();
    assert!(
        matches!(error, PruneError::ListingIncomplete { .. }),
        "{error:?}"
    );
    assert_eq!(packs(&memory), before);
    assert_eq!(scene.check_images().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_conditional_writes_there_is_no_prune() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let options = CreateOptions {
        key: Some(key()),
        endpoint: Some(EndpointReport {
            conditional_put: Conditional::Ignored,
            ..EndpointReport::complete()
        }),
        ..CreateOptions::default()
    };
    let (repository, _) = Repository::create(store, options).await.unwrap();
    let none = CancellationToken::new();
    let error = plan(&repository, &at_once(), &none).await.unwrap_err();
    assert!(matches!(error, PruneError::NotEnforced { .. }), "{error:?}");
}

/// A prune that holds this one for dead takes its list away at the worst moments: that says nothing of the endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_taken_away_between_two_writes_is_put_again() {
    let memory = MemoryStore::new();
    let store = super::blind::Taking(memory.clone(), AtomicUsize::new(0));
    let store = Arc::new(Over(store));
    let scene = Scene::new(store.clone()).await;
    let first = scene.up(1).await;
    scene.up(2).await;
    scene.delete(&first).await;
    let before = packs(&memory);
    store.0.1.store(2, Ordering::Relaxed);
    let report = scene.pruned(at_once()).await.unwrap();
    assert!(report.deleted.packs > 0, "{report:?}");
    assert_eq!(store.0.1.load(Ordering::Relaxed), 0);
    assert!(packs(&memory) < before);
    assert_eq!(scene.check_images().await, 1);
}

/// The repository was made where conditional writes are refused, and lies elsewhere now.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_a_second_write_is_found_out() {
    let memory = MemoryStore::new();
    let scene = Scene::new(Arc::new(Over(super::blind::Blind(memory.clone())))).await;
    let first = scene.up(1).await;
    scene.up(2).await;
    scene.delete(&first).await;
    let before = packs(&memory);
    let error = scene.pruned(at_once()).await.unwrap_err();
    assert!(matches!(error, PruneError::NotEnforced { .. }), "{error:?}");
    assert_eq!(packs(&memory), before);
    assert!(
        !memory
            .keys()
            .iter()
            .any(|key| key.starts_with("condemned/"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_pack_stays() {
    let (scene, memory) = Scene::in_memory().await;
    scene.up(1).await;
    for key in ["packs/README", "packs/vol-1/snap-1/notes.txt"] {
        let body = Bytes::from_static(b"not ours");
        memory.put(key, body, PutMode::Overwrite).await.unwrap();
    }
    let foreign = scene.planned(at_once()).await.unwrap();
    assert_eq!(foreign.foreign_objects, 2);
    let report = execute(foreign).await.unwrap();
    assert_eq!(report.deleted.packs, 0);
    assert!(memory.peek("packs/README").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_prune_takes_its_list_away() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    scene.up(2).await;
    scene.delete(&first).await;
    let cancel = CancellationToken::new();
    let settings = PruneSettings {
        give_up_after: Duration::from_hours(1),
        ..PruneSettings::default()
    };
    let planned = plan(&scene.bench.repository, &settings, &cancel).await;
    let planned = planned.unwrap();
    let before = packs(&memory);
    cancel.cancel();
    let error = execute(planned).await.unwrap_err();
    assert!(error.is_cancelled(), "{error:?}");
    assert_eq!(packs(&memory), before);
    assert!(
        !memory
            .keys()
            .iter()
            .any(|key| key.starts_with("condemned/"))
    );
}
