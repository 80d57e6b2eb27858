//! The command line: what can be said, and its help.

mod backup;
mod catalog;
pub(crate) mod examples;
mod export;
pub(crate) mod folded;
mod host;
mod lock;
mod pki;
mod pool;
mod profile;
mod repository;
mod restore;
mod schedule;
mod serve;
mod shell;
mod snapshot;
mod snapshots;
mod status;
mod store;
mod tuning;
mod upkeep;
mod verify;
mod volume;
mod volume_adopt;
mod volume_name;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::backup::{
    BackupArgs, BackupCommand, BackupCreateArgs, BackupIdArgs, BackupVerb,
};
pub(crate) use self::catalog::{CatalogCheckArgs, CatalogRebuildArgs, CatalogVerb};
pub(crate) use self::export::{ExportEndArgs, ExportVerb};
pub(crate) use self::host::HostVerb;
pub(crate) use self::lock::{LockArgs, Strength};
pub(crate) use self::pki::{PkiInitArgs, PkiIssueArgs, PkiShowArgs, PkiVerb};
pub(crate) use self::pool::PoolVerb;
pub(crate) use self::profile::{ProfileNameArgs, ProfileVerb};
pub(crate) use self::repository::{
    InitArgs, KeyAddArgs, KeyExportArgs, KeyRemoveArgs, KeyVerb, PlaceArgs, RepositoryVerb,
};
pub(crate) use self::restore::RestoreArgs;
pub(crate) use self::schedule::{
    ScheduleKeep, ScheduleNameArgs, ScheduleRetainArgs, ScheduleRunArgs, ScheduleUpdateArgs,
    ScheduleVerb, ScheduleWhat,
};
pub(crate) use self::serve::ServeArgs;
pub(crate) use self::shell::{CompletionArgs, ManArgs, ShellKind};
pub(crate) use self::snapshot::{Copies, SnapshotCreateArgs, SnapshotVerb};
pub(crate) use self::snapshots::SnapshotsArgs;
pub(crate) use self::status::StatusArgs;
pub(crate) use self::store::{Addressing, KeyArgs, S3Args};
pub(crate) use self::tuning::UploadTuning;
pub(crate) use self::upkeep::{ForgetArgs, KeepArgs, PruneArgs};
pub(crate) use self::verify::VerifyArgs;
pub(crate) use self::volume::{
    SourceCopyArg, VolumeCloneArgs, VolumeCreateArgs, VolumeExtendArgs, VolumeIdArgs,
    VolumeRestoreArgs, VolumeVerb,
};
pub(crate) use self::volume_adopt::{VolumeAdoptArgs, VolumeReleaseArgs};

/// Snapshots of block devices to S3 and back.
///
/// Without any daemon, `backup`, `restore`, `snapshots`, `verify`, `forget` and `prune` work on block devices, image files and
/// buckets. `serve` runs the storage driver with its frontends: CSI, and REST for OpenSDS, Cinder and cStor.
#[derive(Debug, Parser)]
#[command(
    name = "stockpot",
    version,
    propagate_version = true,
    max_term_width = 110
)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 restored without what is damaged, 130 interrupted.

Credentials, region and endpoint come from where the AWS tools take them: the environment (AWS_ACCESS_KEY_ID, \
AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE, AWS_CA_BUNDLE), ~/.aws, web identity, instance metadata.")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// How results are printed on standard output.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,

    /// Say more on standard error; twice: everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// No progress and no remarks, only results and errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs, with names that stay.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Send a block device or an image file to a bucket, or ask a running driver for backups of its volumes.
    Backup(Box<BackupCommand>),
    /// Fill a block device or a file from a snapshot in a bucket.
    Restore(RestoreArgs),
    /// List the snapshots in a bucket.
    Snapshots(SnapshotsArgs),
    /// Check that snapshots in a bucket can be restored.
    Verify(VerifyArgs),
    /// Give snapshots in a bucket up: by name, or all that a policy does not keep.
    Forget(ForgetArgs),
    /// Remove from a bucket what no snapshot needs.
    Prune(PruneArgs),
    /// Make a repository, look at it, and change what opens it.
    #[command(subcommand)]
    Repository(RepositoryVerb),
    /// Run the storage driver and its frontends, CSI and REST.
    Serve(ServeArgs),
    /// Ask a running driver how it is: pools, volumes, transfers, backups, what is due next.
    Status(StatusArgs),
    /// Ask a running driver for volumes: make, grow, attach, restore and remove them.
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Ask a running driver for snapshots, about them, or to give up copies of them.
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// Ask a running driver to make backups by itself, and to keep only some of them.
    #[command(subcommand)]
    Schedule(Box<ScheduleVerb>),
    /// Ask a running driver for its profiles: where snapshots go, and how long they stay.
    #[command(subcommand)]
    Profile(ProfileVerb),
    /// Ask a running driver who is connected to what, or end a connection.
    #[command(subcommand)]
    Export(ExportVerb),
    /// Ask a running driver about its pools: room, and what is kept for the next uploads.
    #[command(subcommand)]
    Pool(PoolVerb),
    /// Compare what a driver has on record with what is there, or make a lost catalog again.
    #[command(subcommand)]
    Catalog(CatalogVerb),
    /// Make and look at the certificates by which nodes prove who they are.
    #[command(subcommand)]
    Pki(PkiVerb),
    /// Keep this host from looking into volumes and snapshots: udev's rules and LVM's settings.
    #[command(subcommand)]
    Host(HostVerb),
    /// Freeze file systems for the running driver, and thaw them whatever becomes of it; started by the driver.
    #[command(hide = true)]
    QuiesceWatchdog,
    /// Print a shell's completion of this command line.
    Completion(CompletionArgs),
    /// Write the manual pages, one for each verb.
    Man(ManArgs),
}

/// How a running driver is reached.
#[derive(Debug, Args)]
pub(crate) struct SocketArgs {
    /// The driver's socket.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/stockpot/manager.sock",
        env = "STOCKPOT_SOCKET"
    )]
    pub(crate) socket: PathBuf,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
