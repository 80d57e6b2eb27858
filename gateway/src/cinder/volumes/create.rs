//! Asking for a volume.

use std::collections::BTreeMap;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stockpot_proto::stockpot::v1::{
    self as api, SourceCopy, create_volume_request::Source as ApiSource,
};
use utoipa::ToSchema;

use super::{find, own_name, view};
use crate::{
    cinder::{
        Body, Fault, Made,
        asked::{Asked, ProjectPath},
        backups, bad_input,
        fields::{self, Flag, Gib, given},
        made, not_found, refused, snapshots,
        words::Words,
    },
    state::Gateway,
};

/// The body of a call that makes a volume.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cinder) struct CreateVolume {
    volume: NewVolume,
    /// There is nothing to schedule: one node has it.
    #[serde(default, rename = "OS-SCH-HNT:scheduler_hints")]
    #[schema(value_type = Option<Object>)]
    #[expect(
        dead_code,
        reason = "taken, so that no client is refused that sends it"
    )]
    hints: Option<Value>,
}

/// What a volume is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewVolume {
    /// In GiB; may be missing where there is a source.
    #[serde(default)]
    size: Option<Gib>,
    #[serde(default, alias = "display_name")]
    name: Option<String>,
    #[serde(default, alias = "display_description")]
    description: Option<String>,
    #[serde(default)]
    snapshot_id: Option<String>,
    /// A volume that is copied.
    #[serde(default)]
    source_volid: Option<String>,
    /// From 3.47 on.
    #[serde(default)]
    backup_id: Option<String>,
    /// The name of a pool.
    #[serde(default)]
    volume_type: Option<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    availability_zone: Option<String>,
    #[serde(default)]
    multiattach: Option<Flag>,
    /// Images are not known here: only null.
    #[serde(default, rename = "imageRef")]
    image: Option<String>,
    /// Groups are not known here: only null.
    #[serde(default)]
    consistencygroup_id: Option<String>,
    /// Groups are not known here: only null.
    #[serde(default)]
    group_id: Option<String>,
}

/// Makes a volume: empty, from a snapshot, from a volume or from a backup.
#[utoipa::path(post, path = "/volumes", tag = "cinder", operation_id = "cinder_create_volume",
    params(ProjectPath), request_body = CreateVolume,
    responses((status = 202, description = "it is being made", body = Value),
        (status = 400, description = "the request does not fit"),
        (status = 404, description = "its source is not there"),
        (status = 413, description = "there is no room")))]
pub(in crate::cinder) async fn create(
    asked: Asked,
    State(gateway): State<Gateway>,
    body: Body<CreateVolume>,
) -> Result<Made, Fault> {
    let wanted = body.0.volume;
    wanted.check()?;
    let mut words = Words {
        metadata: wanted.metadata.clone().unwrap_or_default(),
        ..Words::new(
            &asked,
            given(wanted.name.clone()),
            given(wanted.description.clone()),
        )
    };
    let source = wanted.source()?;
    let source = match source {
        Source::Backup(_) if !asked.version.has(47) => {
            return Err(bad_input("backup_id is taken from version 3.47 on"));
        }
        Source::Backup(id) => {
            let backup = backups::find(&gateway, &id).await?;
            backups::restore::check_available(&backup)?;
            let source = backups::restore::source(&backup);
            words.backup = Some(backup.backup_id);
            Some(source)
        }
        Source::Snapshot(id) => Some(ApiSource::Snapshot(api::SnapshotSource {
            snapshot_id: snapshots::find(&gateway, &id).await?.snapshot_id,
            copy: SourceCopy::Auto.into(),
        })),
        Source::Volume(id) => Some(ApiSource::VolumeId(find(&gateway, &id).await?.volume_id)),
        Source::None => None,
    };
    let pool = match given(wanted.volume_type) {
        Some(pool) => {
            check_pool(&gateway, &pool).await?;
            pool
        }
        None => String::new(),
    };
    let request = api::CreateVolumeRequest {
        name: own_name(),
        required_bytes: wanted.size.map_or(0, Gib::bytes),
        pool,
        source,
        metadata: words.write(),
        ..Default::default()
    };
    let new = gateway.manager.manager().create_volume(request).await;
    let new = new.map_err(refused("volume"))?.into_inner();
    let body = json!({"volume": view::entry(&asked, &new).view});
    Ok(made(StatusCode::ACCEPTED, new.volume_id, body))
}

/// Where the content comes from.
enum Source {
    None,
    Snapshot(String),
    Volume(String),
    Backup(String),
}

impl NewVolume {
    fn check(&self) -> Result<(), Fault> {
        let texts = [
            ("name", &self.name),
            ("description", &self.description),
            ("volume_type", &self.volume_type),
        ];
        for (field, text) in texts {
            fields::check_len(field, text.as_deref().unwrap_or_default())?;
        }
        if let Some(metadata) = &self.metadata {
            fields::check_metadata(metadata)?;
        }
        fields::check_zone(self.availability_zone.as_deref())?;
        let unknown = [
            ("imageRef", &self.image),
            ("consistencygroup_id", &self.consistencygroup_id),
            ("group_id", &self.group_id),
        ];
        for (field, value) in unknown {
            if value.as_deref().is_some_and(|value| !value.is_empty()) {
                return Err(bad_input(format!("{field} is not supported: leave it out")));
            }
        }
        if self.multiattach == Some(Flag(true)) {
            return Err(bad_input(
                "multiattach is not supported: a volume is attached once",
            ));
        }
        Ok(())
    }

    fn source(&self) -> Result<Source, Fault> {
        let snapshot = given(self.snapshot_id.clone()).map(Source::Snapshot);
        let volume = given(self.source_volid.clone()).map(Source::Volume);
        let backup = given(self.backup_id.clone()).map(Source::Backup);
        match (snapshot, volume, backup) {
            (None, None, None) if self.size.is_none() => {
                Err(bad_input("an empty volume needs a size, in GiB"))
            }
            (None, None, None) => Ok(Source::None),
            (Some(source), None, None)
            | (None, Some(source), None)
            | (None, None, Some(source)) => Ok(source),
            _ => Err(bad_input(
                "snapshot_id, source_volid and backup_id exclude each other: name one",
            )),
        }
    }
}

/// A volume type is a pool.
async fn check_pool(gateway: &Gateway, pool: &str) -> Result<(), Fault> {
    let info = gateway
        .manager
        .manager()
        .get_info(api::GetInfoRequest {})
        .await?;
    if info.into_inner().pools.iter().any(|name| name == pool) {
        return Ok(());
    }
    Err(not_found("Volume type", pool))
}
