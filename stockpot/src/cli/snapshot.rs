//! `stockpot snapshot create`.

use clap::Args;

use super::{SocketArgs, parse_label};

/// `stockpot snapshot create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot snapshot create data
  stockpot snapshot create data --name before-upgrade --profile offsite --watch
  stockpot snapshot create vol-1f0c22ab-01jd… --profile offsite --label ticket=4711

It is cut when this answers, also while the volume is in use.")]
pub(crate) struct SnapshotCreateArgs {
    /// The volume: its id or name.
    pub(crate) volume: String,
    /// Name of the snapshot; asking again with it answers the same one [default: VOLUME's name and the time].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Profile that says where the cloud copy goes [default: a local copy only].
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Note kept with the snapshot and its cloud copy; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Follow its upload until that has ended.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}
