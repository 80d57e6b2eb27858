//! Volumes that grow while they are mounted.

use stockpot_proto::csi::v1::{self as csi, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    MIB, Volume, XFS_SIZE, finish,
    support::{Bench, mounted},
    with_capability,
};

#[tokio::test]
async fn a_mounted_volume_grows() {
    let mut bench = Bench::start(true).await;
    for (name, fs, size) in [("a", "ext4", 64 * MIB), ("b", "xfs", XFS_SIZE)] {
        let capability = mounted(Mode::SingleNodeWriter, fs);
        let volume = Volume::make(&mut bench, with_capability(name, size, capability)).await;
        volume.up(&mut bench).await;
        let range = csi::CapacityRange {
            required_bytes: 2 * size,
            limit_bytes: 0,
        };
        let node_request = csi::NodeExpandVolumeRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            capacity_range: Some(range),
            ..Default::default()
        };
        let too_early = bench.node.node_expand_volume(node_request.clone()).await;
        assert_eq!(too_early.unwrap_err().code(), Code::Internal);
        let answer = bench
            .controller
            .controller_expand_volume(csi::ControllerExpandVolumeRequest {
                volume_id: volume.id.clone(),
                capacity_range: Some(range),
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (answer.capacity_bytes, answer.node_expansion_required),
            (2 * size, true)
        );
        bench.node.node_expand_volume(node_request).await.unwrap();
        let room = nix::sys::statvfs::statvfs(&volume.target).unwrap();
        let total = i64::try_from(room.blocks() * room.fragment_size()).unwrap();
        assert!(total > size * 3 / 2, "{fs}: {total}");
        volume.down(&mut bench).await;
    }
    finish(bench).await;
}
