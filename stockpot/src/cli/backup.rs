//! `stockpot backup …`: without a daemon from a device or file, or asked of a running driver for one of its volumes.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};

use super::{KeyArgs, LockArgs, S3Args, SocketArgs, UploadTuning, parse_label};
use crate::sizes::parse_size;

/// `stockpot backup`, either way.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupCommand {
    /// What a running driver is asked.
    #[command(subcommand)]
    pub(crate) verb: Option<BackupVerb>,
    /// Without one.
    #[command(flatten)]
    pub(crate) args: Daemonless,
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
key the repository is sealed: nobody without the key can read it. Make one with: (umask 077; openssl rand -hex 32 > key)")]
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

/// What is backed up without a driver; `None` where one is asked.
#[derive(Debug)]
pub(crate) struct Daemonless(pub(crate) Option<BackupArgs>);

// By hand: derived, an optional group counts as absent if it has groups of its own.
impl FromArgMatches for Daemonless {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.contains_id("source") {
            true => BackupArgs::from_arg_matches(matches).map(|args| Self(Some(args))),
            false => Ok(Self(None)),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Daemonless {
    fn augment_args(command: Command) -> Command {
        BackupArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        BackupArgs::augment_args_for_update(command)
    }
}

/// Calls to a running driver.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Ask a running driver to back up one of its volumes; the upload runs behind.
    Create(BackupCreateArgs),
    /// List a running driver's backups, the newest last.
    #[command(after_help = "\
Examples:
  stockpot backup list
  stockpot backup list --volume data
  stockpot backup list -o json | jq -r '.[] | select(.status == \"error\") | .name'")]
    List {
        /// Only those of this volume: its id or name.
        #[arg(long, value_name = "VOLUME")]
        volume: Option<String>,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Show one: how far it is, or how it ended.
    #[command(after_help = "\
Examples:
  stockpot backup show nightly-17
  stockpot backup show nightly-17 -o json | jq .bytes_transferred")]
    Show(BackupIdArgs),
    /// Follow one until it has ended; ends with 1 if it failed.
    #[command(after_help = "\
Examples:
  stockpot backup watch nightly-17
  stockpot backup watch nightly-17 -q && echo done")]
    Watch(BackupIdArgs),
    /// Stop the upload of one that is under way, and keep what was sent; it stays so until it is resumed.
    #[command(after_help = "\
Examples:
  stockpot backup pause nightly-17")]
    Pause(BackupIdArgs),
    /// Go on with one that is paused.
    #[command(after_help = "\
Examples:
  stockpot backup resume nightly-17")]
    Resume(BackupIdArgs),
    /// Give one up that is under way.
    #[command(after_help = "\
Examples:
  stockpot backup cancel nightly-17")]
    Cancel(BackupIdArgs),
    /// Remove one with its copy in the bucket.
    #[command(after_help = "\
Examples:
  stockpot backup delete nightly-17")]
    Delete(BackupIdArgs),
}

/// `stockpot backup create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot backup create vol-1f0c22ab-01jd… --profile offsite
  stockpot backup create data --force --name nightly-17 --watch
  stockpot backup create data --full                            # shares nothing with earlier copies
  stockpot backup create --snapshot before-upgrade              # a local snapshot that is there already

A volume that nobody uses is read as it is, and cannot be attached until the backup has ended. One that is in use needs
--force: a temporary snapshot is cut and read, and the volume goes on. A local snapshot can be backed up at any time; it stays, \
and its volume is not touched.")]
pub(crate) struct BackupCreateArgs {
    /// The volume: its id or name.
    #[arg(required_unless_present = "snapshot")]
    pub(crate) volume: Option<String>,
    /// Also while the volume is in use.
    #[arg(long)]
    pub(crate) force: bool,
    /// Send everything: the copy shares nothing with earlier ones.
    #[arg(long)]
    pub(crate) full: bool,
    /// Upload this local snapshot: its id or name; nothing is cut.
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,
    /// Profile that says where to [default: the only one that leads to a repository].
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Name of the backup; asking again with it answers the same one.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Note kept with the cloud copy; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Follow it until it has ended.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// One backup.
#[derive(Debug, Args)]
pub(crate) struct BackupIdArgs {
    /// Its id or name.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn parse(line: &[&str]) -> Result<BackupCommand, clap::Error> {
        let all = ["stockpot", "backup"].iter().chain(line);
        match Cli::try_parse_from(all)?.verb {
            Verb::Backup(command) => Ok(*command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_device_or_a_running_driver() {
        let device = parse(&["/dev/vg0/data", "--to", "s3://b", "--force"]).unwrap();
        assert!(device.verb.is_none());
        assert!(device.args.0.unwrap().force);
        let create = parse(&["create", "data", "--force", "--label", "a=b", "-o", "json"]).unwrap();
        assert!(create.args.0.is_none());
        match create.verb {
            Some(BackupVerb::Create(args)) => {
                assert!(args.force && !args.watch && !args.full);
                assert_eq!(args.volume.as_deref(), Some("data"));
                assert_eq!(args.labels, [("a".to_owned(), "b".to_owned())]);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            parse(&["list"]).unwrap().verb,
            Some(BackupVerb::List { .. })
        ));
        match parse(&["create", "--snapshot", "snap-1", "--full"])
            .unwrap()
            .verb
        {
            Some(BackupVerb::Create(args)) => {
                assert_eq!((args.volume, args.full), (None, true));
                assert_eq!(args.snapshot.as_deref(), Some("snap-1"));
            }
            other => panic!("{other:?}"),
        }
        for (word, is_pause) in [("pause", true), ("resume", false)] {
            match parse(&[word, "nightly-17"]).unwrap().verb {
                Some(BackupVerb::Pause(args)) => assert!(is_pause && args.id == "nightly-17"),
                Some(BackupVerb::Resume(args)) => assert!(!is_pause && args.id == "nightly-17"),
                other => panic!("{other:?}"),
            }
        }
        // A file of that name.
        let file = parse(&["./list", "--to", "s3://b"]).unwrap();
        assert!(file.verb.is_none() && file.args.0.is_some());
        for wrong in [
            &[][..],
            &["disk.img"],
            &["create"],
            &["disk.img", "--to", "s3://b", "list"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
