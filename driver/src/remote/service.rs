//! The service that answers: each call is translated, allowed, and handed to the driver of its pool.

use std::{collections::BTreeMap, sync::Arc};

use stockpot_proto::stockpot::v1::storage::{
    self as api,
    storage_node_server::{StorageNode, StorageNodeServer},
};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use super::{
    call::{Call, Caller, Gate, Inner, Intent, Subject, Way},
    callers::Callers,
    failure::Refusal,
    pages::{Pages, entries, pages},
    wire,
};
use crate::{DriverError, VolumeDriver};

/// Answers the calls of [`RemoteDriver`](super::RemoteDriver)s with the drivers of this node's pools.
#[derive(Debug, Clone)]
pub struct StorageService {
    inner: Arc<Inner>,
}

impl StorageService {
    /// Serves these pools of the node of this name.
    pub fn new(
        node: impl Into<String>,
        pools: BTreeMap<String, Arc<dyn VolumeDriver>>,
        gate: Arc<dyn Gate>,
    ) -> Self {
        Self::tracked(node, pools, gate, TaskTracker::new())
    }

    /// The same, with calls under way known to the tracker: whoever stops can wait for them, also for those whose callers
    /// went away.
    pub fn tracked(
        node: impl Into<String>,
        pools: BTreeMap<String, Arc<dyn VolumeDriver>>,
        gate: Arc<dyn Gate>,
        tasks: TaskTracker,
    ) -> Self {
        let node = node.into();
        let inner = Arc::new(Inner {
            node,
            pools,
            gate,
            callers: Callers::default(),
            tasks,
        });
        Self { inner }
    }

    /// For a unix socket that only root can open.
    #[must_use]
    pub fn on_socket(&self) -> StorageNodeServer<impl StorageNode + use<>> {
        self.server(Way::Socket)
    }

    /// For the network: callers are who their certificates say.
    pub(super) fn on_network(&self) -> StorageNodeServer<impl StorageNode + use<>> {
        self.server(Way::Network)
    }

    fn server(&self, way: Way) -> StorageNodeServer<Answering> {
        StorageNodeServer::new(Answering {
            inner: self.inner.clone(),
            way,
        })
    }
}

#[derive(Debug, Clone)]
struct Answering {
    inner: Arc<Inner>,
    way: Way,
}

type Answer<T> = Result<Response<T>, Status>;

/// One call: what has to be allowed first and what the driver is asked then, to its end.
macro_rules! answer {
    ($self:ident, $request:ident, |$call:ident, $message:ident| $work:expr) => {{
        let done = Call::carry_out(
            &$self.inner,
            $self.way,
            $request,
            |$call, $message| async move { Ok::<_, Refusal>($work) },
        );
        done.await.map(Response::new)
    }};
}

#[tonic::async_trait]
impl StorageNode for Answering {
    type ListVolumesStream = Pages<api::Volume>;
    type ListSnapshotsStream = Pages<api::Snapshot>;
    type AllocatedRangesStream = Pages<api::RangesPage>;
    type ChangedRangesStream = Pages<api::RangesPage>;

    async fn get_pool(&self, request: Request<api::PoolRequest>) -> Answer<api::Pool> {
        answer!(self, request, |call, _m| api::Pool {
            node: call.node().to_owned(),
            driver: call.driver.name().to_owned(),
        })
    }

    async fn check(&self, request: Request<api::PoolRequest>) -> Answer<api::Done> {
        answer!(self, request, |call, _m| {
            call.driver.check().await?;
            api::Done {}
        })
    }

    async fn check_in_use(&self, request: Request<api::PoolRequest>) -> Answer<api::Done> {
        answer!(self, request, |call, _m| {
            call.driver.check_in_use().await?;
            api::Done {}
        })
    }

