//! Volumes: empty, from a snapshot's local or cloud copy, or from another volume.

use std::collections::HashMap;

use stockpot_proto::{
    csi::v1::{
        ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, CreateVolumeRequest,
        CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, TopologyRequirement,
        Volume, VolumeContentSource,
        volume_content_source::{self as content, Type as Content},
    },
    stockpot::v1::{self as api, SourceCopy, VolumeStatus, create_volume_request::Source},
};
use tonic::Status;

use super::ControllerService;
use crate::{
    codes,
    deadline::Deadline,
    request::{self, Access, Capability, Capacity, RequestError, is_id},
};

/// Size of an empty volume when nothing is asked for, in bytes.
const DEFAULT_SIZE_BYTES: u64 = 1 << 30;

/// What a storage class says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VolumeParameters {
    /// Empty: the default pool.
    pub(super) pool: String,
    pub(super) source_copy: SourceCopy,
}

impl VolumeParameters {
    pub(super) fn parse(parameters: &HashMap<String, String>) -> Result<Self, RequestError> {
        request::only_known(parameters, &["pool", "sourceCopy"], "pool, sourceCopy")?;
        let source_copy = match parameters.get("sourceCopy").map(String::as_str) {
            None | Some("auto") => SourceCopy::Auto,
            Some("local") => SourceCopy::Local,
            Some("cloud") => SourceCopy::Cloud,
            Some(other) => {
                return Err(RequestError::Invalid {
                    field: "sourceCopy",
                    why: format!("{other:?} is none of auto, local, cloud"),
                });
            }
        };
        Ok(Self {
            pool: parameters.get("pool").cloned().unwrap_or_default(),
            source_copy,
        })
    }
}

/// Makes the volume and waits for it as long as the caller does; the work goes on behind, and asking again finds it.
pub(super) async fn create(
    service: &ControllerService,
    request: CreateVolumeRequest,
    deadline: Deadline,
) -> Result<CreateVolumeResponse, Status> {
    let request = translate(service, request)?;
    let mut volume = service.manager.create_volume(request).await?;
    if is_under_way(&volume) {
        let waited = tokio::select! {
            waited = service.manager.wait_volume(&volume.volume_id, deadline.left()) => waited?,
            () = service.stopping.cancelled() => None,
        };
        volume = waited.unwrap_or(volume);
    }
    match volume.status() {
        VolumeStatus::Available
        | VolumeStatus::InUse
        | VolumeStatus::BackingUp
        | VolumeStatus::Extending => Ok(CreateVolumeResponse {
            volume: Some(answer(service, volume)),
        }),
        VolumeStatus::Error => Err(codes::carried(volume.error_code, &volume.error)),
        VolumeStatus::Deleting => Err(Status::aborted("a volume of this name is being deleted")),
        VolumeStatus::Creating | VolumeStatus::Restoring | VolumeStatus::Unspecified => {
            Err(Status::aborted(progress(&volume)))
        }
    }
}

/// Removes the volume; what is in a bucket stays.
pub(super) async fn delete(
    service: &ControllerService,
    request: DeleteVolumeRequest,
) -> Result<DeleteVolumeResponse, Status> {
    if request.volume_id.is_empty() {
        return Err(RequestError::Missing { field: "volume_id" }.into());
    }
    // Nothing can have such an id: it is as good as deleted.
    if is_id(&request.volume_id) {
        let request = api::DeleteVolumeRequest {
            volume_id: request.volume_id,
        };
        service.manager.delete_volume(request).await?;
    }
    Ok(DeleteVolumeResponse {})
}

/// Grows the device; the file system on it grows on the node.
pub(super) async fn expand(
    service: &ControllerService,
    request: ControllerExpandVolumeRequest,
) -> Result<ControllerExpandVolumeResponse, Status> {
    request::existing_id("volume_id", "volume", &request.volume_id)?;
    let Some(range) = &request.capacity_range else {
        let field = "capacity_range";
        return Err(RequestError::Missing { field }.into());
    };
    let capacity = Capacity::parse(Some(range))?;
    let capability = match &request.volume_capability {
        Some(capability) => Some(Capability::parse(Some(capability))?),
        None => None,
    };
    let volume = service
        .manager
        .extend_volume(api::ExtendVolumeRequest {
            volume_id: request.volume_id,
            required_bytes: capacity.required_bytes,
            limit_bytes: capacity.limit(),
        })
        .await?;
    Ok(ControllerExpandVolumeResponse {
        capacity_bytes: size(volume.size_bytes),
        node_expansion_required: capability.is_none_or(|c| c.access != Access::Block),
    })
}

/// A volume in the words of the interface.
pub(super) fn answer(service: &ControllerService, volume: api::Volume) -> Volume {
    let source = match (volume.source_snapshot, volume.source_volume_id) {
        (Some(source), _) => Some(Content::Snapshot(content::SnapshotSource {
            snapshot_id: source.snapshot_id,
        })),
        (None, id) if !id.is_empty() => {
            Some(Content::Volume(content::VolumeSource { volume_id: id }))
        }
        (None, _) => None,
    };
    Volume {
        capacity_bytes: size(volume.size_bytes),
        volume_id: volume.volume_id,
        volume_context: HashMap::new(),
        content_source: source.map(|source| VolumeContentSource {
            r#type: Some(source),
        }),
        accessible_topology: vec![service.topology()],
    }
}

