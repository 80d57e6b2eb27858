//! Growing the file system after the controller grew the device.

use std::{path::PathBuf, sync::Arc};

use stockpot_proto::csi::v1::{NodeExpandVolumeRequest, NodeExpandVolumeResponse};

use super::{NodeError, attached};
use crate::{
    manager::Manager,
    mount::{self, FileSystem, MountTable},
    request::{self, Access, Capability, Capacity, RequestError},
};

/// A checked request to expand.
#[derive(Debug)]
pub(super) struct Expand {
    pub(super) volume_id: String,
    at: String,
    path: Option<PathBuf>,
    staged: Option<PathBuf>,
    required_bytes: u64,
    capability: Option<Capability>,
}

impl Expand {
    pub(super) fn parse(request: NodeExpandVolumeRequest) -> Result<Self, RequestError> {
        if request.volume_id.is_empty() {
            return Err(RequestError::Missing { field: "volume_id" });
        }
        let path = request::volume_path(&request.volume_path)?;
        request::existing_id("volume_id", "volume", &request.volume_id)?;
        let staged = match request.staging_target_path.as_str() {
            "" => None,
            path => Some(request::path("staging_target_path", path)?),
        };
        let capability = match &request.volume_capability {
            Some(capability) => Some(Capability::parse(Some(capability))?),
            None => None,
        };
        Ok(Self {
            volume_id: request.volume_id,
            at: request.volume_path,
            path,
            staged,
            required_bytes: Capacity::parse(request.capacity_range.as_ref())?.required_bytes,
            capability,
        })
    }

    pub(super) async fn run(
        self,
        manager: Arc<Manager>,
    ) -> Result<NodeExpandVolumeResponse, NodeError> {
        manager.volume(&self.volume_id).await?;
        let mut paths = Vec::new();
        for path in [&self.path, &self.staged].into_iter().flatten() {
            paths.push(mount::resolve(path).await?);
        }
        let table = MountTable::read().await?;
        let is_there = paths.iter().any(|p| table.at(p).is_some());
        let not_there = NodeError::NotThere {
            volume_id: self.volume_id.clone(),
            path: PathBuf::from(&self.at),
        };
        if !is_there {
            return Err(not_there);
        }
        let device = attached(&manager, &self.volume_id).await?;
        let size_bytes = device.size_bytes().await?;
        if size_bytes < self.required_bytes {
            return Err(NodeError::StillSmall {
                volume_id: self.volume_id,
                size_bytes,
                required_bytes: self.required_bytes,
            });
        }
        let is_block = matches!(&self.capability, Some(c) if c.access == Access::Block);
        // The staging mount is writable even where the target is not.
        let mounted = table
            .of(&device)
            .filter(|m| m.device == device.numbers())
            .min_by_key(|m| m.read_only);
        match mounted.and_then(|m| Some((m, FileSystem::parse(&m.fs_type)?))) {
            Some((mount, fs)) if !mount.read_only => {
                mount::grow(&device, fs, &mount.mount_point).await?;
            }
            // Grows when it is staged for writing.
            Some(_) => {}
            None if is_block || table.of(&device).next().is_some() => {}
            None => return Err(not_there),
        }
        Ok(NodeExpandVolumeResponse {
            capacity_bytes: i64::try_from(size_bytes).unwrap_or(i64::MAX),
        })
    }
}