    async fn create_volume(&self, request: Request<api::MakeVolumeRequest>) -> Answer<api::Volume> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Change).await?;
            wire::volume(call.driver.create_volume(&id, m.size_bytes).await?)
        })
    }

    async fn create_volume_from_snapshot(
        &self,
        request: Request<api::MakeVolumeRequest>,
    ) -> Answer<api::Volume> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Change).await?;
            let from = call.snapshot(&m.source_id, Intent::Use).await?;
            let driver = &call.driver;
            let made = driver.create_volume_from_snapshot(&id, m.size_bytes, &from);
            wire::volume(made.await?)
        })
    }

    async fn create_cloned_volume(
        &self,
        request: Request<api::MakeVolumeRequest>,
    ) -> Answer<api::Volume> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Change).await?;
            let source = call.volume(&m.source_id, Intent::Use).await?;
            let made = call.driver.create_cloned_volume(&id, m.size_bytes, &source);
            wire::volume(made.await?)
        })
    }

    async fn delete_volume(&self, request: Request<api::ObjectRequest>) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Change).await?;
            call.driver.delete_volume(&id).await?;
            api::Done {}
        })
    }

    async fn extend_volume(&self, request: Request<api::MakeVolumeRequest>) -> Answer<api::Volume> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Change).await?;
            wire::volume(call.driver.extend_volume(&id, m.size_bytes).await?)
        })
    }

    async fn check_replace(&self, request: Request<api::ObjectRequest>) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Use).await?;
            call.driver.check_replace(&id).await?;
            api::Done {}
        })
    }

    async fn replace_volume(
        &self,
        request: Request<api::ReplaceVolumeRequest>,
    ) -> Answer<api::Volume> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Change).await?;
            let with = call.volume(&m.with_id, Intent::Change).await?;
            wire::volume(call.driver.replace_volume(&id, &with).await?)
        })
    }

    async fn create_snapshot(&self, request: Request<api::CutRequest>) -> Answer<api::Snapshot> {
        answer!(self, request, |call, m| {
            let volume = call.volume(&m.volume_id, Intent::Use).await?;
            let id = call.snapshot(&m.id, Intent::Change).await?;
            wire::snapshot(call.driver.create_snapshot(&id, &volume).await?)
        })
    }

    async fn delete_snapshot(&self, request: Request<api::ObjectRequest>) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.snapshot(&m.id, Intent::Change).await?;
            call.driver.delete_snapshot(&id).await?;
            api::Done {}
        })
    }

    async fn find_volume(&self, request: Request<api::ObjectRequest>) -> Answer<api::FoundVolume> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Use).await?;
            let volume = call.driver.volume(&id).await?.map(wire::volume);
            api::FoundVolume { volume }
        })
    }

    async fn volume_in_use(&self, request: Request<api::ObjectRequest>) -> Answer<api::VolumeUser> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Use).await?;
            let by = call.driver.volume_in_use(&id).await?;
            api::VolumeUser { by }
        })
    }

    async fn find_snapshot(
        &self,
        request: Request<api::ObjectRequest>,
    ) -> Answer<api::FoundSnapshot> {
        answer!(self, request, |call, m| {
            let id = call.snapshot(&m.id, Intent::Use).await?;
            let snapshot = call.driver.snapshot(&id).await?.map(wire::snapshot);
            api::FoundSnapshot { snapshot }
        })
    }

    async fn list_volumes(
        &self,
        request: Request<api::PoolRequest>,
    ) -> Answer<Self::ListVolumesStream> {
        answer!(self, request, |call, _m| {
            let mut seen = Vec::new();
            for info in call.driver.list_volumes().await? {
                if call.sees(Subject::Volume(&info.id)).await {
                    seen.push(wire::volume(info));
                }
            }
            entries(seen)
        })
    }

    async fn list_snapshots(
        &self,
        request: Request<api::PoolRequest>,
    ) -> Answer<Self::ListSnapshotsStream> {
        answer!(self, request, |call, _m| {
            let mut seen = Vec::new();
            for info in call.driver.list_snapshots().await? {
                if call
                    .sees(Subject::Snapshot(&info.id, &info.volume_id))
                    .await
                {
                    seen.push(wire::snapshot(info));
                }
            }
            entries(seen)
        })
    }

    async fn capacity(&self, request: Request<api::PoolRequest>) -> Answer<api::CapacityAnswer> {
        answer!(self, request, |call, _m| wire::capacity(
            call.driver.capacity().await?
        ))
    }

    async fn headroom(&self, request: Request<api::PoolRequest>) -> Answer<api::HeadroomAnswer> {
        answer!(self, request, |call, _m| {
            let room = call.driver.headroom().await?.map(wire::room);
            api::HeadroomAnswer { room }
        })
    }

    async fn grow_pool(&self, request: Request<api::PoolRequest>) -> Answer<api::GrowPoolAnswer> {
        answer!(self, request, |call, _m| {
            let done = call.driver.grow_pool().await?;
            api::GrowPoolAnswer { done }
        })
    }

    async fn create_export(&self, request: Request<api::ObjectRequest>) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Use).await?;
            call.driver.create_export(&id).await?;
            api::Done {}
        })
    }

    async fn initialize_connection(
        &self,
        request: Request<api::ConnectRequest>,
    ) -> Answer<api::Connection> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Use).await?;
            let host = call.host(m.host)?;
            let mode = wire::access_mode(m.mode).map_err(DriverError::InvalidArgument)?;
            let driver = &call.driver;
            wire::connection(driver.initialize_connection(&id, &host, mode).await?)
        })
    }

    async fn terminate_connection(
        &self,
        request: Request<api::DisconnectRequest>,
    ) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Use).await?;
            let host = call.host(m.host)?;
            let driver = &call.driver;
            driver.terminate_connection(&id, &host, m.force).await?;
            api::Done {}
        })
    }

    async fn remove_export(&self, request: Request<api::ObjectRequest>) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.volume(&m.id, Intent::Use).await?;
            call.driver.remove_export(&id).await?;
            api::Done {}
        })
    }

    async fn create_export_snapshot(
        &self,
        request: Request<api::ObjectRequest>,
    ) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.snapshot(&m.id, Intent::Use).await?;
            call.driver.create_export_snapshot(&id).await?;
            api::Done {}
        })
    }

    async fn initialize_connection_snapshot(
        &self,
        request: Request<api::ConnectRequest>,
    ) -> Answer<api::Connection> {
        answer!(self, request, |call, m| {
            let id = call.snapshot(&m.id, Intent::Use).await?;
            let host = call.host(m.host)?;
            let driver = &call.driver;
            wire::connection(driver.initialize_connection_snapshot(&id, &host).await?)
        })
    }

    async fn terminate_connection_snapshot(
        &self,
        request: Request<api::DisconnectRequest>,
    ) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.snapshot(&m.id, Intent::Use).await?;
            let host = call.host(m.host)?;
            let driver = &call.driver;
            let ended = driver.terminate_connection_snapshot(&id, &host, m.force);
            ended.await?;
            api::Done {}
        })
    }

    async fn remove_export_snapshot(
        &self,
        request: Request<api::ObjectRequest>,
    ) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.snapshot(&m.id, Intent::Use).await?;
            call.driver.remove_export_snapshot(&id).await?;
            api::Done {}
        })
    }

    async fn check_snapshot(&self, request: Request<api::ObjectRequest>) -> Answer<api::Done> {
        answer!(self, request, |call, m| {
            let id = call.snapshot(&m.id, Intent::Use).await?;
            call.driver.check_snapshot(&id).await?;
            api::Done {}
        })
    }

    async fn allocated_ranges(
        &self,
        request: Request<api::ObjectRequest>,
    ) -> Answer<Self::AllocatedRangesStream> {
        answer!(self, request, |call, m| {
            let id = call.snapshot(&m.id, Intent::Use).await?;
            pages(call.driver.allocated_ranges(&id).await?)
        })
    }

    async fn changed_ranges(
        &self,
        request: Request<api::ChangedRequest>,
    ) -> Answer<Self::ChangedRangesStream> {
        answer!(self, request, |call, m| {
            let base = call.snapshot(&m.base_id, Intent::Use).await?;
            let id = call.snapshot(&m.id, Intent::Use).await?;
            pages(call.driver.changed_ranges(&base, &id).await?)
        })
    }

    async fn list_exports(
        &self,
        request: Request<api::ListExportsRequest>,
    ) -> Answer<api::ListExportsAnswer> {
        let caller = self.inner.caller(self.way, &request)?;
        if caller != Caller::Local {
            let why = "exports are listed on the storage node's own socket only".to_owned();
            return Err(Refusal::Denied(why).into());
        }
        let exports = self.inner.gate.exports().await.map_err(Refusal::Driver)?;
        let exports = exports.into_iter().map(|(pool, record)| api::Export {
            name: record.name.key(),
            pool: pool.unwrap_or_default(),
            grants: record
                .grants
                .iter()
                .map(|grant| api::Grant {
                    initiator: grant.initiator.clone(),
                    mode: wire::mode(grant.mode),
                    host: grant.host.clone().unwrap_or_default(),
                    on_no_record: false,
                    logged_in: false,
                })
                .collect(),
        });
        let mut exports: Vec<_> = exports.collect();
        // What is on record can be told without the kernel.
        let unrecorded = self.inner.gate.unrecorded().await.unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "whom the kernel lets in besides cannot be told"
            );
            Vec::new()
        });
        for (pool, one) in unrecorded {
            exports.push(api::Export {
                name: one.name.key(),
                pool: pool.unwrap_or_default(),
                grants: vec![api::Grant {
                    initiator: one.initiator,
                    mode: api::AccessMode::Unspecified.into(),
                    host: String::new(),
                    on_no_record: true,
                    logged_in: one.is_logged_in,
                }],
            });
        }
        Ok(Response::new(api::ListExportsAnswer { exports }))
    }
}
