//! The Node service: volumes become devices, directories and files of this host.
//!
//! Stage attaches the device and mounts its file system, once per volume; publish binds that onto a target, once per
//! user. Each step asks what is there first, so a call that was cut off at any point can simply be repeated, and
//! unstage and unpublish undo whatever there is.

mod expand;
mod publish;
mod stage;
mod stats;

use std::{future::Future, path::PathBuf, sync::Arc};

use stockpot_proto::{
    csi::v1::{self as csi, node_server::Node},
    stockpot::v1 as api,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status};

use crate::{
    codes::not_claimed,
    locks::Locks,
    log,
    manager::Manager,
    mount::{Device, MountError},
    request::RequestError,
};

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The manager's answer.
    #[error("{}", .0.message())]
    Status(#[from] Status),
    /// The host's answer.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The request is not right.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Another call is at work on the volume.
    #[error("another call is at work on volume {volume_id}: ask again")]
    UnderWay { volume_id: String },
    /// The server is being stopped.
    #[error("the driver is being stopped: ask again")]
    Stopping,
    /// The task ended without a result.
    #[error("the call ended without a result")]
    Crashed,
    /// The volume is published where it must not be.
    #[error("volume {volume_id} is published at {}", .path.display())]
    PublishedElsewhere { volume_id: String, path: PathBuf },
    /// Nothing of this volume is at the path.
    #[error("volume {volume_id} is not at {}", .path.display())]
    NotThere { volume_id: String, path: PathBuf },
    /// The device did not grow.
    #[error(
        "the device of volume {volume_id} has {size_bytes} bytes, {required_bytes} were asked for"
    )]
    StillSmall {
        volume_id: String,
        size_bytes: u64,
        required_bytes: u64,
    },
}

