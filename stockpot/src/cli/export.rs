//! `stockpot export …`: what a running driver hands to other hosts.

use clap::{Args, Subcommand};

use super::SocketArgs;

/// `stockpot export …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot export list
  stockpot export end v.vol-1f0c22ab-01jd… --initiator iqn.1993-08.org.debian:01:ab12 --force

To be run on the storage node. Whoever is connected ends its connections itself; `end` is for a host that is gone.")]
pub(crate) enum ExportVerb {
    /// List who is connected to what.
    #[command(after_help = "\
Examples:
  stockpot export list
  stockpot export list -o json | jq -r '.[] | select(.state != \"recorded\") | .name'")]
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Take a host's access to a volume or snapshot away.
    End(ExportEndArgs),
}

/// `stockpot export end`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot export end s.snap-1f0c22ab-01jd… --initiator iqn.1993-08.org.debian:01:ab12 --force

Without --force a host that is logged in keeps its access. With it the session ends, and what the host has not \
written yet is lost.")]
pub(crate) struct ExportEndArgs {
    /// What is exported: v.VOLUME or s.SNAPSHOT, as `export list` shows it.
    pub(crate) name: String,
    /// The host's initiator, as `export list` shows it.
    #[arg(long, value_name = "IQN")]
    pub(crate) initiator: String,
    /// Also if the host is logged in.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}
