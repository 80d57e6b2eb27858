//! `stockpot status`.

use clap::Args;

use super::SocketArgs;

/// `stockpot status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot status
  stockpot status --watch
  stockpot status -o json | jq '.pools[] | select(.used_percent > 80)'

Ends with 1 if the driver is not ready, or a pool cannot be asked.")]
pub(crate) struct StatusArgs {
    /// Show it again every two seconds, until it is interrupted.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}
