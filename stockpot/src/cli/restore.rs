//! `stockpot restore`.

use std::path::PathBuf;

use clap::Args;

use super::{KeyArgs, S3Args};
use crate::sizes::parse_size;

/// `stockpot restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot restore s3://backups/site-a snap-1f0c22ab-01jd… /dev/vg0/new --key-file /etc/stockpot/key
  stockpot restore s3://backups/site-a snap-1f0c22ab-01jd… disk.img

SNAPSHOT may be shortened as long as it stays unique; `latest:NAME` is the newest of volume NAME. A file is made with the \
exact size, holes stay holes; it is filled as .NAME.stockpot-partial-PID-N beside TARGET and gets its name only when it is \
whole. A killed restore leaves that file, which can be removed; any other restore that fails takes it away. A file that \
is overwritten with --force is left empty by a restore that fails. A block device must be at least as large as the volume, not in \
use, and without a file system, partition table or other known signature.")]
pub(crate) struct RestoreArgs {
    /// Where from: s3://BUCKET[/PREFIX].
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    /// Which snapshot: its id, the start of it, or `latest:NAME`.
    pub(crate) snapshot: String,
    /// Block device or file to fill.
    pub(crate) target: PathBuf,
    /// Overwrite a file that has content, or a device that seems to be in use or carries a file system, partition table,
    /// LVM or RAID signature.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    /// Read the first version of each object, whatever was deleted or overwritten since.
    #[arg(long)]
    pub(crate) first_versions: bool,
    /// Restore one that was deleted as well, from the newest manifest that lies below its tombstone.
    #[arg(long, requires = "first_versions")]
    pub(crate) deleted: bool,
    /// Write zeroes where a chunk cannot be read, list these places, and end with exit code 3: what is left of a damaged
    /// snapshot.
    #[arg(long)]
    pub(crate) skip_damaged: bool,
    /// Memory to stay within: sizes and numbers that are not given follow from it.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// Ranged reads under way at once [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) reads_in_flight: Option<u16>,
    /// Threads that decrypt, decompress, check and write [default: 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: Option<u16>,
}
