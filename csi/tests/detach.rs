//! What unstaging makes of a manager that did not let go of the device.

#![expect(
    clippy::unwrap_used,
    reason = "helpers fail as the test that calls them"
)]

#[expect(dead_code, reason = "shared with the tests of both services")]
mod support;

use stockpot_proto::csi::v1 as csi;
use support::{Bench, create_volume};
use tonic::Code;

/// Whatever the manager says: a volume that is still attached is not unstaged.
#[tokio::test]
async fn what_is_not_detached_is_not_unstaged() {
    let mut bench = Bench::start(false).await;
    let request = create_volume("a", 1 << 20);
    let made = bench.controller.create_volume(request).await.unwrap();
    let unstage = csi::NodeUnstageVolumeRequest {
        volume_id: made.into_inner().volume.unwrap().volume_id,
        staging_target_path: bench.path("staging").display().to_string(),
    };
    for code in [Code::NotFound, Code::Internal, Code::FailedPrecondition] {
        bench.manager.state().detach_fails = Some(code);
        let refused = bench.node.node_unstage_volume(unstage.clone()).await;
        assert_eq!(refused.unwrap_err().code(), code);
    }
    bench.manager.state().detach_fails = None;
    bench.node.node_unstage_volume(unstage).await.unwrap();
    bench.stop().await;
}
