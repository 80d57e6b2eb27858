//! Whose clock says that something is old: the store's, and as late as can be.

use std::sync::Arc;

use stockpot_repository::{
    Progress, RepositoryError,
    device::{Source, SourceOptions},
    format::ids::snapshot_key,
    prune::{PruneError, PruneSettings, UploadState, execute},
    upload::upload,
};
use tokio_util::sync::CancellationToken;

use super::scene::{Scene, image};

const DAY_S: i64 = 86_400;

/// To a wrong clock here, what was put a moment ago is a month old.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_by_this_machines_clock_alone_is_not_given_up() {
    let (scene, memory) = Scene::in_memory().await;
    memory.set_clock_ahead_s(-30 * DAY_S);
    let first = scene.up(1).await;
    scene.dead_upload().await;
    let planned = scene.planned(PruneSettings::default()).await.unwrap();
    let states: Vec<UploadState> = planned.uploads.iter().map(|upload| upload.state).collect();
    assert_eq!(states, [UploadState::UnderWay]);
    // Packs that nothing tells of.
    let key = snapshot_key(&Scene::volume(), &first);
    let manifest = scene.hide(&key).await;
    let error = scene.planned(PruneSettings::default()).await.unwrap_err();
    assert!(matches!(error, PruneError::Unaccounted { .. }), "{error:?}");
    scene.show(&key, manifest).await;
    assert_eq!(scene.check_images().await, 1);
}

/// The plan is from before the second attempt: its intent keeps the snapshot from being ended.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_plan_does_not_end_what_is_uploaded_again() {
    let (scene, memory) = Scene::in_memory().await;
    let id = scene.up(1).await;
    memory.tamper(&snapshot_key(&Scene::volume(), &id), None);
    memory.set_clock_ahead_s(8 * DAY_S);
    let planned = scene.planned(PruneSettings::default()).await.unwrap();
    assert_eq!(planned.abandoned, [(Scene::volume(), id.clone())]);

    let again = scene.seen_by("up", None).await;
    let mut request = scene.bench.request();
    request.snapshot_id = id.clone();
    let path = scene.bench.path("again.img");
    image(1).write_to(&path).unwrap();
    let uploading = scene.gate.spawn("up", async move {
        let source = Source::open(&path, SourceOptions::default())?;
        let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
        upload(&again, source, request, &progress, &none).await?;
        Ok::<(), RepositoryError>(())
    });
    assert!(scene.gate.run_until("up", "create snapshots/").await);
    let report = execute(planned).await.unwrap();
    assert_eq!(report.given_up, []);
    scene.gate.run_out("up").await;
    uploading.await.unwrap().unwrap();
    assert_eq!(scene.check_images().await, 1);
    scene.check_tidy().await;
}