/// The Node service of this host.
#[derive(Debug, Clone)]
pub(crate) struct NodeService {
    pub(crate) manager: Manager,
    pub(crate) node_id: String,
    pub(crate) topology_key: String,
    pub(crate) locks: Locks,
    /// The calls at work; drained before the server ends.
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl NodeService {
    /// Runs a call's side effects to their end even if the caller goes away; one call at a time per volume.
    async fn run<A, Fut>(
        &self,
        volume_id: String,
        work: impl FnOnce(Arc<Manager>) -> Fut,
    ) -> Result<A, Status>
    where
        A: Send + 'static,
        Fut: Future<Output = Result<A, NodeError>> + Send + 'static,
    {
        if self.stopping.is_cancelled() {
            return Err(NodeError::Stopping.into());
        }
        let Some(taken) = self.locks.take(&volume_id) else {
            return Err(NodeError::UnderWay { volume_id }.into());
        };
        let work = work(Arc::new(self.manager.clone()));
        let span = tracing::Span::current();
        let task = async move {
            let _taken = taken;
            work.await
        };
        let task = self
            .tasks
            .spawn(tracing::Instrument::instrument(task, span));
        match task.await {
            Ok(result) => result.map_err(Status::from),
            Err(_) => Err(NodeError::Crashed.into()),
        }
    }
}

/// The volume's device on this host, attached if it was not. One that is attached and was made read-only stays so.
async fn attach(
    manager: &Manager,
    volume_id: &str,
    read_only: bool,
) -> Result<(Device, bool), NodeError> {
    let request = api::AttachVolumeRequest {
        volume_id: volume_id.to_owned(),
        read_only,
        as_attached: false,
    };
    attach_as(manager, request).await
}

/// The device of a volume that is attached, in whatever access mode.
async fn attached(manager: &Manager, volume_id: &str) -> Result<Device, NodeError> {
    let request = api::AttachVolumeRequest {
        volume_id: volume_id.to_owned(),
        read_only: false,
        as_attached: true,
    };
    Ok(attach_as(manager, request).await?.0)
}

async fn attach_as(
    manager: &Manager,
    request: api::AttachVolumeRequest,
) -> Result<(Device, bool), NodeError> {
    let attached = manager.attach_volume(request).await?;
    let device = Device::open(attached.device_path.as_ref()).await?;
    Ok((device, attached.has_content_source))
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<csi::NodeStageVolumeRequest>,
    ) -> Result<Response<csi::NodeStageVolumeResponse>, Status> {
        log::call(request, |r, _| async {
            let stage = stage::Stage::parse(r)?;
            self.run(stage.volume_id.clone(), |m| stage.run(m)).await?;
            Ok(csi::NodeStageVolumeResponse {})
        })
        .await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<csi::NodeUnstageVolumeRequest>,
    ) -> Result<Response<csi::NodeUnstageVolumeResponse>, Status> {
        log::call(request, |r, _| async {
            let unstage = stage::Unstage::parse(r)?;
            self.run(unstage.volume_id.clone(), |m| unstage.run(m))
                .await?;
            Ok(csi::NodeUnstageVolumeResponse {})
        })
        .await
    }

    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> Result<Response<csi::NodePublishVolumeResponse>, Status> {
        log::call(request, |r, _| async {
            let publish = publish::Publish::parse(r)?;
            self.run(publish.volume_id.clone(), |m| publish.run(m))
                .await?;
            Ok(csi::NodePublishVolumeResponse {})
        })
        .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<csi::NodeUnpublishVolumeResponse>, Status> {
        log::call(request, |r, _| async {
            let unpublish = publish::Unpublish::parse(r)?;
            self.run(unpublish.volume_id.clone(), |_| unpublish.run())
                .await?;
            Ok(csi::NodeUnpublishVolumeResponse {})
        })
        .await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<csi::NodeGetVolumeStatsResponse>, Status> {
        log::call(request, |r, _| async {
            stats::get(&self.manager, r).await.map_err(Status::from)
        })
        .await
    }

    async fn node_expand_volume(
        &self,
        request: Request<csi::NodeExpandVolumeRequest>,
    ) -> Result<Response<csi::NodeExpandVolumeResponse>, Status> {
        log::call(request, |r, _| async {
            let expand = expand::Expand::parse(r)?;
            self.run(expand.volume_id.clone(), |m| expand.run(m)).await
        })
        .await
    }

    async fn node_get_capabilities(
        &self,
        request: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<csi::NodeGetCapabilitiesResponse>, Status> {
        log::call(request, |_, _| async { Ok(claimed()) }).await
    }

    async fn node_get_info(
        &self,
        request: Request<csi::NodeGetInfoRequest>,
    ) -> Result<Response<csi::NodeGetInfoResponse>, Status> {
        log::call(request, |_, _| async {
            let segments = [(self.topology_key.clone(), self.node_id.clone())].into();
            Ok(csi::NodeGetInfoResponse {
                node_id: self.node_id.clone(),
                // No limit of its own.
                max_volumes_per_node: 0,
                accessible_topology: Some(csi::Topology { segments }),
            })
        })
        .await
    }

    async fn node_get_volume_health(
        &self,
        _: Request<csi::NodeGetVolumeHealthRequest>,
    ) -> Result<Response<csi::NodeGetVolumeHealthResponse>, Status> {
        Err(not_claimed("NodeGetVolumeHealth"))
    }

    async fn node_get_storage_health(
        &self,
        _: Request<csi::NodeGetStorageHealthRequest>,
    ) -> Result<Response<csi::NodeGetStorageHealthResponse>, Status> {
        Err(not_claimed("NodeGetStorageHealth"))
    }
}

/// The capabilities that the node claims.
fn claimed() -> csi::NodeGetCapabilitiesResponse {
    use csi::node_service_capability::{Rpc, Type, rpc};
    let capabilities = [
        rpc::Type::StageUnstageVolume,
        rpc::Type::GetVolumeStats,
        rpc::Type::ExpandVolume,
        rpc::Type::SingleNodeMultiWriter,
    ];
    csi::NodeGetCapabilitiesResponse {
        capabilities: capabilities
            .into_iter()
            .map(|kind| csi::NodeServiceCapability {
                r#type: Some(Type::Rpc(Rpc {
                    r#type: kind.into(),
                })),
            })
            .collect(),
    }
}
