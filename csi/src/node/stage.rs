//! Stage and unstage: attach, make or check the file system, mount, grow; and back.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use stockpot_proto::csi::v1::{NodeStageVolumeRequest, NodeUnstageVolumeRequest};

use super::{NodeError, attach, attached};
use crate::{
    manager::Manager,
    mount::{self, Device, FileSystem, MountError, MountFlags, MountTable, Target},
    request::{self, Access, Capability, RequestError},
};

/// A checked request to stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) volume_id: String,
    at: PathBuf,
    capability: Capability,
}

impl Stage {
    pub(super) fn parse(request: NodeStageVolumeRequest) -> Result<Self, RequestError> {
        if request.volume_id.is_empty() {
            return Err(RequestError::Missing { field: "volume_id" });
        }
        let at = request::path("staging_target_path", &request.staging_target_path)?;
        let capability = Capability::parse(request.volume_capability.as_ref())?;
        request::existing_id("volume_id", "volume", &request.volume_id)?;
        Ok(Self {
            volume_id: request.volume_id,
            at,
            capability,
        })
    }

    pub(super) async fn run(self, manager: Arc<Manager>) -> Result<(), NodeError> {
        let at = mount::resolve(&self.at).await?;
        let is_block = self.capability.access == Access::Block;
        // A file system that is only read still has its journal replayed: only a bare device is attached read-only.
        let read_only = is_block && self.capability.reader_only;
        let (device, has_content_source) = attach(&manager, &self.volume_id, read_only).await?;
        let staged = match &self.capability.access {
            Access::Block => stage_block(&at).await,
            Access::Mount { fs, flags } => {
                self.stage_mount(&device, &at, *fs, flags, has_content_source)
                    .await
            }
        };
        if let Err(error) = staged {
            // Nothing of a stage that failed stays; one that was there before it does.
            let in_use = match MountTable::read().await {
                Ok(table) => table.of(&device).next().is_some(),
                Err(_) => true,
            };
            if !in_use && let Err(status) = manager.detach(&self.volume_id).await {
                tracing::warn!(
                    error = status.message(),
                    "cannot detach after a failed stage"
                );
            }
            return Err(error);
        }
        Ok(())
    }

    async fn stage_mount(
        &self,
        device: &Device,
        at: &Path,
        wanted: Option<FileSystem>,
        flags: &MountFlags,
        has_content_source: bool,
    ) -> Result<(), NodeError> {
        let read_only = self.capability.reader_only || flags.read_only();
        let table = MountTable::read().await?;
        if let Some(mount) = table.at(at) {
            if mount.device == device.numbers() {
                let fs = compatible(mount, at, wanted, read_only)?;
                return finish(device, fs, at, read_only).await;
            }
            if !mount.is_dead() {
                return Err(MountError::OtherMount {
                    path: at.to_owned(),
                    found: mount.source.clone(),
                }
                .into());
            }
            mount::unmount_all(at).await?;
        }
        if let Some(other) = table.of(device).find(|m| m.mount_point != at) {
            return Err(NodeError::PublishedElsewhere {
                volume_id: self.volume_id.clone(),
                path: other.mount_point.clone(),
            });
        }
        mount::make_target(at, Target::Directory).await?;
        if device.is_read_only().await? && !read_only {
            device.set_read_only(false).await?;
        }
        let fs = mount::prepare(device, wanted, has_content_source).await?;
        let mut more = Vec::new();
        if read_only {
            more.push("ro");
        }
        // The original, or another copy of it with the same UUID, may be mounted on this host.
        if fs == FileSystem::Xfs && has_content_source {
            more.push("nouuid");
        }
        mount::mount_device(device, fs, &flags.with(&more), at).await?;
        finish(device, fs, at, read_only).await
    }
}

/// A block volume needs nothing but its device; a file system at its staging path would be somebody's mistake.
async fn stage_block(at: &Path) -> Result<(), NodeError> {
    match MountTable::read().await?.at(at) {
        None => Ok(()),
        Some(mount) => Err(MountError::Incompatible {
            path: at.to_owned(),
            found: format!("with {} mounted", mount.fs_type),
        }
        .into()),
    }
}

/// Whether what is mounted is what is asked for.
fn compatible(
    mount: &mount::Mount,
    at: &Path,
    wanted: Option<FileSystem>,
    read_only: bool,
) -> Result<FileSystem, MountError> {
    let found = |found: String| MountError::Incompatible {
        path: at.to_owned(),
        found,
    };
    match FileSystem::parse(&mount.fs_type) {
        Some(fs) if wanted.is_none_or(|w| w == fs) && mount.read_only == read_only => Ok(fs),
        _ => Err(found(format!(
            "with {} mounted {}",
            mount.fs_type,
            if mount.read_only {
                "read-only"
            } else {
                "read-write"
            }
        ))),
    }
}

/// The device may have become larger than the file system: a larger restore, or an extension while it was not mounted.
async fn finish(
    device: &Device,
    fs: FileSystem,
    at: &Path,
    read_only: bool,
) -> Result<(), NodeError> {
    if !read_only {
        mount::grow(device, fs, at).await?;
    }
    Ok(())
}

/// A checked request to unstage.
#[derive(Debug)]
pub(super) struct Unstage {
    pub(super) volume_id: String,
    at: PathBuf,
}

impl Unstage {
    pub(super) fn parse(request: NodeUnstageVolumeRequest) -> Result<Self, RequestError> {
        if request.volume_id.is_empty() {
            return Err(RequestError::Missing { field: "volume_id" });
        }
        let at = request::path("staging_target_path", &request.staging_target_path)?;
        request::existing_id("volume_id", "volume", &request.volume_id)?;
        Ok(Self {
            volume_id: request.volume_id,
            at,
        })
    }

    pub(super) async fn run(self, manager: Arc<Manager>) -> Result<(), NodeError> {
        let at = mount::resolve(&self.at).await?;
        let table = MountTable::read().await?;
        if let Some(mount) = table.at(&at).filter(|m| !m.is_dead()) {
            // Bound to the mount's own device: that is what must not be in use elsewhere when it is taken away.
            let path = PathBuf::from(&mount.source);
            if let Ok(device) = Device::open(&path).await {
                if let Some(other) = table.of(&device).find(|m| m.mount_point != at) {
                    return Err(NodeError::PublishedElsewhere {
                        volume_id: self.volume_id,
                        path: other.mount_point.clone(),
                    });
                }
                mount::unmount_all(&at).await?;
                device.flush().await?;
            }
        } else if let Ok(device) = attached(&manager, &self.volume_id).await
            && let Some(other) = table.of(&device).find(|m| m.mount_point != at)
        {
            // A device that is bound to a target is not open by that: it would be taken from under it.
            return Err(NodeError::PublishedElsewhere {
                volume_id: self.volume_id,
                path: other.mount_point.clone(),
            });
        }
        mount::unmount_all(&at).await?;
        manager.detach(&self.volume_id).await?;
        Ok(())
    }
}
