//! What a verify says of snapshots whose records somebody took away.

use std::sync::Arc;

use stockpot_repository::{
    Progress,
    format::ids::SnapshotId,
    prune::PruneSettings,
    verify::{VerifySettings, verify},
};
use tokio_util::sync::CancellationToken;

use super::{
    robbed::{below, record, with_versions},
    scene::Scene,
};

/// The problems, as text.
async fn said(scene: &Scene, only: Option<&[SnapshotId]>) -> Vec<String> {
    let settings = VerifySettings::default();
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let report = verify(&scene.bench.repository, only, &settings, &progress, &none).await;
    let problems = report.unwrap().problems.into_iter();
    problems.map(|problem| problem.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_packs_are_there_is_missed_until_it_is_given_up() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    let second = scene.up(2).await;
    memory.tamper(&record(&first), None);
    let problems = said(&scene, None).await;
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    for word in [
        first.as_str(),
        "neither a record nor an upload",
        "stockpot forget",
    ] {
        assert!(problem.contains(word), "{problem}");
    }
    // Whoever asks for one is told of that one.
    assert_eq!(said(&scene, Some(&[second])).await, [""; 0]);
    scene.forget_named(&first).await;
    assert_eq!(said(&scene, None).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_or_dead_is_not_missed() {
    let (scene, memory) = Scene::in_memory().await;
    scene.up(1).await;
    let dead = scene.dead_upload().await;
    assert_eq!(said(&scene, None).await, [""; 0]);
    for intent in below(&memory, "intents/") {
        memory.tamper(&intent, None);
    }
    let problems = said(&scene, None).await;
    assert!(
        problems.len() == 1 && problems[0].contains(dead.as_str()),
        "{problems:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_prune_saw_is_missed_without_its_packs_as_well() {
    let (scene, memory) = Scene::in_memory().await;
    let first = scene.up(1).await;
    scene.pruned(PruneSettings::default()).await.unwrap();
    memory.tamper(&record(&first), None);
    for pack in below(&memory, "packs/") {
        memory.tamper(&pack, None);
    }
    let problems = said(&scene, None).await;
    assert!(
        problems.len() == 1 && problems[0].contains("seen by a prune"),
        "{problems:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_old_versions_are_kept_it_is_said_how_the_record_comes_back() {
    for may_list in [true, false] {
        let (scene, memory, [first, second]) = with_versions(may_list).await;
        let problems = said(&scene, None).await;
        assert_eq!(problems.len(), 2, "{problems:?}");
        let word = match may_list {
            true => "--first-versions",
            false => "cannot be seen",
        };
        for id in [&first, &second] {
            let of_it = |problem: &&String| problem.contains(id.as_str());
            let problem = problems.iter().find(of_it).unwrap();
            assert!(problem.contains(word), "{problem}");
        }
        // Without any pack in sight an old version tells of them.
        for pack in below(&memory, "packs/") {
            memory.tamper(&pack, None);
        }
        let expected = if may_list { 2 } else { 0 };
        assert_eq!(said(&scene, None).await.len(), expected);
    }
}
