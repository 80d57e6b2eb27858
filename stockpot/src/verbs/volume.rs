//! `stockpot volume …`: asks a running driver over its socket.

mod adopt;

use crate::cli::{Cli, VolumeAdoptVerb};

pub(super) async fn run(cli: &Cli, verb: &VolumeAdoptVerb) -> anyhow::Result<()> {
    match verb {
        VolumeAdoptVerb::Adopt(args) => adopt::adopt(cli, args).await,
        VolumeAdoptVerb::Release(args) => adopt::release(cli, args).await,
    }
}
