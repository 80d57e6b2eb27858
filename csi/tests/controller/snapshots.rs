//! Snapshots, and when they are ready.

use stockpot_proto::{
    csi::v1 as csi,
    stockpot::v1::{self as api, CopyState},
};
use tonic::Code;

use crate::{
    MIB, code, create_snapshot, snapshot,
    support::{Bench, create_volume},
    volume,
};

#[tokio::test]
async fn a_snapshot_is_ready_when_the_bucket_has_it() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("v", 4 * MIB)).await;
    let local = snapshot(&mut bench, create_snapshot("l", &source.volume_id, "")).await;
    assert!(local.ready_to_use);

    let request = create_snapshot("c", &source.volume_id, "offsite");
    let cut = snapshot(&mut bench, request.clone()).await;
    assert!(!cut.ready_to_use);
    assert_eq!(cut.size_bytes, 4 * MIB);
    let set = |bench: &Bench, change: &dyn Fn(&mut api::Snapshot)| {
        change(
            bench
                .manager
                .state()
                .snapshots
                .get_mut(&cut.snapshot_id)
                .unwrap(),
        );
    };
    set(&bench, &|s| s.set_cloud(CopyState::Present));
    set(&bench, &|s| s.ready = true);
    let ready = snapshot(&mut bench, request.clone()).await;
    assert!(ready.ready_to_use);
    assert_eq!(
        (ready.creation_time, ready.size_bytes),
        (cut.creation_time, cut.size_bytes)
    );

    set(&bench, &|s| s.ready = false);
    set(&bench, &|s| s.set_cloud(CopyState::Failed));
    set(&bench, &|s| s.error_code = 7);
    set(&bench, &|s| s.error = "access denied".to_owned());
    let failed = bench.controller.create_snapshot(request).await;
    assert_eq!(code(failed), Code::PermissionDenied);

    for id in [cut.snapshot_id.as_str(), "absent", "s3://not/an/id"] {
        let request = csi::DeleteSnapshotRequest {
            snapshot_id: id.to_owned(),
            ..Default::default()
        };
        bench.controller.delete_snapshot(request).await.unwrap();
    }
    assert_eq!(bench.manager.state().snapshots.len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn requests_that_make_no_snapshot() {
    let mut bench = Bench::start(false).await;
    let source = volume(&mut bench, create_volume("v", 4 * MIB)).await;
    snapshot(&mut bench, create_snapshot("l", &source.volume_id, "")).await;
    let other = volume(&mut bench, create_volume("v2", MIB)).await;
    let cases = [
        (
            create_snapshot("", &source.volume_id, ""),
            Code::InvalidArgument,
        ),
        (create_snapshot("n", "", ""), Code::InvalidArgument),
        (create_snapshot("n", "absent", ""), Code::NotFound),
        (create_snapshot("n", "NOT AN ID", ""), Code::NotFound),
        (
            create_snapshot("n", &source.volume_id, "nope"),
            Code::InvalidArgument,
        ),
        (
            create_snapshot("l", &other.volume_id, ""),
            Code::AlreadyExists,
        ),
    ];
    for (request, expected) in cases {
        let text = format!("{request:?}");
        assert_eq!(
            code(bench.controller.create_snapshot(request).await),
            expected,
            "{text}"
        );
    }
    assert_eq!(bench.manager.state().snapshots.len(), 1);
    bench.stop().await;
}
