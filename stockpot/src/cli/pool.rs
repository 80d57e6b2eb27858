//! `stockpot pool …`: the storage of a running driver.

use clap::Subcommand;

use super::SocketArgs;

/// `stockpot pool …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot pool list
  stockpot pool list -o json | jq '.[] | {pool, available_bytes, kept_bases}'

BASES are snapshots whose local copy was deleted and whose device is kept, so that the next upload of the volume is told what \
changed; AT MOST is what they take if nothing of it is shared with their volumes any more.")]
pub(crate) enum PoolVerb {
    /// List its pools, with their room and what is kept in them for the next uploads.
    #[command(after_help = "\
Examples:
  stockpot pool list
  stockpot pool list -o json | jq '.[] | {pool, available_bytes}'")]
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
}
