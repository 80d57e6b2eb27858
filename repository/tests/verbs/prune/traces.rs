//! For each rule of section 11 of the format, the order of steps that loses data without it. The steps are made with the real code on
//! real stores: once with every rule in place, and nothing is lost; once with a store that lies to one side so that its rule
//! does nothing, and a committed snapshot is broken. The second shows that the first can fail.

use stockpot_repository::{
    format::ids::{parse_snapshot_key, snapshot_key},
    prune::{PruneSettings, execute, plan},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    beds::{Bed, beds},
    gate::Lie,
    scene::{Pruned, Scene, at_once},
};

/// A prune whose plan was made while there was a tombstone in the place of the only snapshot's manifest, so that it condemns what that
/// reaches: as if the snapshot had adopted the packs of an attempt that was given up. It waits before its first request.
async fn late_prune(
    scene: &Scene,
    name: &'static str,
    lie: Option<Lie>,
    base: &str,
) -> JoinHandle<Pruned> {
    let manifest = scene.bench.store.get(base, usize::MAX).await.unwrap();
    let (_, snapshot) = parse_snapshot_key(base).unwrap();
    scene.delete(&snapshot).await;
    let repository = scene.seen_by(name, lie).await;
    let planning = scene.gate.spawn(name, async move {
        plan(&repository, &at_once(), &CancellationToken::new()).await
    });
    scene.gate.run_out(name).await;
    let planned = planning.await.unwrap().unwrap();
    assert!(planned.to_delete.packs > 0);
    scene.show(base, manifest).await;
    scene.gate.spawn(name, execute(planned))
}

/// Whatever the two said: is everything sound that is committed?
async fn outcome(scene: &Scene) -> bool {
    let is_sound = scene.problems().await == 0;
    if is_sound {
        scene.check_images().await;
        scene.check_tidy().await;
    }
    is_sound
}

/// The upload does not read the condemned lists.
async fn nocond(scene: &Scene, lie: Option<Lie>) {
    let first = scene.up(1).await;
    let base = snapshot_key(&Scene::volume(), &first);
    let uploader = scene.seen_by("up", lie).await;
    let prune = late_prune(scene, "prune", None, &base).await;
    let upload = scene.upload("up", &uploader, 2);
    let gate = &scene.gate;
    assert!(gate.run_until("up", "put intents/").await);
    assert!(gate.run_until("prune", "list snapshots/").await);
    assert!(gate.run_until("up", "put packs/").await);
    scene.delete(&first).await;
    assert!(gate.run_until("up", "create snapshots/").await);
    assert!(gate.run_until("prune", "delete packs/").await);
    gate.run_out("up").await;
    gate.run_out("prune").await;
    upload.await.unwrap().unwrap();
    prune.await.unwrap().unwrap();
}

/// The upload does not look again whether its base is still there.
async fn noget(scene: &Scene, lie: Option<Lie>) {
    let first = scene.up(1).await;
    let uploader = scene.seen_by("up", lie).await;
    let pruner = scene.seen_by("prune", None).await;
    let upload = scene.upload("up", &uploader, 2);
    let gate = &scene.gate;
    assert!(gate.run_until("up", "put intents/").await);
    scene.delete(&first).await;
    // One pack in a round: a base whose map can be read, and whose data is gone.
    let settings = PruneSettings {
        packs_per_round: 1,
        ..PruneSettings::default()
    };
    let prune = scene.prune("prune", &pruner, settings);
    assert!(gate.run_until("prune", "create condemned/").await);
    assert!(gate.run_until("prune", "list snapshots/").await);
    assert!(gate.run_until("up", "list condemned/").await);
    assert!(gate.run_until("prune", "delete packs/").await);
    assert!(gate.run_until("prune", "create condemned/").await);
    gate.run_out("up").await;
    gate.run_out("prune").await;
    upload.await.unwrap().unwrap();
    prune.await.unwrap().unwrap();
}

/// The prune removes the intent of an upload that it gives up without putting a tombstone first.
async fn nofence(scene: &Scene, lie: Option<Lie>) {
    let first = scene.up(1).await;
    let base = snapshot_key(&Scene::volume(), &first);
    let uploader = scene.seen_by("up", None).await;
    let prune = late_prune(scene, "prune", lie, &base).await;
    let upload = scene.upload("up", &uploader, 2);
    let gate = &scene.gate;
    assert!(gate.run_until("up", "create snapshots/").await);
    scene.delete(&first).await;
    assert!(gate.run_until("prune", "delete packs/").await);
    gate.run_out("up").await;
    gate.run_out("prune").await;
    let uploaded = upload.await.unwrap();
    assert_eq!(uploaded.is_ok(), lie.is_some(), "{uploaded:?}");
    prune.await.unwrap().unwrap();
}

