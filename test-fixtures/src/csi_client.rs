//! An orchestrator in miniature: a client of a CSI driver on a unix socket.
//!
//! It asks as Kubernetes' side-cars do: with a deadline on every call, and again, unchanged, where the answer was
//! "not yet" ([`is_not_yet`]) or a snapshot was not ready.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use stockpot_proto::csi::v1::{
    self as csi,
    controller_client::ControllerClient,
    identity_client::IdentityClient,
    node_client::NodeClient,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
    volume_content_source::{self as content, Type as Content},
};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Uri},
};

/// How long one call may take: what external-provisioner allows by default.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often "not yet" is asked again.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Why the client got nowhere.
#[derive(Debug, thiserror::Error)]
pub enum CsiClientError {
    /// Nobody answered on the socket in time.
    #[error("nobody answers on {}", .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The last attempt's error.
        #[source]
        source: tonic::transport::Error,
    },
    /// The driver refused.
    #[error("{rpc}: {:?}: {}", .status.code(), .status.message())]
    Refused {
        /// Name of the call.
        rpc: &'static str,
        /// The driver's answer.
        status: Status,
    },
    /// The answer lacks what it must have.
    #[error("{rpc}: the answer has no {field}")]
    Incomplete {
        /// Name of the call.
        rpc: &'static str,
        /// Name of the field.
        field: &'static str,
    },
    /// It was asked again and again, and was never done.
    #[error("{rpc}: not done after {} s; last: {last}", .waited.as_secs())]
    NeverDone {
        /// Name of the call.
        rpc: &'static str,
        /// How long it was asked.
        waited: Duration,
        /// The last answer.
        last: String,
    },
}

impl CsiClientError {
    /// The driver's code, where it answered.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { status, .. } => Some(status.code()),
            _ => None,
        }
    }
}

/// Whether the caller has to ask again: the codes that side-cars treat so.
#[must_use]
pub fn is_not_yet(code: Code) -> bool {
    matches!(
        code,
        Code::Aborted | Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled
    )
}

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

/// A snapshot to be cut.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// The caller's name for it.
    pub name: String,
    /// Id of the volume.
    pub source_volume_id: String,
    /// Parameters of the class: `profile`.
    pub parameters: HashMap<String, String>,
}

impl NewSnapshot {
    /// One with a profile; `None`: a local one.
    #[must_use]
    pub fn of(name: &str, source_volume_id: &str, profile: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            source_volume_id: source_volume_id.to_owned(),
            parameters: profile
                .map(|p| ("profile".to_owned(), p.to_owned()))
                .into_iter()
                .collect(),
        }
    }
}

/// A connection to a driver.
#[derive(Debug, Clone)]
pub struct CsiClient {
    /// The Identity service, for what this type has no method for.
    pub identity: IdentityClient<Channel>,
    /// The Controller service, for what this type has no method for.
    pub controller: ControllerClient<Channel>,
    /// The Node service, for what this type has no method for.
    pub node: NodeClient<Channel>,
}

/// A request with the deadline that side-cars give it.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn refused(rpc: &'static str) -> impl FnOnce(Status) -> CsiClientError {
    move |status| CsiClientError::Refused { rpc, status }
}

impl CsiClient {
    /// Connects, and waits that long for somebody to answer.
    ///
    /// # Errors
    /// [`CsiClientError::Connect`] if nobody does.
    pub async fn connect(socket: &Path, wait: Duration) -> Result<Self, CsiClientError> {
        let started = Instant::now();
        loop {
            let path = socket.to_owned();
            let connector = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            let endpoint = Endpoint::from_static("http://csi.invalid");
            match endpoint.connect_with_connector(connector).await {
                Ok(channel) => {
                    return Ok(Self {
                        identity: IdentityClient::new(channel.clone()),
                        controller: ControllerClient::new(channel.clone()),
                        node: NodeClient::new(channel),
                    });
                }
                Err(_) if started.elapsed() < wait => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(source) => {
                    let path = socket.to_owned();
                    return Err(CsiClientError::Connect { path, source });
                }
            }
        }
    }

