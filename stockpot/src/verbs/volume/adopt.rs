//! `stockpot volume adopt` and `release`: asks a running driver over its socket.

use std::collections::BTreeMap;

use serde::Serialize;
use stockpot_proto::{
    socket,
    stockpot::v1::{AdoptVolumeRequest, ReleaseVolumeRequest, volumes_client::VolumesClient},
};
use tonic::transport::Channel;

use crate::{
    cli::{Cli, SocketArgs, VolumeAdoptArgs, VolumeReleaseArgs},
    context, printable,
    verbs::driver::said,
};

/// A volume that was adopted, as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Adopted {
    volume_id: String,
    name: String,
    pool: String,
    size_bytes: u64,
    metadata: BTreeMap<String, String>,
}

/// One that was let go.
#[derive(Debug, Serialize)]
struct Released {
    /// `VG/LV`
    released: String,
}

/// Brings a logical volume under management.
pub(crate) async fn adopt(cli: &Cli, args: &VolumeAdoptArgs) -> anyhow::Result<()> {
    let request = AdoptVolumeRequest {
        source: args.source.clone(),
        name: args.name.clone().unwrap_or_default(),
        metadata: args.labels.iter().cloned().collect(),
    };
    let answer = client(&args.socket).adopt_volume(request).await;
    let volume = answer
        .map_err(|status| said(&args.socket, &status))?
        .into_inner();
    let adopted = Adopted {
        volume_id: volume.volume_id,
        name: volume.name,
        pool: volume.pool,
        size_bytes: volume.size_bytes,
        metadata: volume.metadata.into_iter().collect(),
    };
    context::print(cli.output, &adopted, || {
        format!(
            "{}  {}  in pool {}\n",
            adopted.volume_id,
            printable::line(&adopted.name),
            adopted.pool
        )
    })
}

/// Lets a volume go.
pub(crate) async fn release(cli: &Cli, args: &VolumeReleaseArgs) -> anyhow::Result<()> {
    let request = ReleaseVolumeRequest {
        volume_id: args.id.clone(),
        lv_name: args.lv_name.clone().unwrap_or_default(),
    };
    let answer = client(&args.socket).release_volume(request).await;
    let answer = answer.map_err(|status| said(&args.socket, &status))?;
    let released = Released {
        released: answer.into_inner().released,
    };
    context::print(cli.output, &released, || format!("{}\n", released.released))
}

fn client(at: &SocketArgs) -> VolumesClient<Channel> {
    VolumesClient::new(socket::channel(at.socket.clone()))
}
