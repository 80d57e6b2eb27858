//! `stockpot profile …`: calls to a running driver.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SocketArgs;

/// `stockpot profile …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot profile list
  stockpot profile create offsite.yaml
  stockpot profile show offsite -o json | jq .document
  stockpot profile update offsite - < offsite.json

FILE is YAML or JSON with OpenSDS's field names (docs/operations.md); `-` is standard input. It names files with \
credentials and keys, and holds none.")]
pub(crate) enum ProfileVerb {
    /// List its profiles.
    #[command(after_help = "\
Examples:
  stockpot profile list
  stockpot profile list -o json | jq -r '.[].location'")]
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Show one, as it stands in its file.
    #[command(after_help = "\
Examples:
  stockpot profile show offsite
  stockpot profile show offsite -o json | jq .document > offsite.json")]
    Show(ProfileNameArgs),
    /// Make one. The same text under the same name is no failure.
    #[command(after_help = "\
Examples:
  stockpot profile create offsite.yaml
  stockpot profile create - < offsite.json")]
    Create {
        /// The profile.
        file: PathBuf,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Replace what one says. Uploads under way go on as they began.
    #[command(after_help = "\
Examples:
  stockpot profile update offsite offsite.yaml
  stockpot profile update offsite - < offsite.json")]
    Update {
        /// Its name or id.
        name: String,
        /// The profile.
        file: PathBuf,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Remove one; nothing in its bucket is touched.
    #[command(after_help = "\
Examples:
  stockpot profile delete offsite
  stockpot profile delete offsite --force    # its copies stay in the bucket, and nothing leads to them")]
    Delete {
        #[command(flatten)]
        profile: ProfileNameArgs,
        /// Also where it alone leads to cloud copies on record.
        #[arg(long)]
        force: bool,
    },
}

/// One profile.
#[derive(Debug, Args)]
pub(crate) struct ProfileNameArgs {
    /// Its name or id.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}
