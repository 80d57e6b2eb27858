//! `stockpot repository …`: making a repository, looking at it, and its keys.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{KeyArgs, S3Args};
use crate::sizes::parse_size;

/// `stockpot repository …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot repository init s3://backups/site-a --key-file /etc/stockpot/key
  stockpot repository show s3://backups/site-a --key-file /etc/stockpot/key
  stockpot repository key list s3://backups/site-a --key-file /etc/stockpot/key")]
pub(crate) enum RepositoryVerb {
    /// Make an empty repository; a first backup does it too.
    Init(InitArgs),
    /// Show what a repository is: its id, chunk size, and what its endpoint can do.
    #[command(after_help = "\
Examples:
  stockpot repository show s3://backups/site-a --key-file /etc/stockpot/key")]
    Show(PlaceArgs),
    /// Add, remove, list and export what opens a sealed repository.
    #[command(subcommand)]
    Key(KeyVerb),
}

/// `stockpot repository init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot repository init s3://backups/site-a --key-file /etc/stockpot/key
  stockpot repository init s3://backups/lab --chunk-size 1MiB")]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Size of all its chunks (64KiB to 4MiB, a power of two) [default: 64KiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) chunk_size: Option<u64>,
}

/// A repository and what opens it.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Where: s3://BUCKET[/PREFIX].
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// `stockpot repository key …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot repository key list s3://backups/site-a --key-file /etc/stockpot/key
  stockpot repository key add s3://backups/site-a --key-file /etc/stockpot/key --new-passphrase-file phrase.txt

A sealed repository has one key, which lies in its key slots, wrapped by a passphrase or by a key file each. Slots come and go \
without touching data. Whoever once had the key keeps what he knows: removing a slot does not take it from him.")]
pub(crate) enum KeyVerb {
    /// Add a slot for another key file or passphrase.
    Add(KeyAddArgs),
    /// Remove a slot.
    Remove(KeyRemoveArgs),
    /// List the slots.
    #[command(after_help = "\
Examples:
  stockpot repository key list s3://backups/site-a --key-file /etc/stockpot/key")]
    List(PlaceArgs),
    /// Write the repository key to a file: as a key file it opens the repository, whatever slots are left.
    Export(KeyExportArgs),
}

/// `stockpot repository key add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot repository key add s3://backups/site-a --key-file /etc/stockpot/key --new-passphrase-file phrase.txt
  stockpot repository key add s3://backups/site-a --key-file exported.key --new-key-file /etc/stockpot/key")]
pub(crate) struct KeyAddArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) new: NewKeyArgs,
}

/// What a new slot is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct NewKeyArgs {
    /// File with the new slot's secret, at least 32 bytes.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// File with the new slot's passphrase.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
}

/// `stockpot repository key remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot repository key remove s3://backups/site-a slot-01jd… --key-file /etc/stockpot/key

The slot that opened the repository stays: open it with the key file or passphrase that is to be kept. The last slot goes only with \
--exported-key: without a slot and without an exported key the data would be lost.")]
pub(crate) struct KeyRemoveArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Which slot.
    #[arg(value_name = "SLOT")]
    pub(crate) slot: String,
    /// File that `key export` wrote, as a proof that the key is kept elsewhere.
    #[arg(long, value_name = "FILE")]
    pub(crate) exported_key: Option<PathBuf>,
}

/// `stockpot repository key export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot repository key export s3://backups/site-a --key-file /etc/stockpot/key --to exported.key")]
pub(crate) struct KeyExportArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// New file to write, readable by its owner only; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
}
