//! The calls about volumes that external-provisioner and external-resizer make.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use stockpot_proto::csi::v1::{
    self as csi,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
    volume_content_source::{self as content, Type as Content},
};

use super::{CsiClient, CsiClientError, POLL_INTERVAL, is_not_yet, refused, timed};

/// How a volume is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As a block device.
    Block,
    /// As a directory.
    Mount {
        /// Name of the file system; empty: any.
        fs_type: String,
        /// Options for `mount`.
        flags: Vec<String>,
    },
}

impl Access {
    /// `block`, or the name of a file system.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "block" => Self::Block,
            fs_type => Self::Mount {
                fs_type: fs_type.to_owned(),
                flags: Vec::new(),
            },
        }
    }

    /// As the interface says it, for one writer on one node.
    #[must_use]
    pub fn capability(&self) -> csi::VolumeCapability {
        csi::VolumeCapability {
            access_mode: Some(AccessMode {
                mode: Mode::SingleNodeWriter.into(),
            }),
            access_type: Some(match self {
                Self::Block => AccessType::Block(BlockVolume {}),
                Self::Mount { fs_type, flags } => AccessType::Mount(MountVolume {
                    fs_type: fs_type.clone(),
                    mount_flags: flags.clone(),
                    volume_mount_group: String::new(),
                }),
            }),
        }
    }
}

/// What a volume is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentSource {
    /// A snapshot, by id.
    Snapshot(String),
    /// Another volume, by id.
    Volume(String),
}

/// A volume to be made.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// The caller's name for it.
    pub name: String,
    /// 0: the driver's choice, or the source's size.
    pub size_bytes: u64,
    /// How it will be used.
    pub access: Access,
    /// Parameters of the class.
    pub parameters: HashMap<String, String>,
    /// `None`: empty.
    pub source: Option<ContentSource>,
}

impl NewVolume {
    /// An empty volume with a file system (or `block`), without parameters.
    #[must_use]
    pub fn empty(name: &str, size_bytes: u64, access: &str) -> Self {
        Self {
            name: name.to_owned(),
            size_bytes,
            access: Access::named(access),
            parameters: HashMap::new(),
            source: None,
        }
    }

    /// The same with a parameter.
    #[must_use]
    pub fn parameter(mut self, key: &str, value: &str) -> Self {
        self.parameters.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same, made from a source.
    #[must_use]
    pub fn from(mut self, source: ContentSource) -> Self {
        self.source = Some(source);
        self
    }

    fn request(&self) -> csi::CreateVolumeRequest {
        let source = self.source.clone().map(|source| match source {
            ContentSource::Snapshot(snapshot_id) => {
                Content::Snapshot(content::SnapshotSource { snapshot_id })
            }
            ContentSource::Volume(volume_id) => {
                Content::Volume(content::VolumeSource { volume_id })
            }
        });
        csi::CreateVolumeRequest {
            name: self.name.clone(),
            capacity_range: (self.size_bytes > 0).then(|| csi::CapacityRange {
                required_bytes: i64::try_from(self.size_bytes).unwrap_or(i64::MAX),
                limit_bytes: 0,
            }),
            volume_capabilities: vec![self.access.capability()],
            parameters: self.parameters.clone(),
            volume_content_source: source.map(|source| csi::VolumeContentSource {
                r#type: Some(source),
            }),
            ..Default::default()
        }
    }
}

impl CsiClient {
    /// Makes a volume; asks again for `wait` while it is being made or restored.
    ///
    /// # Errors
    /// The driver's refusal, or [`CsiClientError::NeverDone`].
    pub async fn create_volume(
        &mut self,
        volume: &NewVolume,
        wait: Duration,
    ) -> Result<csi::Volume, CsiClientError> {
        let rpc = "CreateVolume";
        let started = Instant::now();
        loop {
            let answer = self.controller.create_volume(timed(volume.request())).await;
            match answer {
                Ok(answer) => {
                    let volume = answer.into_inner().volume;
                    let field = "volume";
                    return volume.ok_or(CsiClientError::Incomplete { rpc, field });
                }
                Err(status) if is_not_yet(status.code()) && started.elapsed() < wait => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                Err(status) => return Err(refused(rpc)(status)),
            }
        }
    }

    /// Removes a volume; one that is not there is success.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn delete_volume(&mut self, volume_id: &str) -> Result<(), CsiClientError> {
        let request = csi::DeleteVolumeRequest {
            volume_id: volume_id.to_owned(),
            ..Default::default()
        };
        let answer = self.controller.delete_volume(timed(request)).await;
        answer.map(drop).map_err(refused("DeleteVolume"))
    }

    /// Grows a volume's device; answers its new size and whether its file system has to grow on the node.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn expand_volume(
        &mut self,
        volume_id: &str,
        size_bytes: u64,
    ) -> Result<csi::ControllerExpandVolumeResponse, CsiClientError> {
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: volume_id.to_owned(),
            capacity_range: Some(csi::CapacityRange {
                required_bytes: i64::try_from(size_bytes).unwrap_or(i64::MAX),
                limit_bytes: 0,
            }),
            ..Default::default()
        };
        let answer = self
            .controller
            .controller_expand_volume(timed(request))
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(refused("ControllerExpandVolume"))
    }

    /// All volumes, over all pages.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn list_volumes(&mut self) -> Result<Vec<csi::Volume>, CsiClientError> {
        let mut all = Vec::new();
        let mut starting_token = String::new();
        loop {
            let request = csi::ListVolumesRequest {
                max_entries: 0,
                starting_token,
            };
            let page = self.controller.list_volumes(timed(request)).await;
            let page = page.map_err(refused("ListVolumes"))?.into_inner();
            all.extend(page.entries.into_iter().filter_map(|e| e.volume));
            if page.next_token.is_empty() {
                return Ok(all);
            }
            starting_token = page.next_token;
        }
    }
}
