//! `stockpot volume …`: calls to a running driver.

use clap::{Args, Subcommand, ValueEnum};

use super::{
    SocketArgs, VolumeAdoptArgs, VolumeReleaseArgs, parse_label, volume_name::parse_volume_name,
};
use crate::sizes::parse_volume_size;

/// `stockpot volume …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot volume create data --size 10GiB
  stockpot volume create copy --from-snapshot snap-1f0c22ab-01jd… --copy cloud --pool fast --watch
  stockpot volume attach data
  stockpot volume restore data nightly-17 --watch
  stockpot volume list -o json | jq -r '.[] | select(.status == \"error\") | .name'

VOLUME is an id or a name.")]
pub(crate) enum VolumeVerb {
    /// Make a volume: empty, or from a snapshot or another volume.
    Create(VolumeCreateArgs),
    /// List its volumes.
    #[command(after_help = "\
Examples:
  stockpot volume list
  stockpot volume list -o json | jq -r '.[] | select(.status == \"in-use\") | .device_path'")]
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Show one.
    #[command(after_help = "\
Examples:
  stockpot volume show data
  stockpot volume show data -o json | jq -r .device_path")]
    Show(VolumeIdArgs),
    /// Remove one with all its data here. Its snapshots stay, and nothing in a bucket is touched.
    #[command(after_help = "\
Examples:
  stockpot volume delete copy

What is not there is said, and is no error: -o json tells it as `removed`.")]
    Delete(VolumeIdArgs),
    /// Make one larger, also while it is attached.
    #[command(after_help = "\
Examples:
  stockpot volume extend data --size 20GiB

A file system in it is grown by its own tool afterwards (resize2fs, xfs_growfs).")]
    Extend(VolumeExtendArgs),
    /// Make a volume with the content that another one has now.
    #[command(after_help = "\
Examples:
  stockpot volume clone data scratch
  stockpot volume clone data scratch --size 20GiB --label for=test")]
    Clone(VolumeCloneArgs),
    /// Make one a block device of this node, and print its path.
    #[command(after_help = "\
Examples:
  stockpot volume attach data
  stockpot volume attach data --read-only
  mount $(stockpot volume attach data) /mnt")]
    Attach {
        #[command(flatten)]
        volume: VolumeIdArgs,
        /// Nothing may be written to it.
        #[arg(long)]
        read_only: bool,
    },
    /// Take its block device away again.
    #[command(after_help = "\
Examples:
  stockpot volume detach data")]
    Detach(VolumeIdArgs),
    /// Fill a volume that nobody uses from a cloud copy; its old content is kept until the new is complete.
    Restore(VolumeRestoreArgs),
    /// Give up a restore into a volume, which is then as it was before.
    #[command(after_help = "\
Examples:
  stockpot volume cancel-restore data")]
    CancelRestore(VolumeIdArgs),
    /// Wait until a volume is there; ends with 1 if making it failed.
    #[command(after_help = "\
Examples:
  stockpot volume wait copy && stockpot volume attach copy")]
    Wait(VolumeIdArgs),
    /// Bring a logical volume that is there already under management, without touching a byte of it.
    Adopt(VolumeAdoptArgs),
    /// Let a volume go: it keeps its bytes, and its logical volume is its user's again.
    Release(VolumeReleaseArgs),
}

