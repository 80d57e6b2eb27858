//! The command line: what can be said, and its help.

mod backup;
mod catalog;
pub(crate) mod examples;
mod export;
mod host;
mod lock;
mod pki;
mod pool;
mod profile;
mod repository;
mod schedule;
mod shell;
mod snapshot;
mod status;
mod tuning;
mod upkeep;
mod volume;
mod volume_adopt;

use std::{num::NonZeroU64, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::backup::{BackupCommand, BackupCreateArgs, BackupIdArgs, BackupVerb};
pub(crate) use self::catalog::{CatalogCheckArgs, CatalogRebuildArgs, CatalogVerb};
pub(crate) use self::export::{ExportEndArgs, ExportVerb};
pub(crate) use self::host::HostVerb;
pub(crate) use self::lock::{LockArgs, Strength};
pub(crate) use self::pki::{PkiInitArgs, PkiIssueArgs, PkiShowArgs, PkiVerb};
pub(crate) use self::pool::PoolVerb;
pub(crate) use self::profile::ProfileVerb;
pub(crate) use self::repository::{
    InitArgs, KeyAddArgs, KeyExportArgs, KeyRemoveArgs, KeyVerb, PlaceArgs, RepositoryVerb,
};
pub(crate) use self::schedule::{
    ScheduleKeep, ScheduleNameArgs, ScheduleRetainArgs, ScheduleRunArgs, ScheduleUpdateArgs,
    ScheduleVerb, ScheduleWhat,
};
pub(crate) use self::shell::{CompletionArgs, ManArgs, ShellKind};
pub(crate) use self::snapshot::SnapshotCreateArgs;
pub(crate) use self::status::StatusArgs;
pub(crate) use self::tuning::UploadTuning;
pub(crate) use self::upkeep::{ForgetArgs, KeepArgs, PruneArgs};
pub(crate) use self::volume::{
    SourceCopyArg, VolumeCloneArgs, VolumeCreateArgs, VolumeExtendArgs, VolumeIdArgs,
    VolumeRestoreArgs, VolumeVerb,
};
pub(crate) use self::volume_adopt::{VolumeAdoptArgs, VolumeReleaseArgs};
use crate::{
    limits::parse_rate,
    sizes::{parse_percent, parse_size},
};

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

/// `stockpot backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot backup /dev/vg0/data --to s3://backups/site-a --key-file /etc/stockpot/key
  stockpot backup disk.img --to s3://backups/site-a --volume web-1 --passphrase-file pass.txt
  stockpot backup disk.img --to s3://backups/site-a --changed blocks.txt --since snap-1f0c22ab-01jd…
  stockpot backup disk.img --to s3://backups/site-a --repack-below 50 --repack-budget 1GiB --repack-gain 16MiB
  stockpot backup create VOLUME --force        # asks a running driver; a file of such a name is ./create
  AWS_ENDPOINT_URL=https://s3.example.net stockpot backup disk.img --to s3://backups/lab -o json

A live LVM volume is snapshotted first, and the snapshot is read and removed. Any other source that is mounted or \
open for writing is refused without --force. The first backup into an empty prefix makes the repository there. With a \
key the repository is sealed: nobody without the key can read it. Make one with: openssl rand -hex 32 > key")]
pub(crate) struct BackupArgs {
    /// Block device or image file to read.
    pub(crate) source: PathBuf,
    /// Where to: s3://BUCKET[/PREFIX].
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Name of the volume in the repository (a-z, 0-9, '-'; starts with a letter) [default: from SOURCE's name].
    #[arg(long, value_name = "NAME")]
    pub(crate) volume: Option<String>,
    /// Read SOURCE even if it is mounted or open for writing: the copy may mix old and new.
    #[arg(long)]
    pub(crate) force: bool,
    /// Note kept with the snapshot; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Send everything: a copy that shares nothing with earlier ones.
    #[arg(long, conflicts_with_all = ["changed", "since", "base"])]
    pub(crate) full: bool,
    /// Compare with this snapshot, also one of another volume: the one that SOURCE was made from, say [default: the
    /// volume's newest].
    #[arg(long, value_name = "SNAPSHOT", conflicts_with_all = ["changed", "since"])]
    pub(crate) base: Option<String>,
    /// Read only what changed since a snapshot: FILE has one "OFFSET LENGTH" in bytes per line, or is a JSON list.
    #[arg(long, value_name = "FILE", requires = "since")]
    pub(crate) changed: Option<PathBuf>,
    /// The snapshot that --changed counts from: its id, or the start of it.
    #[arg(long, value_name = "SNAPSHOT", requires = "changed")]
    pub(crate) since: Option<String>,
    /// Chunk size of a repository that this backup makes (64KiB to 4MiB, a power of two).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) chunk_size: Option<u64>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
    #[command(flatten)]
    pub(crate) tuning: UploadTuning,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
}

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

/// `stockpot snapshots`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot snapshots s3://backups/site-a --key-file /etc/stockpot/key
  stockpot snapshots s3://backups/site-a -o json | jq -r '.[].snapshot_id'")]
pub(crate) struct SnapshotsArgs {
    /// Where: s3://BUCKET[/PREFIX].
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    /// Only those of this volume.
    #[arg(long, value_name = "NAME")]
    pub(crate) volume: Option<String>,
    /// Deleted ones too.
    #[arg(long)]
    pub(crate) all: bool,
    /// Read the first version of each object, whatever was deleted or overwritten since.
    #[arg(long)]
    pub(crate) first_versions: bool,
    /// Show deleted ones too, with what the newest manifest that lies below their tombstone says.
    #[arg(long, requires = "first_versions")]
    pub(crate) deleted: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// `stockpot verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot verify s3://backups/site-a --key-file /etc/stockpot/key              # structure: quick
  stockpot verify s3://backups/site-a snap-1f0c22ab-01jd… --read-data           # every byte of one
  stockpot verify s3://backups/site-a --sample 5%                               # all of the structure, some of the data

Bad chunks are marked in the bucket: the next backup of a volume that still has their data stores them again.")]
pub(crate) struct VerifyArgs {
    /// Where: s3://BUCKET[/PREFIX].
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    /// Which snapshot: its id, the start of it, or `latest:NAME` [default: all].
    pub(crate) snapshot: Option<String>,
    /// Read, decrypt and hash every chunk, not only the structure.
    #[arg(long)]
    pub(crate) read_data: bool,
    /// Read this share of the data, chosen at random: 5%, 0.1%.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub(crate) sample: Option<u32>,
    /// Choose the sample again as the run did that printed this seed.
    #[arg(long, value_name = "SEED", requires = "sample")]
    pub(crate) sample_seed: Option<u64>,
    /// Only report what is bad, and leave no mark in the bucket.
    #[arg(long)]
    pub(crate) no_marks: bool,
    /// Read the first version of each object, whatever was deleted or overwritten since.
    #[arg(long)]
    pub(crate) first_versions: bool,
    /// Check deleted ones too, of which a manifest lies below their tombstone.
    #[arg(long, requires = "first_versions")]
    pub(crate) deleted: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// `stockpot serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot serve --config /etc/stockpot/config.yaml
  stockpot serve --config config.yaml --check
  RUST_LOG=info,stockpot_manager=debug,stockpot_driver=debug stockpot serve

--check looks at the file alone: whether pools, keys and buckets are there shows at the start. The file has \
a section for each frontend: `csi` for CSI, `gateway` for REST (OpenSDS, Cinder, cStor). docs/operations.md describes it.")]
pub(crate) struct ServeArgs {
    /// Configuration file (YAML).
    #[arg(long, value_name = "FILE", default_value = "/etc/stockpot/config.yaml")]
    pub(crate) config: PathBuf,
    /// Read and check the configuration, then stop.
    #[arg(long)]
    pub(crate) check: bool,
}

/// `stockpot snapshot …`: calls to a running driver.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot snapshot create data --name before-upgrade --profile offsite --watch
  stockpot snapshot list
  stockpot snapshot show snap-1f0c22ab-01jd… --watch
  stockpot snapshot delete snap-1f0c22ab-01jd… --copy local

`--copy local` gives the room in the pool back, and keeps the copy in the bucket.")]
pub(crate) enum SnapshotVerb {
    /// Cut a snapshot of a volume; with a profile its upload runs behind.
    Create(SnapshotCreateArgs),
    /// List its snapshots, local and in its buckets.
    #[command(after_help = "\
Examples:
  stockpot snapshot list
  stockpot snapshot list -o json | jq -r '.[] | select(.cloud == \"failed\") | .name'")]
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Show one, and follow its upload with --watch.
    #[command(after_help = "\
Examples:
  stockpot snapshot show before-upgrade
  stockpot snapshot show snap-1f0c22ab-01jd… --watch")]
    Show {
        /// Its id or name.
        id: String,
        /// Follow until the upload has ended.
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Remove a snapshot, or only one of its copies.
    #[command(after_help = "\
Examples:
  stockpot snapshot delete before-upgrade
  stockpot snapshot delete before-upgrade --copy local    # the copy in the bucket stays")]
    Delete {
        /// Its id or name.
        id: String,
        /// Which copy.
        #[arg(long, value_enum, default_value_t = Copies::Both)]
        copy: Copies,
        #[command(flatten)]
        socket: SocketArgs,
    },
}

/// Copies of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Copies {
    /// The one on this node.
    Local,
    /// The one in the bucket.
    Cloud,
    /// Every copy.
    Both,
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

/// The repository's key.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// File with the repository's secret, at least 32 bytes; makes a new repository sealed.
    /// [env: STOCKPOT_KEY_FILE, if neither option is given]
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) key_file: Option<PathBuf>,
    /// File with the repository's passphrase; makes a new repository sealed.
    /// [env: STOCKPOT_PASSPHRASE_FILE, if neither option is given]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Try this key slot only, also where there are more than are tried (see `repository key list`).
    #[arg(long, value_name = "SLOT")]
    pub(crate) key_slot: Option<String>,
}

/// How the object store is reached; what is not given comes from the AWS environment and profile.
#[derive(Debug, Args)]
#[command(next_help_heading = "Object store")]
pub(crate) struct S3Args {
    /// Endpoint, for stores other than AWS.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// Region.
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Profile of ~/.aws to take credentials from.
    #[arg(long, value_name = "NAME")]
    pub(crate) aws_profile: Option<String>,
    /// How the bucket is addressed; auto: by path at an endpoint that is given, else by host name.
    #[arg(long, value_enum, default_value_t = Addressing::Auto)]
    pub(crate) addressing: Addressing,
    /// PEM file with the CA of the endpoint's certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Most that is sent per second (2MiB), over longer than one part.
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub(crate) limit_upload: Option<NonZeroU64>,
    /// Most that is received per second (2MiB), over longer than one range.
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub(crate) limit_download: Option<NonZeroU64>,
    /// File with both limits, read again at each SIGHUP: lines "upload 2MiB" and "download none".
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limit_upload", "limit_download"])]
    pub(crate) limit_file: Option<PathBuf>,
}

/// How a bucket is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Addressing {
    /// By path at an endpoint that is given, else by host name.
    Auto,
    /// `endpoint/bucket/key`.
    Path,
    /// `bucket.endpoint/key`.
    Virtual,
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
