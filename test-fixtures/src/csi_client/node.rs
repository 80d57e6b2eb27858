//! The calls that a kubelet makes.

use std::{io::ErrorKind, path::Path, time::Duration};

use stockpot_proto::csi::v1 as csi;
use tonic::Request;

use super::{Access, CsiClient, CsiClientError, refused};

/// How long a node's call may take: a large file system is made or checked meanwhile.
const NODE_TIMEOUT: Duration = Duration::from_secs(120);

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(NODE_TIMEOUT);
    request
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl CsiClient {
    /// Attaches a volume and mounts its file system at `staging`, a directory that is made if it is not there.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn stage(
        &mut self,
        volume_id: &str,
        staging: &Path,
        access: &Access,
    ) -> Result<(), CsiClientError> {
        if let Err(error) = std::fs::create_dir_all(staging)
            && error.kind() != ErrorKind::AlreadyExists
        {
            let status = tonic::Status::internal(format!("{}: {error}", staging.display()));
            return Err(refused("NodeStageVolume")(status));
        }
        let request = csi::NodeStageVolumeRequest {
            volume_id: volume_id.to_owned(),
            staging_target_path: text(staging),
            volume_capability: Some(access.capability()),
            ..Default::default()
        };
        let answer = self.node.node_stage_volume(timed(request)).await;
        answer.map(drop).map_err(refused("NodeStageVolume"))
    }

    /// Shows a staged volume at `target`, whose parent has to be there.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn publish(
        &mut self,
        volume_id: &str,
        staging: &Path,
        target: &Path,
        access: &Access,
        read_only: bool,
    ) -> Result<(), CsiClientError> {
        let request = csi::NodePublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            staging_target_path: text(staging),
            target_path: text(target),
            volume_capability: Some(access.capability()),
            readonly: read_only,
            ..Default::default()
        };
        let answer = self.node.node_publish_volume(timed(request)).await;
        answer.map(drop).map_err(refused("NodePublishVolume"))
    }

    /// Takes a volume away from `target`, and removes that.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn unpublish(
        &mut self,
        volume_id: &str,
        target: &Path,
    ) -> Result<(), CsiClientError> {
        let request = csi::NodeUnpublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            target_path: text(target),
        };
        let answer = self.node.node_unpublish_volume(timed(request)).await;
        answer.map(drop).map_err(refused("NodeUnpublishVolume"))
    }

    /// Unmounts and detaches a volume.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn unstage(&mut self, volume_id: &str, staging: &Path) -> Result<(), CsiClientError> {
        let request = csi::NodeUnstageVolumeRequest {
            volume_id: volume_id.to_owned(),
            staging_target_path: text(staging),
        };
        let answer = self.node.node_unstage_volume(timed(request)).await;
        answer.map(drop).map_err(refused("NodeUnstageVolume"))
    }

    /// Grows the file system of a published volume to its device.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn expand_node(
        &mut self,
        volume_id: &str,
        target: &Path,
        size_bytes: u64,
    ) -> Result<u64, CsiClientError> {
        let request = csi::NodeExpandVolumeRequest {
            volume_id: volume_id.to_owned(),
            volume_path: text(target),
            capacity_range: Some(csi::CapacityRange {
                required_bytes: i64::try_from(size_bytes).unwrap_or(i64::MAX),
                limit_bytes: 0,
            }),
            ..Default::default()
        };
        let answer = self.node.node_expand_volume(timed(request)).await;
        let answer = answer.map_err(refused("NodeExpandVolume"))?;
        Ok(u64::try_from(answer.into_inner().capacity_bytes).unwrap_or(0))
    }

    /// How full a published volume is.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn stats(
        &mut self,
        volume_id: &str,
        target: &Path,
    ) -> Result<Vec<csi::VolumeUsage>, CsiClientError> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: volume_id.to_owned(),
            volume_path: text(target),
            ..Default::default()
        };
        let answer = self.node.node_get_volume_stats(timed(request)).await;
        answer
            .map(|answer| answer.into_inner().usage)
            .map_err(refused("NodeGetVolumeStats"))
    }
}
