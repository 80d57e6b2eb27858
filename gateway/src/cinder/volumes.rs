//! Volumes, as far as backups need them.

pub(super) mod change;
pub(super) mod create;
pub(super) mod list;
mod view;

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;
use ulid::Ulid;

use super::{Fault, ids, listed, not_found, refused};
use crate::state::Gateway;

/// As in the path.
const COLLECTION: &str = "volumes";

/// The volume of an id, the manager's or Cinder's.
pub(super) async fn find(gateway: &Gateway, id: &str) -> Result<api::Volume, Fault> {
    let absent = || not_found("Volume", id);
    let Some(end) = ids::end_of(id) else {
        return get(gateway, id.to_owned()).await?.ok_or_else(absent);
    };
    let ours = format!("vol-{}-{end}", listed::node(gateway).await?);
    if let Some(found) = get(gateway, ours).await? {
        return Ok(found);
    }
    let mut all = listed::volumes(gateway).await?.into_iter();
    all.find(|volume| ids::ends(&volume.volume_id, &end))
        .ok_or_else(absent)
}

async fn get(gateway: &Gateway, volume_id: String) -> Result<Option<api::Volume>, Fault> {
    let request = api::GetVolumeRequest { volume_id };
    match gateway.manager.manager().get_volume(request).await {
        Ok(found) => Ok(Some(found.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(refused("volume")(status)),
    }
}

/// The manager's name for a new volume: there it is unique, in Cinder it need not be.
pub(super) fn own_name() -> String {
    format!(
        "volume-{}",
        Ulid::generate().to_string().to_ascii_lowercase()
    )
}

/// Its status in Cinder's words.
pub(super) use view::status;
