//! The calls of `stockpot.v1`: one span each, one line of translation each.

mod backups;
mod catalog;
mod profiles;
mod schedules;
mod streams;
mod volumes;
mod watch;

use std::sync::Arc;

use stockpot_proto::stockpot::v1::{
    self as api, delete_snapshot_request::Only, manager_server::Manager as Calls,
};
use tonic::{Request, Response, Status};
use tracing::{Instrument, info_span};

use crate::{
    Manager, ManagerError,
    catalog::{Deleting, SnapshotRow},
    manager::Readiness,
    page,
    translate::CloudTruth,
};

/// Serves a manager's calls.
#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Manager>);

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// The manager, if it takes operations.
    fn manager(&self) -> Result<Arc<Manager>, ManagerError> {
        self.0.check_ready()?;
        Ok(self.0.clone())
    }
}

#[tonic::async_trait]
impl Calls for Service {
    async fn get_info(&self, _: Request<api::GetInfoRequest>) -> Answer<api::GetInfoResponse> {
        let manager = &self.0;
        let (ready, not_ready_reason) = match manager.readiness() {
            _ if manager.stopping.is_cancelled() => (false, "stopping".to_owned()),
            Readiness::Ready => (true, String::new()),
            Readiness::Recovering => (false, "recovering".to_owned()),
            Readiness::Failed(why) => (false, why),
        };
        Ok(Response::new(api::GetInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: manager.config.node_name.clone(),
            node_short_id: manager.node.to_string(),
            pools: manager.pools.keys().cloned().collect(),
            ready,
            not_ready_reason,
        }))
    }

    async fn get_capacity(
        &self,
        request: Request<api::GetCapacityRequest>,
    ) -> Answer<api::GetCapacityResponse> {
        let manager = self.manager()?;
        let request = request.into_inner();
        let pool = manager.pool_of(&request.pool)?;
        let driver = manager.driver(pool)?;
        let capacity = driver.capacity().await;
        let capacity = capacity.map_err(ManagerError::from)?;
        let kept = manager.catalog.bases_kept_in(pool).await;
        let kept = kept.map_err(ManagerError::from)?;
        Ok(Response::new(api::GetCapacityResponse {
            available_bytes: capacity.available_bytes,
            total_bytes: capacity.total_bytes,
            maximum_volume_bytes: capacity.maximum_volume_bytes,
            granularity_bytes: capacity.granularity_bytes,
            driver: driver.name().to_owned(),
            kept_bases: kept.count,
            kept_bases_bytes_max: kept.bytes_max,
        }))
    }

    async fn create_volume(
        &self,
        request: Request<api::CreateVolumeRequest>,
    ) -> Answer<api::Volume> {
        let request = request.into_inner();
        let span = info_span!("create_volume", name = request.name);
        let manager = self.manager()?;
        let work = manager.clone().create_volume(request);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_volume(&row)))
    }

    async fn wait_volume(&self, request: Request<api::GetVolumeRequest>) -> Answer<api::Volume> {
        let manager = self.manager()?;
        let row = manager.wait_volume(&request.into_inner().volume_id).await?;
        Ok(Response::new(manager.describe_volume(&row)))
    }

    async fn get_volume(&self, request: Request<api::GetVolumeRequest>) -> Answer<api::Volume> {
        let manager = self.manager()?;
        let row = manager.volume_row(&request.into_inner().volume_id).await?;
        let mut described = manager.describe_volumes(std::slice::from_ref(&row)).await?;
        let volume = described.pop();
        Ok(Response::new(volume.expect("one row is one volume")))
    }

    async fn list_volumes(
        &self,
        request: Request<api::ListVolumesRequest>,
    ) -> Answer<api::ListVolumesResponse> {
        let manager = self.manager()?;
        let request = request.into_inner();
        let after = page::parse(&request.starting_token)?;
        let rows = manager.catalog.volumes().await;
        let rows = rows.map_err(ManagerError::from)?;
        let page = page::cut(rows, after, request.max_entries, |row| row.id.as_str());
        Ok(Response::new(api::ListVolumesResponse {
            volumes: manager.describe_volumes(&page.entries).await?,
            next_token: page.next_token,
        }))
    }

    async fn delete_volume(
        &self,
        request: Request<api::DeleteVolumeRequest>,
    ) -> Answer<api::DeleteVolumeResponse> {
        let id = request.into_inner().volume_id;
        let span = info_span!("delete_volume", volume_id = id);
        let manager = self.manager()?;
        let work = manager.clone().delete_volume(id);
        manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(api::DeleteVolumeResponse {}))
    }

    async fn extend_volume(
        &self,
        request: Request<api::ExtendVolumeRequest>,
    ) -> Answer<api::Volume> {
        let request = request.into_inner();
        let span = info_span!("extend_volume", volume_id = request.volume_id);
        let manager = self.manager()?;
        let work = manager.clone().extend_volume(request);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_volume(&row)))
    }

    async fn attach_volume(
        &self,
        request: Request<api::AttachVolumeRequest>,
    ) -> Answer<api::AttachVolumeResponse> {
        let request = request.into_inner();
        let span = info_span!("attach_volume", volume_id = request.volume_id);
        let manager = self.manager()?;
        let work = manager.clone().attach_volume(request);
        let attached = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(attached))
    }

    async fn detach_volume(
        &self,
        request: Request<api::DetachVolumeRequest>,
    ) -> Answer<api::DetachVolumeResponse> {
        let id = request.into_inner().volume_id;
        let span = info_span!("detach_volume", volume_id = id);
        let manager = self.manager()?;
        let work = manager.clone().detach_volume(id);
        manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(api::DetachVolumeResponse {}))
    }

    async fn create_snapshot(
        &self,
        request: Request<api::CreateSnapshotRequest>,
    ) -> Answer<api::Snapshot> {
        let request = request.into_inner();
        let span = info_span!(
            "create_snapshot",
            name = request.name,
            volume_id = request.source_volume_id
        );
        let manager = self.manager()?;
        let work = manager.clone().create_snapshot(request);
        let row = manager.to_the_end(work).instrument(span).await?;
        let snapshot = manager
            .describe_snapshot(&row, CloudTruth::AsRecorded)
            .await?;
        Ok(Response::new(snapshot))
    }

    async fn get_snapshot(
        &self,
        request: Request<api::GetSnapshotRequest>,
    ) -> Answer<api::Snapshot> {
        let manager = self.manager()?;
        let id = request.into_inner().snapshot_id;
        match manager.one_snapshot(&id).await? {
            Some(snapshot) => Ok(Response::new(snapshot)),
            None => Err(ManagerError::NotFound(format!("snapshot {id:?}")).into()),
        }
    }

    async fn list_snapshots(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Answer<api::ListSnapshotsResponse> {
        let manager = self.manager()?;
        let (page, warnings) = manager.list_snapshots(request.into_inner()).await?;
        Ok(Response::new(api::ListSnapshotsResponse {
            snapshots: page.entries,
            next_token: page.next_token,
            warnings,
        }))
    }

    type WatchSnapshotStream = watch::Changes<api::Snapshot>;

    async fn watch_snapshot(
        &self,
        request: Request<api::GetSnapshotRequest>,
    ) -> Answer<Self::WatchSnapshotStream> {
        let manager = self.manager()?;
        let id = request.into_inner().snapshot_id;
        let look = move |manager: Arc<Manager>| {
            let id = id.clone();
            async move { snapshot_now(&manager, &id).await }
        };
        Ok(Response::new(watch::stream(manager, look)))
    }

    async fn delete_snapshot(
        &self,
        request: Request<api::DeleteSnapshotRequest>,
    ) -> Answer<api::DeleteSnapshotResponse> {
        let request = request.into_inner();
        let which = match request.only {
            Some(Only::LocalOnly(true)) => Deleting::Local,
            Some(Only::CloudOnly(true)) => Deleting::Cloud,
            None | Some(Only::LocalOnly(false) | Only::CloudOnly(false)) => Deleting::Both,
        };
        let span = info_span!("delete_snapshot", snapshot_id = request.snapshot_id);
        let manager = self.manager()?;
        let work = manager.clone().delete_snapshot(request.snapshot_id, which);
        manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(api::DeleteSnapshotResponse {}))
    }

    async fn list_profiles(
        &self,
        _: Request<api::ListProfilesRequest>,
    ) -> Answer<api::ListProfilesResponse> {
        let manager = self.manager()?;
        let profiles = manager.clouds.all_profiles().await?;
        let profiles = profiles.iter().map(|profile| {
            let topology = profile.topology().ok();
            api::Profile {
                name: profile.name.clone(),
                description: profile.description.clone(),
                has_topology: topology.is_some(),
                location: topology.map(|t| t.location()).unwrap_or_default(),
            }
        });
        Ok(Response::new(api::ListProfilesResponse {
            profiles: profiles.collect(),
        }))
    }
}

async fn snapshot_now(manager: &Manager, id: &str) -> Result<(api::Snapshot, bool), ManagerError> {
    let absent = || ManagerError::NotFound(format!("snapshot {id:?}"));
    let parsed = id.parse().map_err(|_| absent())?;
    let Some(row) = manager.catalog.snapshot(&parsed).await? else {
        // Not on record: what a bucket says of it does not change.
        let snapshot = manager.one_snapshot(id).await?.ok_or_else(absent)?;
        return Ok((snapshot, true));
    };
    let snapshot = manager
        .describe_snapshot(&row, CloudTruth::AsRecorded)
        .await?;
    Ok((snapshot, is_final(&row)))
}

fn is_final(row: &SnapshotRow) -> bool {
    use crate::catalog::CopyState::Pending;
    row.local != Pending && row.cloud != Pending && row.deleting.is_none()
}
