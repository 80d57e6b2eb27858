//! A manager in memory, with just enough behind it for the frontend to be tried: volumes are numbers, or sparse
//! images on loop devices; how long a restore or an upload takes is up to the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use stockpot_command::Command;
use stockpot_connector::LocalConnector;
use stockpot_driver::{AccessMode, LocalConnection};
use stockpot_proto::stockpot::v1::{
    self as api, CopyState, VolumeStatus,
    create_volume_request::Source,
    manager_server::{Manager, ManagerServer},
};
use tokio::{net::UnixListener, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// What a page of a list has when the caller does not say.
const PAGE: usize = 1000;

/// The manager's state; a test may change it between calls.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) volumes: BTreeMap<String, api::Volume>,
    pub(crate) snapshots: BTreeMap<String, api::Snapshot>,
    /// Device of each attached volume.
    pub(crate) attached: BTreeMap<String, PathBuf>,
    /// Which of them were attached read-only.
    attached_read_only: BTreeSet<String>,
    pub(crate) not_ready_reason: String,
    /// Letting go of a device fails, and the device stays.
    pub(crate) detach_fails: Option<tonic::Code>,
    /// Volumes from a source stay RESTORING until the test says otherwise.
    pub(crate) restores_hang: bool,
    /// What the metadata of the last volume or snapshot was.
    pub(crate) last_metadata: BTreeMap<String, String>,
    made: u64,
}

/// The fake.
#[derive(Debug)]
pub(crate) struct FakeManager {
    state: Mutex<State>,
    images: Option<PathBuf>,
}

/// Serves it on a unix socket until the task is aborted.
pub(crate) fn serve(manager: Arc<FakeManager>, socket: &Path) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        tonic::transport::Server::builder()
            .add_service(ManagerServer::from_arc(manager))
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .unwrap();
    })
}

impl FakeManager {
    pub(crate) fn new(images: Option<PathBuf>) -> Self {
        if let Some(images) = &images {
            std::fs::create_dir_all(images).unwrap();
        }
        Self {
            state: Mutex::default(),
            images,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The image of a volume or snapshot.
    pub(crate) fn image(&self, id: &str) -> PathBuf {
        self.images.as_ref().unwrap().join(id)
    }

    /// Makes the image of a new volume: empty, or a copy.
    async fn fill(&self, id: &str, from: Option<&str>, size_bytes: u64) -> Result<(), Status> {
        if self.images.is_none() {
            return Ok(());
        }
        let image = self.image(id);
        if let Some(from) = from {
            command("cp", &["--sparse=always"], &[&self.image(from), &image]).await?;
        }
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&image)?;
        file.set_len(size_bytes)?;
        Ok(())
    }
}

async fn command(program: &str, args: &[&str], paths: &[&Path]) -> Result<String, Status> {
    let output = Command::new(program).args(args).args(paths).run().await;
    output
        .map(|o| o.stdout_text().trim().to_owned())
        .map_err(|e| Status::internal(e.to_string()))
}

fn page<T>(
    all: Vec<(String, T)>,
    max_entries: u32,
    token: &str,
) -> Result<(Vec<T>, String), Status> {
    let start = match token.strip_prefix("after:") {
        _ if token.is_empty() => 0,
        Some(id) => all
            .iter()
            .take_while(|(other, _)| other.as_str() <= id)
            .count(),
        None => {
            return Err(Status::invalid_argument(
                "starting_token is not one of mine",
            ));
        }
    };
    let count = if max_entries == 0 {
        PAGE
    } else {
        max_entries as usize
    };
    let more = all.len() > start + count;
    let (ids, items): (Vec<_>, Vec<_>) = all.into_iter().skip(start).take(count).unzip();
    let next = ids.last().filter(|_| more).map(|id| format!("after:{id}"));
    Ok((items, next.unwrap_or_default()))
}

#[tonic::async_trait]
impl Manager for FakeManager {
    async fn get_info(
        &self,
        _: Request<api::GetInfoRequest>,
    ) -> Result<Response<api::GetInfoResponse>, Status> {
        let not_ready_reason = self.state().not_ready_reason.clone();
        Ok(Response::new(api::GetInfoResponse {
            version: "1".to_owned(),
            node_id: "node-1".to_owned(),
            node_short_id: "n1".to_owned(),
            pools: vec!["default".to_owned()],
            ready: not_ready_reason.is_empty(),
            not_ready_reason,
        }))
    }

