//! Volumes, as far as backups need them.

pub(super) mod change;
pub(super) mod create;
pub(super) mod list;
mod view;

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;
use ulid::Ulid;

use super::{Fault, not_found, refused};
use crate::state::Gateway;

/// As in the path.
const COLLECTION: &str = "volumes";

/// The volume of an id.
pub(super) async fn find(gateway: &Gateway, id: &str) -> Result<api::Volume, Fault> {
    let request = api::GetVolumeRequest {
        volume_id: id.to_owned(),
    };
    match gateway.manager.manager().get_volume(request).await {
        Ok(found) => Ok(found.into_inner()),
        Err(status) if status.code() == Code::NotFound => Err(not_found("Volume", id)),
        Err(status) => Err(refused("volume")(status)),
    }
}

/// The manager's name for a new volume: there it is unique, in Cinder it need not be.
pub(super) fn own_name() -> String {
    format!("volume-{}", Ulid::generate().to_string().to_ascii_lowercase())
}

/// Its status in Cinder's words.
pub(super) use view::status;
