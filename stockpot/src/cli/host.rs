//! `stockpot host …`: what a host that holds or attaches volumes has to know of them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `stockpot host …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot host check
  stockpot host install

Once on every host that holds or attaches volumes; in a container that is the host outside (--root).")]
pub(crate) enum HostVerb {
    /// Say what is missing; ends with 1 if anything is.
    Check(HostArgs),
    /// Put in place what is missing: udev's rules, and LVM's settings in lvmlocal.conf.
    Install(HostArgs),
}

/// `stockpot host check` and `stockpot host install`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot host install
  stockpot host check --root /host

Without these files, links below /dev/disk may go from a volume to its snapshot, and what lies inside a volume may be \
activated on the host. A global_filter of the site's own is left as it is, and named.")]
pub(crate) struct HostArgs {
    /// Directory in which the host's files are.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
}