    async fn get_capacity(
        &self,
        request: Request<api::GetCapacityRequest>,
    ) -> Result<Response<api::GetCapacityResponse>, Status> {
        if !["", "default"].contains(&request.get_ref().pool.as_str()) {
            return Err(Status::invalid_argument("there is no such pool"));
        }
        Ok(Response::new(api::GetCapacityResponse {
            available_bytes: 1 << 40,
            total_bytes: 1 << 41,
            maximum_volume_bytes: 1 << 40,
            granularity_bytes: 1 << 16,
            ..api::GetCapacityResponse::default()
        }))
    }

    async fn create_volume(
        &self,
        request: Request<api::CreateVolumeRequest>,
    ) -> Result<Response<api::Volume>, Status> {
        let request = request.into_inner();
        let (volume, from) = {
            let mut state = self.state();
            let same_name = |v: &&api::Volume| v.name == request.name;
            if let Some(volume) = state.volumes.values().find(same_name).cloned() {
                let fits = volume.size_bytes >= request.required_bytes
                    && (request.limit_bytes == 0 || volume.size_bytes <= request.limit_bytes);
                return if fits {
                    Ok(Response::new(volume))
                } else {
                    Err(Status::already_exists("another size"))
                };
            }
            state.last_metadata = request.metadata.clone().into_iter().collect();
            let mut volume = api::Volume {
                name: request.name,
                size_bytes: request.required_bytes,
                status: VolumeStatus::Available.into(),
                metadata: request.metadata,
                ..Default::default()
            };
            let from = match request.source {
                None => None,
                Some(Source::VolumeId(id)) => {
                    let size = state.volumes.get(&id).map(|v| v.size_bytes);
                    let size = size.ok_or_else(|| Status::not_found("no such volume"))?;
                    volume.source_volume_id.clone_from(&id);
                    Some((id, size))
                }
                Some(Source::Snapshot(source)) => {
                    let snapshot = state.snapshots.get(&source.snapshot_id);
                    let snapshot = snapshot.ok_or_else(|| Status::not_found("no such snapshot"))?;
                    let size = snapshot.size_bytes;
                    let id = source.snapshot_id.clone();
                    volume.source_snapshot = Some(source);
                    Some((id, size))
                }
            };
            if let Some((_, size)) = &from {
                if volume.size_bytes != 0 && volume.size_bytes < *size {
                    return Err(Status::out_of_range("smaller than its source"));
                }
                volume.size_bytes = volume.size_bytes.max(*size);
                if state.restores_hang {
                    volume.status = VolumeStatus::Restoring.into();
                }
            }
            state.made += 1;
            volume.volume_id = format!("vol-n1-{}", state.made);
            (volume, from.map(|(id, _)| id))
        };
        self.fill(&volume.volume_id, from.as_deref(), volume.size_bytes)
            .await?;
        let mut state = self.state();
        state
            .volumes
            .insert(volume.volume_id.clone(), volume.clone());
        Ok(Response::new(volume))
    }

