//! Volumes that are handed out as devices.

use std::{os::unix::fs::FileTypeExt, path::Path};

use stockpot_proto::csi::v1::{self as csi, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    MIB, Volume, finish,
    support::{Bench, block},
    with_capability,
};

#[tokio::test]
async fn a_block_volume_is_a_device() {
    let mut bench = Bench::start(true).await;
    let capability = block(Mode::SingleNodeWriter);
    let volume = Volume::make(&mut bench, with_capability("a", 8 * MIB, capability)).await;
    volume.up(&mut bench).await;
    volume.up(&mut bench).await;
    assert!(
        std::fs::metadata(&volume.target)
            .unwrap()
            .file_type()
            .is_block_device()
    );
    std::fs::write(&volume.target, "raw bytes").unwrap();
    let stats = bench
        .node
        .node_get_volume_stats(csi::NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(stats.into_inner().usage[0].total, 8 * MIB);
    // The same device cannot be writable for one and read-only for another.
    let read_only = volume.publish(&bench.path("second"), true);
    let refused = bench.node.node_publish_volume(read_only).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    // Nor is it taken from under its target.
    let refused = bench.node.node_unstage_volume(volume.unstage()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    std::fs::write(&volume.target, "raw bytes").unwrap();
    volume.down(&mut bench).await;
    assert!(
        std::fs::read(bench.manager.image(&volume.id))
            .unwrap()
            .starts_with(b"raw bytes")
    );

    bench.node.node_stage_volume(volume.stage()).await.unwrap();
    let read_only = volume.publish(&volume.target, true);
    bench.node.node_publish_volume(read_only).await.unwrap();
    assert_refuses_writes(&volume.target);
    volume.down(&mut bench).await;
    volume.up(&mut bench).await;
    volume.down(&mut bench).await;
    finish(bench).await;
}

fn assert_refuses_writes(device: &Path) {
    let refused = std::fs::write(device, "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(1), "{refused}");
}

/// A device that is published read-only stays so whatever is asked of it meanwhile.
#[tokio::test]
async fn a_block_volume_stays_read_only() {
    let mut bench = Bench::start(true).await;
    let modes = [Mode::SingleNodeWriter, Mode::SingleNodeReaderOnly];
    for (name, mode) in ["a", "b"].into_iter().zip(modes) {
        let request = with_capability(name, 8 * MIB, block(mode));
        let volume = Volume::make(&mut bench, request).await;
        bench.node.node_stage_volume(volume.stage()).await.unwrap();
        let publish = volume.publish(&volume.target, true);
        bench
            .node
            .node_publish_volume(publish.clone())
            .await
            .unwrap();
        // As the kubelet does after a restart.
        bench.restart_frontend().await;
        bench.node.node_stage_volume(volume.stage()).await.unwrap();
        assert_refuses_writes(&volume.target);
        bench
            .node
            .node_publish_volume(publish.clone())
            .await
            .unwrap();
        assert_refuses_writes(&volume.target);
        let range = csi::CapacityRange {
            required_bytes: 16 * MIB,
            limit_bytes: 0,
        };
        let grow = csi::ControllerExpandVolumeRequest {
            volume_id: volume.id.clone(),
            capacity_range: Some(range),
            ..Default::default()
        };
        bench
            .controller
            .controller_expand_volume(grow)
            .await
            .unwrap();
        let grown = csi::NodeExpandVolumeRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            capacity_range: Some(range),
            ..Default::default()
        };
        let answer = bench.node.node_expand_volume(grown).await.unwrap();
        assert_eq!(answer.into_inner().capacity_bytes, 16 * MIB);
        assert_refuses_writes(&volume.target);
        volume.down(&mut bench).await;
    }
    finish(bench).await;
}
