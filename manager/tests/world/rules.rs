//! Rules that callers rely on: which code when, and what is the same when it is asked for again.

mod names;
mod pages;
mod profiles;
mod uploads;
mod volumes;

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use crate::lab::Client;

/// The code with which a volume is refused.
async fn refused_volume(client: &mut Client, request: api::CreateVolumeRequest) -> Code {
    client.create_volume(request).await.unwrap_err().code()
}

/// The code with which a snapshot is refused.
async fn refused_snapshot(client: &mut Client, request: api::CreateSnapshotRequest) -> Code {
    client.create_snapshot(request).await.unwrap_err().code()
}