    async fn wait_volume(
        &self,
        request: Request<api::GetVolumeRequest>,
    ) -> Result<Response<api::Volume>, Status> {
        let id = request.into_inner().volume_id;
        loop {
            let volume = self.state().volumes.get(&id).cloned();
            let volume = volume.ok_or_else(|| Status::not_found("no such volume"))?;
            if volume.status() != VolumeStatus::Restoring {
                return Ok(Response::new(volume));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn get_volume(
        &self,
        request: Request<api::GetVolumeRequest>,
    ) -> Result<Response<api::Volume>, Status> {
        let volume = self
            .state()
            .volumes
            .get(&request.get_ref().volume_id)
            .cloned();
        volume
            .map(Response::new)
            .ok_or_else(|| Status::not_found("no such volume"))
    }

    async fn list_volumes(
        &self,
        request: Request<api::ListVolumesRequest>,
    ) -> Result<Response<api::ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let all = self.state().volumes.clone().into_iter().collect();
        let (volumes, next_token) = page(all, request.max_entries, &request.starting_token)?;
        Ok(Response::new(api::ListVolumesResponse {
            volumes,
            next_token,
        }))
    }

    async fn delete_volume(
        &self,
        request: Request<api::DeleteVolumeRequest>,
    ) -> Result<Response<api::DeleteVolumeResponse>, Status> {
        let id = request.into_inner().volume_id;
        let mut state = self.state();
        if state.attached.contains_key(&id) {
            return Err(Status::failed_precondition("the volume is attached"));
        }
        if state.volumes.remove(&id).is_some() && self.images.is_some() {
            std::fs::remove_file(self.image(&id))?;
        }
        Ok(Response::new(api::DeleteVolumeResponse {}))
    }

    async fn extend_volume(
        &self,
        request: Request<api::ExtendVolumeRequest>,
    ) -> Result<Response<api::Volume>, Status> {
        let request = request.into_inner();
        let (volume, device) = {
            let mut state = self.state();
            let device = state.attached.get(&request.volume_id).cloned();
            let volume = state.volumes.get_mut(&request.volume_id);
            let volume = volume.ok_or_else(|| Status::not_found("no such volume"))?;
            volume.size_bytes = volume.size_bytes.max(request.required_bytes);
            (volume.clone(), device)
        };
        self.fill(&volume.volume_id, None, volume.size_bytes)
            .await?;
        if let Some(device) = device {
            command("losetup", &["--set-capacity"], &[&device]).await?;
        }
        Ok(Response::new(volume))
    }

    async fn attach_volume(
        &self,
        request: Request<api::AttachVolumeRequest>,
    ) -> Result<Response<api::AttachVolumeResponse>, Status> {
        let id = request.get_ref().volume_id.clone();
        let volume = self.state().volumes.get(&id).cloned();
        let volume = volume.ok_or_else(|| Status::not_found("no such volume"))?;
        let there = self.state().attached.get(&id).cloned();
        let held_read_only = self.state().attached_read_only.contains(&id);
        let api::AttachVolumeRequest {
            read_only,
            as_attached,
            ..
        } = *request.get_ref();
        let connection = |device_path: &Path, read_only| LocalConnection {
            device_path: device_path.to_owned(),
            access_mode: match read_only {
                true => AccessMode::ReadOnly,
                false => AccessMode::ReadWrite,
            },
            size_bytes: volume.size_bytes,
        };
        let connector = LocalConnector::default();
        let (device, checked) = match there {
            None if as_attached => return Err(Status::failed_precondition("not attached")),
            Some(_) if !as_attached && read_only != held_read_only => {
                return Err(Status::failed_precondition("another access mode"));
            }
            Some(device) => {
                let connection = connection(&device, held_read_only);
                (device, connector.confirm(&connection).await)
            }
            None => {
                let args: &[&str] = match read_only {
                    true => &["--find", "--show", "--read-only"],
                    false => &["--find", "--show"],
                };
                let device = PathBuf::from(command("losetup", args, &[&self.image(&id)]).await?);
                self.state().attached.insert(id.clone(), device.clone());
                if read_only {
                    self.state().attached_read_only.insert(id);
                }
                let connection = connection(&device, read_only);
                (device, connector.connect(&connection).await)
            }
        };
        checked.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(api::AttachVolumeResponse {
            device_path: device.display().to_string(),
            size_bytes: volume.size_bytes,
            has_content_source: volume.source_snapshot.is_some()
                || !volume.source_volume_id.is_empty(),
        }))
    }

    async fn detach_volume(
        &self,
        request: Request<api::DetachVolumeRequest>,
    ) -> Result<Response<api::DetachVolumeResponse>, Status> {
        let id = &request.get_ref().volume_id;
        if let Some(code) = self.state().detach_fails {
            return Err(Status::new(code, "made to fail"));
        }
        let device = self.state().attached.remove(id);
        self.state().attached_read_only.remove(id);
        if let Some(device) = device {
            command("losetup", &["--detach"], &[&device]).await?;
        }
        Ok(Response::new(api::DetachVolumeResponse {}))
    }

    async fn create_snapshot(
        &self,
        request: Request<api::CreateSnapshotRequest>,
    ) -> Result<Response<api::Snapshot>, Status> {
        let request = request.into_inner();
        let snapshot = {
            let mut state = self.state();
            let same_name = |s: &&api::Snapshot| s.name == request.name;
            if let Some(snapshot) = state.snapshots.values().find(same_name) {
                return if snapshot.source_volume_id == request.source_volume_id {
                    Ok(Response::new(snapshot.clone()))
                } else {
                    Err(Status::already_exists("of another volume"))
                };
            }
            if !["", "offsite"].contains(&request.profile.as_str()) {
                return Err(Status::invalid_argument("there is no such profile"));
            }
            let volume = state.volumes.get(&request.source_volume_id);
            let volume = volume.ok_or_else(|| Status::not_found("no such volume"))?;
            let size_bytes = volume.size_bytes;
            state.last_metadata = request.metadata.clone().into_iter().collect();
            state.made += 1;
            let cloud = match request.profile.as_str() {
                "" => CopyState::None,
                _ => CopyState::Pending,
            };
            let snapshot = api::Snapshot {
                snapshot_id: format!("snap-r1-{}", state.made),
                name: request.name,
                source_volume_id: request.source_volume_id,
                size_bytes,
                cut_at: Some(SystemTime::now().into()),
                local: CopyState::Present.into(),
                cloud: cloud.into(),
                ready: request.profile.is_empty(),
                profile: request.profile,
                ..Default::default()
            };
            let id = snapshot.snapshot_id.clone();
            state.snapshots.insert(id, snapshot.clone());
            snapshot
        };
        let (id, from) = (&snapshot.snapshot_id, &snapshot.source_volume_id);
        self.fill(id, Some(from), snapshot.size_bytes).await?;
        Ok(Response::new(snapshot))
    }

    async fn get_snapshot(
        &self,
        request: Request<api::GetSnapshotRequest>,
    ) -> Result<Response<api::Snapshot>, Status> {
        let snapshot = self
            .state()
            .snapshots
            .get(&request.get_ref().snapshot_id)
            .cloned();
        snapshot
            .map(Response::new)
            .ok_or_else(|| Status::not_found("no such snapshot"))
    }

    async fn list_snapshots(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Result<Response<api::ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let matches = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        let all = self.state().snapshots.clone().into_iter();
        let all = all
            .filter(|(id, s)| {
                matches(&request.snapshot_id, id)
                    && matches(&request.source_volume_id, &s.source_volume_id)
            })
            .collect();
        let (snapshots, next_token) = page(all, request.max_entries, &request.starting_token)?;
        Ok(Response::new(api::ListSnapshotsResponse {
            snapshots,
            next_token,
            warnings: Vec::new(),
        }))
    }

    type WatchSnapshotStream = tokio_stream::Once<Result<api::Snapshot, Status>>;

    async fn watch_snapshot(
        &self,
        request: Request<api::GetSnapshotRequest>,
    ) -> Result<Response<Self::WatchSnapshotStream>, Status> {
        let snapshot = self.get_snapshot(request).await?.into_inner();
        Ok(Response::new(tokio_stream::once(Ok(snapshot))))
    }

    async fn delete_snapshot(
        &self,
        request: Request<api::DeleteSnapshotRequest>,
    ) -> Result<Response<api::DeleteSnapshotResponse>, Status> {
        self.state()
            .snapshots
            .remove(&request.get_ref().snapshot_id);
        Ok(Response::new(api::DeleteSnapshotResponse {}))
    }

    async fn list_profiles(
        &self,
        _: Request<api::ListProfilesRequest>,
    ) -> Result<Response<api::ListProfilesResponse>, Status> {
        Ok(Response::new(api::ListProfilesResponse::default()))
    }
}