/// A size as the interface wants it.
pub(super) fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Refuses what belongs to a capability that is not claimed.
pub(super) fn no_mutable_parameters(
    parameters: &HashMap<String, String>,
) -> Result<(), RequestError> {
    request::only_known(parameters, &[], "none that can be changed later")
}

fn is_under_way(volume: &api::Volume) -> bool {
    matches!(
        volume.status(),
        VolumeStatus::Creating | VolumeStatus::Restoring
    )
}

/// Checks the request and says it in the manager's words.
fn translate(
    service: &ControllerService,
    request: CreateVolumeRequest,
) -> Result<api::CreateVolumeRequest, RequestError> {
    request::name(&request.name)?;
    let capabilities = Capability::parse_all(&request.volume_capabilities)?;
    let mut capacity = Capacity::parse(request.capacity_range.as_ref())?;
    let parameters = VolumeParameters::parse(&request.parameters)?;
    no_mutable_parameters(&request.mutable_parameters)?;
    check_topology(service, request.accessibility_requirements.as_ref())?;
    let source = parse_source(request.volume_content_source, parameters.source_copy)?;
    if source.is_none() && capacity.required_bytes == 0 {
        capacity.required_bytes = match capacity.limit_bytes {
            0 => DEFAULT_SIZE_BYTES,
            limit => limit.min(DEFAULT_SIZE_BYTES),
        };
    }
    let mut metadata = request::orchestrator_names(&request.parameters);
    describe(&capabilities, &mut metadata);
    Ok(api::CreateVolumeRequest {
        name: request.name,
        required_bytes: capacity.required_bytes,
        limit_bytes: capacity.limit(),
        pool: parameters.pool,
        source,
        metadata,
    })
}

fn parse_source(
    source: Option<VolumeContentSource>,
    copy: SourceCopy,
) -> Result<Option<Source>, RequestError> {
    let Some(source) = source else {
        return Ok(None);
    };
    match source.r#type {
        Some(Content::Snapshot(content::SnapshotSource { snapshot_id })) => {
            request::existing_id("snapshot_id", "snapshot", &snapshot_id)?;
            Ok(Some(Source::Snapshot(api::SnapshotSource {
                snapshot_id,
                copy: copy.into(),
            })))
        }
        Some(Content::Volume(content::VolumeSource { volume_id })) => {
            request::existing_id("volume_id", "volume", &volume_id)?;
            Ok(Some(Source::VolumeId(volume_id)))
        }
        None => Err(RequestError::Invalid {
            field: "volume_content_source",
            why: "is neither a snapshot nor a volume".to_owned(),
        }),
    }
}

/// Whether one of the nodes asked for is this one.
fn check_topology(
    service: &ControllerService,
    requirement: Option<&TopologyRequirement>,
) -> Result<(), RequestError> {
    let Some(requirement) = requirement else {
        return Ok(());
    };
    if requirement.requisite.is_empty() || requirement.requisite.iter().any(|t| service.matches(t))
    {
        return Ok(());
    }
    Err(RequestError::Unreachable {
        node_id: service.node_id.clone(),
    })
}

/// What the volume is for; kept with it, and compared when the name is used again.
fn describe(capabilities: &[Capability], metadata: &mut HashMap<String, String>) {
    let mut modes = Vec::new();
    for capability in capabilities {
        modes.push(match &capability.access {
            Access::Block => "block",
            Access::Mount { fs, .. } => {
                if let Some(fs) = fs {
                    metadata.insert("fs_type".to_owned(), fs.name().to_owned());
                }
                "filesystem"
            }
        });
    }
    modes.sort_unstable();
    modes.dedup();
    metadata.insert("volume_mode".to_owned(), modes.join(","));
}

/// Why the caller has to ask again.
fn progress(volume: &api::Volume) -> String {
    let doing = match volume.status() {
        VolumeStatus::Restoring => "restored",
        _ => "made",
    };
    match &volume.progress {
        Some(progress) if progress.bytes_total > 0 => format!(
            "volume {} is still being {doing} ({} of {} bytes): ask again",
            volume.volume_id, progress.bytes_done, progress.bytes_total
        ),
        _ => format!(
            "volume {} is still being {doing}: ask again",
            volume.volume_id
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let of = |pairs: &[(&str, &str)]| {
            let map = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
            VolumeParameters::parse(&map.collect())
        };
        assert_eq!(of(&[]).unwrap().source_copy, SourceCopy::Auto);
        let parsed = of(&[("pool", "fast"), ("sourceCopy", "cloud")]).unwrap();
        assert_eq!(parsed.pool, "fast");
        assert_eq!(parsed.source_copy, SourceCopy::Cloud);
        assert!(of(&[("sourceCopy", "Cloud")]).is_err());
        let error = of(&[("zz", ""), ("aa", "")]).unwrap_err().to_string();
        assert!(error.contains("aa, zz"), "{error}");
    }

    #[test]
    fn tells_how_far_a_restore_is() {
        let volume = api::Volume {
            volume_id: "v1".to_owned(),
            status: VolumeStatus::Restoring.into(),
            progress: Some(api::Progress {
                bytes_total: 10,
                bytes_done: 4,
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            progress(&volume),
            "volume v1 is still being restored (4 of 10 bytes): ask again"
        );
    }
}
