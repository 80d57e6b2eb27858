//! How full a volume is.

use std::path::Path;

use stockpot_proto::csi::v1::{
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, VolumeUsage, volume_usage::Unit,
};

use super::NodeError;
use crate::{
    manager::Manager,
    mount::{self, Device, MountTable},
    request::{self, RequestError},
};

/// Bytes and inodes of a mounted volume, bytes of a block volume.
pub(super) async fn get(
    manager: &Manager,
    request: NodeGetVolumeStatsRequest,
) -> Result<NodeGetVolumeStatsResponse, NodeError> {
    if request.volume_id.is_empty() {
        return Err(RequestError::Missing { field: "volume_id" }.into());
    }
    let path = request::volume_path(&request.volume_path)?;
    request::existing_id("volume_id", "volume", &request.volume_id)?;
    manager.volume(&request.volume_id).await?;
    let not_there = NodeError::NotThere {
        volume_id: request.volume_id,
        path: request.volume_path.into(),
    };
    let Some(path) = path else {
        return Err(not_there);
    };
    let path = mount::resolve(&path).await?;
    let usage = match MountTable::read().await?.at(&path) {
        None => return Err(not_there),
        Some(_) => match block_device(&path).await? {
            Some(device) => vec![VolumeUsage {
                total: size(device.size_bytes().await?),
                unit: Unit::Bytes.into(),
                ..Default::default()
            }],
            None => of_file_system(&path).await?,
        },
    };
    Ok(NodeGetVolumeStatsResponse { usage })
}

/// The device that is bound onto the path, if it is one.
async fn block_device(path: &Path) -> Result<Option<Device>, NodeError> {
    match Device::open(path).await {
        Ok(device) => Ok(Some(device)),
        Err(mount::MountError::WrongKind { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn of_file_system(path: &Path) -> Result<Vec<VolumeUsage>, NodeError> {
    let usage = mount::usage(path).await?;
    Ok(vec![
        VolumeUsage {
            available: size(usage.available_bytes),
            total: size(usage.total_bytes),
            used: size(usage.used_bytes),
            unit: Unit::Bytes.into(),
        },
        VolumeUsage {
            available: size(usage.free_inodes),
            total: size(usage.total_inodes),
            used: size(usage.total_inodes.saturating_sub(usage.free_inodes)),
            unit: Unit::Inodes.into(),
        },
    ])
}

fn size(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