/// One volume.
#[derive(Debug, Args)]
pub(crate) struct VolumeIdArgs {
    /// Its id or name.
    #[arg(value_name = "VOLUME")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// `stockpot volume create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot volume create data --size 10GiB
  stockpot volume create copy --from-snapshot nightly-17 --size 20GiB --watch
  stockpot volume create copy --from-volume data --label for=test

A volume from a snapshot or a volume is at least as large as that, and reads as zeroes beyond it. A restore from a bucket goes on \
behind: --watch follows it, and so does `stockpot volume wait`.")]
pub(crate) struct VolumeCreateArgs {
    /// Name of the volume; asking again with the same properties answers the same one.
    #[arg(value_parser = parse_volume_name)]
    pub(crate) name: String,
    /// Its size, rounded up to what the pool has [default: that of what it is made from].
    #[arg(long, value_name = "SIZE", value_parser = parse_volume_size, required_unless_present_any = ["from_snapshot", "from_volume"])]
    pub(crate) size: Option<u64>,
    /// The pool that it lies in [default: the driver's, or that of what it is copied from].
    #[arg(long, value_name = "NAME")]
    pub(crate) pool: Option<String>,
    /// Make it from this snapshot: its id or name, or that of a backup.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "from_volume")]
    pub(crate) from_snapshot: Option<String>,
    /// From which copy of the snapshot.
    #[arg(long, value_enum, default_value_t = SourceCopyArg::Auto, requires = "from_snapshot", conflicts_with = "from_volume")]
    pub(crate) copy: SourceCopyArg,
    /// Make it from this volume: its id or name.
    #[arg(long, value_name = "VOLUME")]
    pub(crate) from_volume: Option<String>,
    /// Note kept with the volume; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Follow it until it is there.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// Which copy of a snapshot a volume is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceCopyArg {
    /// The one on this node if it is there, else the one in the bucket.
    Auto,
    /// The one on this node.
    Local,
    /// The one in the bucket.
    Cloud,
}

/// `stockpot volume extend`.
#[derive(Debug, Args)]
pub(crate) struct VolumeExtendArgs {
    /// Its id or name.
    pub(crate) volume: String,
    /// Its new size in all, rounded up to what the pool has.
    #[arg(long, value_name = "SIZE", value_parser = parse_volume_size)]
    pub(crate) size: u64,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// `stockpot volume clone`.
#[derive(Debug, Args)]
pub(crate) struct VolumeCloneArgs {
    /// The volume that is copied: its id or name.
    pub(crate) volume: String,
    /// Name of the new volume.
    #[arg(value_parser = parse_volume_name)]
    pub(crate) name: String,
    /// Size of the new volume [default: that of the other].
    #[arg(long, value_name = "SIZE", value_parser = parse_volume_size)]
    pub(crate) size: Option<u64>,
    /// Note kept with the volume; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// `stockpot volume restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot volume restore data snap-1f0c22ab-01jd… --watch
  stockpot volume restore data nightly-17
  stockpot volume cancel-restore data

Nobody may use the volume. It keeps its id, name and size; what lies beyond the copy reads as zeroes. While it is restored the pool \
holds both contents. A restore that fails leaves the volume as it was, and `stockpot volume show` says why.")]
pub(crate) struct VolumeRestoreArgs {
    /// The volume: its id or name.
    pub(crate) volume: String,
    /// What it is filled from: the id or name of a snapshot with a cloud copy, or of a backup.
    pub(crate) snapshot: String,
    /// Follow it until it has ended; ends with 1 if it failed.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn what_can_be_meant_is_taken_and_nothing_else() {
        let parses = |line: &str| {
            let words = ["stockpot", "volume"].into_iter().chain(line.split(' '));
            Cli::try_parse_from(words).is_ok()
        };
        for good in [
            "create data --size 1GiB",
            "create data --from-snapshot s --copy cloud",
            "create data --from-volume v --size 2GiB --label a=b --label c=",
            "clone data copy",
            "restore data s --watch",
            "cancel-restore data",
            "attach data --read-only",
            "list -o json",
        ] {
            assert!(parses(good), "{good}");
        }
        for bad in [
            "create data",
            "create --size 1GiB",
            "create a/b --size 1GiB",
            "clone data -- -x",
            "create data --size 1.5GiB",
            "create data --size 300",
            "create data --size 1GiB --copy cloud",
            "create data --from-volume v --copy cloud",
            "create data --from-snapshot s --from-volume v",
            "create data --size 1GiB --label a",
            "extend data",
            "restore data",
            "show",
        ] {
            assert!(!parses(bad), "{bad}");
        }
    }
}
