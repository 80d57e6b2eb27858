//! Whose clock says that something is old: the store's, and as late as can be.

use stockpot_repository::prune::{PruneSettings, UploadState};

use super::scene::Scene;

const DAY_S: i64 = 86_400;

/// To a wrong clock here, what was put a moment ago is a month old.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_by_this_machines_clock_alone_is_not_given_up() {
    let (scene, memory) = Scene::in_memory().await;
    memory.set_clock_ahead_s(-30 * DAY_S);
    scene.up(1).await;
    scene.dead_upload().await;
    let planned = scene.planned(PruneSettings::default()).await.unwrap();
    let states: Vec<UploadState> = planned.uploads.iter().map(|upload| upload.state).collect();
    assert_eq!(states, [UploadState::UnderWay]);
    assert_eq!(scene.check_images().await, 1);
}
