//! `stockpot snapshots`.

use clap::Args;

use super::{KeyArgs, S3Args};

/// `stockpot snapshots`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot snapshots s3://backups/site-a --key-file /etc/stockpot/key
  stockpot snapshots s3://backups/site-a -o json | jq -r '.[].snapshot_id'")]
pub(crate) struct SnapshotsArgs {
    /// Where: s3://BUCKET[/PREFIX].
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    /// Only those of this volume.
    #[arg(long, value_name = "NAME")]
    pub(crate) volume: Option<String>,
    /// Deleted ones too.
    #[arg(long)]
    pub(crate) all: bool,
    /// Read the first version of each object, whatever was deleted or overwritten since.
    #[arg(long)]
    pub(crate) first_versions: bool,
    /// Show deleted ones too, with what the newest manifest that lies below their tombstone says.
    #[arg(long, requires = "first_versions")]
    pub(crate) deleted: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}
