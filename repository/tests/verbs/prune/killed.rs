//! A prune that is killed at any of its requests: nothing that is needed is gone, and the next one finishes its work.

use stockpot_repository::RepositoryError;

use super::{
    beds::Bed,
    scene::{Scene, at_once},
};

/// Kills a prune before its request number `at`; `false` if it ended before.
async fn kill_at(at: usize) -> bool {
    let scene = Scene::new(Bed::memory().store("").await).await;
    let first = scene.up(1).await;
    scene.up(2).await;
    scene.delete(&first).await;
    scene.dead_upload().await;
    let repository = scene.seen_by("prune", None).await;
    let prune = scene.prune("prune", &repository, at_once());
    let mut done = 0;
    let was_killed = loop {
        let waiting = scene.gate.waiting().await;
        let Some((name, what)) = waiting.first() else {
            break false;
        };
        if done == at {
            scene.gate.kill("prune");
            break true;
        }
        scene.gate.grant(name, what);
        done += 1;
    };
    let pruned = prune.await.unwrap();
    assert_eq!(pruned.is_err(), was_killed, "{pruned:?}");
    assert_eq!(scene.problems().await, 0);
    assert_eq!(scene.check_images().await, 1);
    scene.check_tidy().await;
    assert_eq!(scene.check_images().await, 1);
    was_killed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_prune_is_carried_on_by_the_next() {
    let mut at = 0;
    while kill_at(at).await {
        at += 1;
    }
    assert!(at > 20, "only {at} requests");
}

/// Whose snapshot is given up while it goes on with packs of an earlier attempt learns that, not that a pack is missing.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_given_up_says_so() {
    let scene = Scene::new(Bed::memory().store("").await).await;
    scene.up(1).await;
    let dead = scene.dead_upload().await;
    let repository = scene.seen_by("go-on", None).await;
    let going = scene.go_on("go-on", &repository, Some(dead));
    // It makes sure of the packs that it adopted.
    assert!(scene.gate.run_until("go-on", "head packs/").await);
    scene.check_tidy().await;
    scene.gate.run_out("go-on").await;
    let error = going.await.unwrap().unwrap_err();
    assert!(
        matches!(error, RepositoryError::Deleted { .. }),
        "{error:?}"
    );
    scene.check_tidy().await;
    assert_eq!(scene.check_images().await, 1);
}
