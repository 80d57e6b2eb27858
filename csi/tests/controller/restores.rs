//! Volumes made from snapshots: what takes longer than the caller waits.

use std::time::{Duration, Instant};

use stockpot_proto::{csi::v1::volume_content_source::Type as Content, stockpot::v1::VolumeStatus};
use tonic::{Code, Request};

use crate::{
    MIB, code, create_snapshot, from_snapshot, snapshot,
    support::{Bench, create_volume},
    volume,
};

#[tokio::test]
async fn a_restore_goes_on_behind_the_caller() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("v", 4 * MIB)).await;
    let cut = snapshot(&mut bench, create_snapshot("s", &source.volume_id, "")).await;
    bench.manager.state().restores_hang = true;

    let mut request = Request::new(from_snapshot("r", &cut.snapshot_id, 0));
    request.set_timeout(Duration::from_secs(1));
    let started = Instant::now();
    let answer = bench.controller.create_volume(request).await;
    assert_eq!(code(answer), Code::Aborted);
    assert!(started.elapsed() < Duration::from_secs(1));

    let restored = {
        let mut state = bench.manager.state();
        let restored = state.volumes.values_mut().find(|v| v.name == "r").unwrap();
        restored.set_status(VolumeStatus::Available);
        restored.volume_id.clone()
    };
    let found = volume(&mut bench, from_snapshot("r", &cut.snapshot_id, 0)).await;
    assert_eq!(found.volume_id, restored);
    assert_eq!(found.capacity_bytes, 4 * MIB);
    let source = found.content_source.unwrap().r#type.unwrap();
    assert!(matches!(source, Content::Snapshot(s) if s.snapshot_id == cut.snapshot_id));

    let small = bench
        .controller
        .create_volume(from_snapshot("x", &cut.snapshot_id, MIB))
        .await;
    assert_eq!(code(small), Code::OutOfRange);

    // One that was given up: its own code and words reach the caller.
    {
        let mut state = bench.manager.state();
        let failed = state.volumes.values_mut().find(|v| v.name == "r").unwrap();
        failed.set_status(VolumeStatus::Error);
        failed.error = "a chunk is damaged".to_owned();
        failed.error_code = 15;
    }
    let answer = bench
        .controller
        .create_volume(from_snapshot("r", &cut.snapshot_id, 0))
        .await;
    assert_eq!(code(answer), Code::DataLoss);
    bench.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_restore() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("v", 4 * MIB)).await;
    let cut = snapshot(&mut bench, create_snapshot("s", &source.volume_id, "")).await;
    bench.manager.state().restores_hang = true;
    let mut controller = bench.controller.clone();
    let mut request = Request::new(from_snapshot("r", &cut.snapshot_id, 0));
    request.set_timeout(Duration::from_secs(60));
    let waiting = tokio::spawn(async move { controller.create_volume(request).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    bench.stop_frontend().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
    bench.stop().await;
}
