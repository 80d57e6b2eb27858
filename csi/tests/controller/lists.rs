//! Lists: by pages, and by what is asked.

use stockpot_proto::csi::v1 as csi;
use tonic::Code;

use crate::{
    MIB, code, create_snapshot, snapshot,
    support::{Bench, create_volume},
    volume,
};

#[tokio::test]
async fn lists_page_by_page() {
    let mut bench = Bench::start(false).await;
    for i in 0..5 {
        volume(&mut bench, create_volume(&format!("v{i}"), MIB)).await;
    }
    let mut seen = Vec::new();
    let mut request = csi::ListVolumesRequest {
        max_entries: 4,
        ..Default::default()
    };
    loop {
        let page = bench
            .controller
            .list_volumes(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(page.entries.len() <= 4);
        seen.extend(
            page.entries
                .into_iter()
                .map(|e| e.volume.unwrap().volume_id),
        );
        if page.next_token.is_empty() {
            break;
        }
        request.starting_token = page.next_token;
    }
    assert_eq!(seen.len(), 5);
    request.starting_token = "no-such-token".to_owned();
    assert_eq!(
        code(bench.controller.list_volumes(request.clone()).await),
        Code::Aborted
    );
    request.max_entries = -1;
    assert_eq!(
        code(bench.controller.list_volumes(request).await),
        Code::InvalidArgument
    );
    bench.stop().await;
}

#[tokio::test]
async fn lists_snapshots_by_what_is_asked() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("s", MIB)).await.volume_id;
    for i in 0..3 {
        snapshot(&mut bench, create_snapshot(&format!("s{i}"), &source, "")).await;
    }
    let list = |snapshot_id: &str, source_volume_id: &str| csi::ListSnapshotsRequest {
        snapshot_id: snapshot_id.to_owned(),
        source_volume_id: source_volume_id.to_owned(),
        ..Default::default()
    };
    for (request, count) in [
        (list("", ""), 3),
        (list("", &source), 3),
        (list("absent", ""), 0),
        (list("NOT AN ID", ""), 0),
        (list("", "vol-n1-9"), 0),
    ] {
        let page = bench
            .controller
            .list_snapshots(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(page.entries.len(), count);
    }
    let bad = csi::ListSnapshotsRequest {
        starting_token: "x".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        code(bench.controller.list_snapshots(bad).await),
        Code::Aborted
    );
    bench.stop().await;
}
