//! `stockpot catalog …`: what the driver has on record.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SocketArgs;

/// `stockpot catalog …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot catalog check
  stockpot catalog rebuild --dry-run")]
pub(crate) enum CatalogVerb {
    /// Compare what a running driver has on record with its storage, exports, host and buckets.
    Check(CatalogCheckArgs),
    /// Make a catalog that was lost or damaged again, from storage and buckets, while no driver runs.
    Rebuild(CatalogRebuildArgs),
}

/// `stockpot catalog check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot catalog check
  stockpot catalog check --local-only -o json | jq -r '.findings[] | select(.passing | not) | .text'

Nothing is changed. Findings that work under way may explain are marked `passing`. Ends with 1 if there are others.")]
pub(crate) struct CatalogCheckArgs {
    /// Leave the buckets out.
    #[arg(long)]
    pub(crate) local_only: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// `stockpot catalog rebuild`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  systemctl stop stockpot
  stockpot catalog rebuild --dry-run
  stockpot catalog rebuild

Volumes and local snapshots come from what LVM's tags say, cloud copies and backups from the repositories of all profiles, what only \
the old catalog knows from there, as far as it can be read. Storage and buckets are not changed. The old file is kept beside the \
new one. What nothing knows any more is said.")]
pub(crate) struct CatalogRebuildArgs {
    /// Configuration file of the driver.
    #[arg(long, value_name = "FILE", default_value = "/etc/stockpot/config.yaml")]
    pub(crate) config: PathBuf,
    /// Show what would be on record, and leave everything as it is.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Replace a catalog that is sound.
    #[arg(long)]
    pub(crate) force: bool,
    /// Leave out pools and buckets that cannot be asked: what lies in them is on no record then.
    #[arg(long)]
    pub(crate) skip_unreachable: bool,
}