    /// Waits until the driver says that it can work.
    ///
    /// # Errors
    /// [`CsiClientError::NeverDone`] if it does not in time.
    pub async fn wait_until_ready(&mut self, wait: Duration) -> Result<(), CsiClientError> {
        let started = Instant::now();
        loop {
            let last = match self.identity.probe(timed(csi::ProbeRequest {})).await {
                Ok(answer) if answer.get_ref().ready != Some(false) => return Ok(()),
                Ok(_) => "not ready".to_owned(),
                Err(status) => status.message().to_owned(),
            };
            if started.elapsed() >= wait {
                return Err(CsiClientError::NeverDone {
                    rpc: "Probe",
                    waited: wait,
                    last,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

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

    /// Cuts a snapshot, or asks how far the one of this name is.
    ///
    /// # Errors
    /// The driver's refusal; a failed upload is one.
    pub async fn create_snapshot(
        &mut self,
        snapshot: &NewSnapshot,
    ) -> Result<csi::Snapshot, CsiClientError> {
        let rpc = "CreateSnapshot";
        let request = csi::CreateSnapshotRequest {
            source_volume_id: snapshot.source_volume_id.clone(),
            name: snapshot.name.clone(),
            parameters: snapshot.parameters.clone(),
            ..Default::default()
        };
        let answer = self.controller.create_snapshot(timed(request)).await;
        let answer = answer.map_err(refused(rpc))?.into_inner().snapshot;
        answer.ok_or(CsiClientError::Incomplete {
            rpc,
            field: "snapshot",
        })
    }

    /// Asks until the snapshot is ready to use.
    ///
    /// # Errors
    /// As [`create_snapshot`](Self::create_snapshot), and [`CsiClientError::NeverDone`].
    pub async fn wait_snapshot_ready(
        &mut self,
        snapshot: &NewSnapshot,
        wait: Duration,
    ) -> Result<csi::Snapshot, CsiClientError> {
        let started = Instant::now();
        loop {
            let last = match self.create_snapshot(snapshot).await {
                Ok(answer) if answer.ready_to_use => return Ok(answer),
                Ok(_) => "not ready to use".to_owned(),
                Err(error) if error.code().is_some_and(is_not_yet) => error.to_string(),
                Err(error) => return Err(error),
            };
            if started.elapsed() >= wait {
                return Err(CsiClientError::NeverDone {
                    rpc: "CreateSnapshot",
                    waited: wait,
                    last,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Removes a snapshot with all of its copies; one that is not there is success.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn delete_snapshot(&mut self, snapshot_id: &str) -> Result<(), CsiClientError> {
        let request = csi::DeleteSnapshotRequest {
            snapshot_id: snapshot_id.to_owned(),
            ..Default::default()
        };
        let answer = self.controller.delete_snapshot(timed(request)).await;
        answer.map(drop).map_err(refused("DeleteSnapshot"))
    }

    /// Snapshots, over all pages; empty filters match all.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn list_snapshots(
        &mut self,
        snapshot_id: &str,
        source_volume_id: &str,
    ) -> Result<Vec<csi::Snapshot>, CsiClientError> {
        let mut all = Vec::new();
        let mut starting_token = String::new();
        loop {
            let request = csi::ListSnapshotsRequest {
                starting_token,
                source_volume_id: source_volume_id.to_owned(),
                snapshot_id: snapshot_id.to_owned(),
                ..Default::default()
            };
            let page = self.controller.list_snapshots(timed(request)).await;
            let page = page.map_err(refused("ListSnapshots"))?.into_inner();
            all.extend(page.entries.into_iter().filter_map(|e| e.snapshot));
            if page.next_token.is_empty() {
                return Ok(all);
            }
            starting_token = page.next_token;
        }
    }
}

mod node;
