//! `stockpot pki …`: certificates by which nodes prove to each other who they are.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `stockpot pki …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot pki init --dir stockpot-pki
  stockpot pki issue storage-1 --dir stockpot-pki --out storage-1
  stockpot pki show /etc/stockpot/node.pem

The authority's key makes certificates for every node: keep its directory on one machine, away from the nodes. Each node \
gets ca.pem and its own node.pem and node.key. Certificates of another authority do as well, if each has one DNS name, \
the node's.")]
pub(crate) enum PkiVerb {
    /// Make an authority: ca.pem and ca.key.
    Init(PkiInitArgs),
    /// Make a node's certificate and key: node.pem, node.key, and a copy of ca.pem.
    Issue(PkiIssueArgs),
    /// Show whose certificates are, and how long they last.
    Show(PkiShowArgs),
}

/// `stockpot pki init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot pki init --dir stockpot-pki

Nothing that is there is overwritten.")]
pub(crate) struct PkiInitArgs {
    /// Directory of the authority; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// How long the authority lasts, in days from now on.
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) days: u32,
}

/// `stockpot pki issue`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot pki issue storage-1 --dir stockpot-pki --out storage-1
  scp storage-1/node.* storage-1/ca.pem storage-1:/etc/stockpot/

To renew, issue again into a new directory, and replace node.pem and node.key on the node. Its daemon takes them with the
next connection or call: it need not be started again, and connected hosts notice nothing.")]
pub(crate) struct PkiIssueArgs {
    /// The node's name: the nodeName of its configuration (letters, digits, '-' and '.').
    pub(crate) node: String,
    /// Directory of the authority.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Directory of what is made; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How long the certificate lasts, in days from now on; at most as long as the authority.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) days: u32,
}

/// `stockpot pki show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot pki show /etc/stockpot/node.pem /etc/stockpot/ca.pem

Ends with 1 if one of them has expired, is not valid yet, or cannot be read.")]
pub(crate) struct PkiShowArgs {
    /// Certificates, in PEM.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}
