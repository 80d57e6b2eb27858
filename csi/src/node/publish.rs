//! Publish and unpublish: bind what was staged onto a target, and back.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use stockpot_proto::csi::v1::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};

use super::{NodeError, attach};
use crate::{
    manager::Manager,
    mount::{self, Device, Mount, MountError, MountTable, Target},
    request::{self, Access, Capability, RequestError},
};

/// A checked request to publish.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) volume_id: String,
    staged: PathBuf,
    target: PathBuf,
    capability: Capability,
    read_only: bool,
}

impl Publish {
    pub(super) fn parse(request: NodePublishVolumeRequest) -> Result<Self, RequestError> {
        if request.volume_id.is_empty() {
            return Err(RequestError::Missing { field: "volume_id" });
        }
        let target = request::path("target_path", &request.target_path)?;
        let capability = Capability::parse(request.volume_capability.as_ref())?;
        request::existing_id("volume_id", "volume", &request.volume_id)?;
        if request.staging_target_path.is_empty() {
            return Err(RequestError::NotStaged {
                volume_id: request.volume_id,
                path: String::new(),
            });
        }
        let staged = request::path("staging_target_path", &request.staging_target_path)?;
        Ok(Self {
            volume_id: request.volume_id,
            staged,
            target,
            read_only: request.readonly || capability.reader_only,
            capability,
        })
    }

    pub(super) async fn run(self, manager: Arc<Manager>) -> Result<(), NodeError> {
        let staged = mount::resolve(&self.staged).await?;
        let target = mount::resolve(&self.target).await?;
        // Says NOT_FOUND before anything about staging is said.
        manager.volume(&self.volume_id).await?;
        let is_block = self.capability.access == Access::Block;
        if !is_block && MountTable::read().await?.at(&staged).is_none() {
            return Err(RequestError::NotStaged {
                volume_id: self.volume_id,
                path: staged.display().to_string(),
            }
            .into());
        }
        let read_only_device = is_block && self.capability.reader_only;
        let (device, _) = attach(&manager, &self.volume_id, read_only_device).await?;
        let table = MountTable::read().await?;
        self.check_others(&table, &device, &staged, &target)?;
        if is_block {
            self.publish_block(&table, &device, &target).await
        } else {
            self.publish_mount(&table, &device, &staged, &target).await
        }
    }

    /// A volume for a single target must have no other.
    fn check_others(
        &self,
        table: &MountTable,
        device: &Device,
        staged: &Path,
        target: &Path,
    ) -> Result<(), NodeError> {
        let other = others(table, device, staged, target).next();
        match other {
            Some(other) if self.capability.single_target => Err(NodeError::PublishedElsewhere {
                volume_id: self.volume_id.clone(),
                path: other.mount_point.clone(),
            }),
            _ => Ok(()),
        }
    }

    async fn publish_mount(
        &self,
        table: &MountTable,
        device: &Device,
        staged: &Path,
        target: &Path,
    ) -> Result<(), NodeError> {
        let mount = table
            .at(staged)
            .filter(|m| m.device == device.numbers())
            .ok_or_else(|| RequestError::NotStaged {
                volume_id: self.volume_id.clone(),
                path: staged.display().to_string(),
            })?;
        // What is staged read-only cannot be published otherwise.
        let read_only = self.read_only || mount.read_only;
        let mut there = table.at(target);
        if let Some(dead) = there.filter(|m| m.is_dead() && m.device != device.numbers()) {
            tracing::warn!(
                source = dead.source,
                "taking away a mount whose device is gone"
            );
            mount::unmount_all(target).await?;
            there = None;
        }
        match there {
            None => {
                mount::make_target(target, Target::Directory).await?;
                mount::bind(staged, target).await?;
            }
            Some(mount) if mount.device != device.numbers() => return Err(other_mount(mount)),
            Some(mount) if mount.read_only && !read_only => {
                return Err(MountError::Incompatible {
                    path: target.to_owned(),
                    found: "read-only".to_owned(),
                }
                .into());
            }
            Some(mount) if mount.read_only == read_only => return Ok(()),
            // Bound by a call that was cut off before the next step.
            Some(_) => {}
        }
        if read_only {
            mount::remount_read_only(target).await?;
        }
        Ok(())
    }

    /// Binds the device's node onto a file. That a mount is read-only means nothing to a device node: the device
    /// itself is made read-only, which all of its users share.
    async fn publish_block(
        &self,
        table: &MountTable,
        device: &Device,
        target: &Path,
    ) -> Result<(), NodeError> {
        let is_shared = others(table, device, Path::new(""), target).next();
        if device.is_read_only().await? != self.read_only {
            if let Some(other) = is_shared {
                return Err(NodeError::PublishedElsewhere {
                    volume_id: self.volume_id.clone(),
                    path: other.mount_point.clone(),
                });
            }
            if table.of(device).any(|m| m.mount_point == target) {
                return Err(MountError::Incompatible {
                    path: target.to_owned(),
                    found: if self.read_only {
                        "read-write"
                    } else {
                        "read-only"
                    }
                    .to_owned(),
                }
                .into());
            }
            device.set_read_only(self.read_only).await?;
        }
        match table.at(target) {
            Some(_) if table.of(device).any(|m| m.mount_point == target) => Ok(()),
            Some(mount) => Err(other_mount(mount)),
            None => {
                mount::make_target(target, Target::File).await?;
                mount::bind(device.path(), target).await?;
                Ok(())
            }
        }
    }
}

/// Where else than at its staging path and this target the volume is.
fn others<'a>(
    table: &'a MountTable,
    device: &'a Device,
    staged: &'a Path,
    target: &'a Path,
) -> impl Iterator<Item = &'a Mount> {
    table
        .of(device)
        .filter(move |m| m.mount_point != staged && m.mount_point != target)
}

fn other_mount(mount: &Mount) -> NodeError {
    MountError::OtherMount {
        path: mount.mount_point.clone(),
        found: mount.source.clone(),
    }
    .into()
}

/// A checked request to unpublish.
#[derive(Debug)]
pub(super) struct Unpublish {
    pub(super) volume_id: String,
    target: PathBuf,
}

impl Unpublish {
    pub(super) fn parse(request: NodeUnpublishVolumeRequest) -> Result<Self, RequestError> {
        if request.volume_id.is_empty() {
            return Err(RequestError::Missing { field: "volume_id" });
        }
        let target = request::path("target_path", &request.target_path)?;
        request::existing_id("volume_id", "volume", &request.volume_id)?;
        Ok(Self {
            volume_id: request.volume_id,
            target,
        })
    }

    /// Needs no manager: what is at the target goes, whether the volume still exists or not.
    pub(super) async fn run(self) -> Result<(), NodeError> {
        let target = mount::resolve(&self.target).await?;
        mount::remove_target(&target).await?;
        Ok(())
    }
}
