//! `stockpot snapshot …`: asks a running driver for snapshots.

use clap::{Args, Subcommand, ValueEnum};

use super::{SocketArgs, parse_label};

/// `stockpot snapshot …`: calls to a running driver.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot snapshot create data --name before-upgrade --profile offsite --watch
  stockpot snapshot list
  stockpot snapshot show snap-1f0c22ab-01jd… --watch
  stockpot snapshot delete snap-1f0c22ab-01jd… --copy local

`--copy local` gives the room in the pool back, and keeps the copy in the bucket.")]
pub(crate) enum SnapshotVerb {
    /// Cut a snapshot of a volume; with a profile its upload runs behind.
    Create(SnapshotCreateArgs),
    /// List its snapshots, local and in its buckets.
    #[command(after_help = "\
Examples:
  stockpot snapshot list
  stockpot snapshot list -o json | jq -r '.[] | select(.cloud == \"failed\") | .name'")]
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Show one, and follow its upload with --watch.
    #[command(after_help = "\
Examples:
  stockpot snapshot show before-upgrade
  stockpot snapshot show snap-1f0c22ab-01jd… --watch")]
    Show {
        /// Its id or name.
        id: String,
        /// Follow until the upload has ended.
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Remove a snapshot, or only one of its copies.
    #[command(after_help = "\
Examples:
  stockpot snapshot delete before-upgrade
  stockpot snapshot delete before-upgrade --copy local    # the copy in the bucket stays

What is not there is said, and is no error: -o json tells it as `removed`.")]
    Delete {
        /// Its id or name.
        id: String,
        /// Which copy.
        #[arg(long, value_enum, default_value_t = Copies::Both)]
        copy: Copies,
        #[command(flatten)]
        socket: SocketArgs,
    },
}

/// Copies of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Copies {
    /// The one on this node.
    Local,
    /// The one in the bucket.
    Cloud,
    /// Every copy.
    Both,
}

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