/// The prune does not check that its own list is still there.
async fn noown(scene: &Scene, lie: Option<Lie>) {
    let first = scene.up(1).await;
    let base = snapshot_key(&Scene::volume(), &first);
    let uploader = scene.seen_by("up", None).await;
    let other = scene.seen_by("prune-2", None).await;
    let prune = late_prune(scene, "prune-1", lie, &base).await;
    let upload = scene.upload("up", &uploader, 2);
    let gate = &scene.gate;
    assert!(gate.run_until("up", "put intents/").await);
    assert!(gate.run_until("prune-1", "list snapshots/").await);
    assert!(gate.run_until("up", "list condemned/").await);
    let settings = PruneSettings {
        stale_after: at_once().stale_after,
        ..PruneSettings::default()
    };
    let second = scene.prune("prune-2", &other, settings);
    gate.run_out("prune-2").await;
    assert_eq!(second.await.unwrap().unwrap().removed_lists, 1);
    assert!(gate.run_until("up", "put packs/").await);
    scene.delete(&first).await;
    assert!(gate.run_until("up", "create snapshots/").await);
    // The list of snapshots, and the look at its own list.
    assert!(gate.run_until("prune-1", "delete packs/").await);
    gate.run_out("up").await;
    gate.run_out("prune-1").await;
    let (uploaded, pruned) = (upload.await.unwrap(), prune.await.unwrap());
    if lie.is_some() {
        uploaded.unwrap();
    } else {
        // It began anew, saw the upload, and gave it up: both is well, a broken commit is not.
        assert!(
            uploaded.is_err() && pruned.is_ok(),
            "{uploaded:?} {pruned:?}"
        );
    }
}

/// The prune lists the snapshots before the intents.
async fn manfirst(scene: &Scene, lie: Option<Lie>) {
    let first = scene.up(1).await;
    let base = snapshot_key(&Scene::volume(), &first);
    let uploader = scene.seen_by("up", None).await;
    let prune = late_prune(scene, "prune", lie, &base).await;
    let upload = scene.upload("up", &uploader, 2);
    let gate = &scene.gate;
    assert!(gate.run_until("up", "create snapshots/").await);
    scene.delete(&first).await;
    assert!(gate.run_until("prune", "list intents/").await);
    gate.run_out("up").await;
    gate.run_out("prune").await;
    upload.await.unwrap().unwrap();
    prune.await.unwrap().unwrap();
}

/// The upload's manifest replaces a tombstone.
async fn blindput(scene: &Scene, lie: Option<Lie>) {
    scene.up(1).await;
    let uploader = scene.seen_by("up", lie).await;
    let pruner = scene.seen_by("prune", None).await;
    let upload = scene.upload("up", &uploader, 2);
    let gate = &scene.gate;
    assert!(gate.run_until("up", "create snapshots/").await);
    let prune = scene.prune("prune", &pruner, at_once());
    assert!(gate.run_until("prune", "delete packs/").await);
    gate.run_out("up").await;
    gate.run_out("prune").await;
    let uploaded = upload.await.unwrap();
    assert_eq!(uploaded.is_ok(), lie.is_some(), "{uploaded:?}");
    prune.await.unwrap().unwrap();
}

async fn twice<F: Future<Output = ()>>(
    bed: &Bed,
    rule: &str,
    lie: Lie,
    steps: impl Fn(&'static Scene, Option<Lie>) -> F,
) {
    for lie in [None, Some(lie)] {
        let prefix = format!("{rule}-{}", lie.is_some());
        // A few of them, for as long as the test runs.
        let scene: &'static Scene = Box::leak(Box::new(Scene::new(bed.store(&prefix).await).await));
        steps(scene, lie).await;
        let is_sound = outcome(scene).await;
        match lie {
            None => assert!(is_sound, "{}: {rule}: data was lost", bed.name),
            Some(_) => assert!(!is_sound, "{}: {rule}: the rule is of no use", bed.name),
        }
        println!("{}: {rule}, {lie:?}: sound: {is_sound}", bed.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_saves_what_is_lost_without_it() {
    for bed in beds().await {
        twice(&bed, "nocond", Lie::NoCondemned, nocond).await;
        twice(&bed, "noget", Lie::OldRecords, noget).await;
        twice(&bed, "nofence", Lie::NoFence, nofence).await;
        twice(&bed, "noown", Lie::ListStays, noown).await;
        twice(&bed, "manfirst", Lie::SnapshotsFirst, manfirst).await;
        twice(&bed, "blindput", Lie::BlindPut, blindput).await;
    }
}
