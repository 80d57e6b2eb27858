//! `stockpot verify`.

use clap::Args;

use super::{KeyArgs, S3Args};
use crate::sizes::parse_percent;

/// `stockpot verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot verify s3://backups/site-a --key-file /etc/stockpot/key              # structure: quick
  stockpot verify s3://backups/site-a snap-1f0c22ab-01jd… --read-data           # every byte of one
  stockpot verify s3://backups/site-a --sample 5%                               # all of the structure, some of the data

Bad chunks are marked in the bucket: the next backup of a volume that still has their data stores them again.")]
pub(crate) struct VerifyArgs {
    /// Where: s3://BUCKET[/PREFIX].
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    /// Which snapshot: its id, the start of it, or `latest:NAME` [default: all].
    pub(crate) snapshot: Option<String>,
    /// Read, decrypt and hash every chunk, not only the structure.
    #[arg(long)]
    pub(crate) read_data: bool,
    /// Read this share of the data, chosen at random: 5%, 0.1%.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub(crate) sample: Option<u32>,
    /// Choose the sample again as the run did that printed this seed.
    #[arg(long, value_name = "SEED", requires = "sample")]
    pub(crate) sample_seed: Option<u64>,
    /// Only report what is bad, and leave no mark in the bucket.
    #[arg(long)]
    pub(crate) no_marks: bool,
    /// Read the first version of each object, whatever was deleted or overwritten since.
    #[arg(long)]
    pub(crate) first_versions: bool,
    /// Check deleted ones too, of which a manifest lies below their tombstone.
    #[arg(long, requires = "first_versions")]
    pub(crate) deleted: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}
