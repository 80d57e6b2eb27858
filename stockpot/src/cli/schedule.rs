//! `stockpot schedule …`: asked of a running driver.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{SocketArgs, parse_label, upkeep::parse_duration};

/// Calls to a running driver.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stockpot schedule create nightly --calendar '30 2 * * *' --time-zone Europe/Berlin --keep-daily 7 --keep-weekly 5
  stockpot schedule create databases --volume 'db-*' --every hourly --profile offsite --keep-days 2
  stockpot schedule list
  stockpot schedule run nightly
  stockpot schedule retain nightly --dry-run

A profile that says when (snapshotProperties.schedule) is a schedule too, named profile:NAME; it acts on the volumes whose metadata \
`profile` is its name.")]
pub(crate) enum ScheduleVerb {
    /// Make a schedule.
    Create(ScheduleCreateArgs),
    /// List all, with what their last runs came to.
    #[command(after_help = "\
Examples:
  stockpot schedule list
  stockpot schedule list -o json | jq -r '.[] | select(.last_failed > 0) | .name'")]
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Show one, with each volume of its last run.
    #[command(after_help = "\
Examples:
  stockpot schedule show nightly
  stockpot schedule show profile:offsite")]
    Show(ScheduleNameArgs),
    /// Change what a schedule says; what is not named stays.
    Update(ScheduleUpdateArgs),
    /// Forget a schedule; its backups stay.
    #[command(after_help = "\
Examples:
  stockpot schedule delete nightly")]
    Delete(ScheduleNameArgs),
    /// Begin a run now.
    Run(ScheduleRunArgs),
    /// Let nothing run until it is resumed; what is under way goes on.
    #[command(after_help = "\
Examples:
  stockpot schedule pause nightly")]
    Pause(ScheduleNameArgs),
    /// Let it run again from now on; what was due meanwhile is not caught up.
    #[command(after_help = "\
Examples:
  stockpot schedule resume nightly")]
    Resume(ScheduleNameArgs),
    /// Give up the backups that the retention does not keep, as is done after each run.
    Retain(ScheduleRetainArgs),
}

/// `stockpot schedule create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot schedule create nightly --calendar '30 2 * * *' --time-zone Europe/Berlin --keep-daily 7 --keep-weekly 5
  stockpot schedule create gold --match tier=gold --first 2026-01-31T02:00:00 --every monthly --keep-last 12
  stockpot schedule create databases --volume 'db-*' --calendar '@hourly' --full-every 24 --jitter 10m --keep-days 2

A volume in use is read from a temporary snapshot, unless --skip-in-use. What was missed while the driver was down is caught up once. \
A clock that is put forward or back neither loses nor doubles a run. The last day of a month is L in a calendar; --first on the 31st \
and --every monthly means it too.")]
pub(crate) struct ScheduleCreateArgs {
    /// Name of the schedule: letters, digits, '-', '_', '.'.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) what: ScheduleWhat,
    /// Make it, and let nothing run until it is resumed.
    #[arg(long)]
    pub(crate) paused: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// `stockpot schedule update`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot schedule update nightly --keep-daily 14 --keep-weekly 0
  stockpot schedule update nightly --volume 'db-*' --volume web-1
  stockpot schedule update nightly --all-volumes --skip-in-use=false

What is not named stays as it is.")]
#[command(
    mut_arg("time_zone", |arg| arg.help("Time zone of these times, as IANA names it")),
    mut_arg("volumes", |arg| arg.help(
        "Only this volume, whatever was said before: its id or name, with * for anything; may be given again"
    )),
    mut_arg("selector", |arg| arg.help("Only volumes with this note, whatever was said before; may be given again")),
    mut_arg("profile", |arg| arg.help("Profile that says where to"))
)]
pub(crate) struct ScheduleUpdateArgs {
    /// Its name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) what: ScheduleWhat,
    /// Every volume, whatever was said before.
    #[arg(long, conflicts_with_all = ["volumes", "selector"])]
    pub(crate) all_volumes: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// What a schedule says.
#[derive(Debug, Args)]
pub(crate) struct ScheduleWhat {
    /// When: minute, hour, day, month and day of the week, before them a second if need be; or @hourly, @daily, @weekly,
    /// @monthly, @yearly.
    #[arg(long, value_name = "FIELDS", conflicts_with_all = ["first", "every"])]
    pub(crate) calendar: Option<String>,
    /// The first time (2026-01-31T02:30:00).
    #[arg(long, value_name = "TIME")]
    pub(crate) first: Option<String>,
    /// How often after it.
    #[arg(long, value_enum, value_name = "OFTEN")]
    pub(crate) every: Option<Often>,
    /// Time zone of these times, as IANA names it [default: UTC].
    #[arg(long, value_name = "NAME")]
    pub(crate) time_zone: Option<String>,
    /// Only this volume: its id or name, with * for anything; may be given again [default: every volume].
    #[arg(long = "volume", value_name = "PATTERN")]
    pub(crate) volumes: Vec<String>,
    /// Only volumes with this note; may be given again.
    #[arg(long = "match", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) selector: Vec<(String, String)>,
    /// Profile that says where to [default: the only one that leads to a repository].
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Send everything at the first and every N-th run after it; 0: never by itself.
    #[arg(long, value_name = "N")]
    pub(crate) full_every: Option<u32>,
    /// Spread the backups of a run over so long (90s, 10m, 2h).
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) jitter: Option<Duration>,
    /// Leave volumes in use out, instead of reading them from a temporary snapshot.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) skip_in_use: Option<bool>,
    #[command(flatten)]
    pub(crate) keep: ScheduleKeep,
}

/// What is kept of each volume.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Retention: what any of these keeps stays, and the newest always; without any, everything"
)]
pub(crate) struct ScheduleKeep {
    /// The newest N.
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<u32>,
    /// The newest of each of the last N days that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_daily: Option<u32>,
    /// The newest of each of the last N weeks that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<u32>,
    /// The newest of each of the last N months that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_monthly: Option<u32>,
    /// The newest of each of the last N years that have one.
    #[arg(long, value_name = "N")]
    pub(crate) keep_yearly: Option<u32>,
    /// All that are younger than so many days.
    #[arg(long, value_name = "DAYS")]
    pub(crate) keep_days: Option<u32>,
}

/// How often, in OpenSDS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Often {
    /// At the first time alone.
    Once,
    /// Every hour.
    Hourly,
    /// Every day.
    Daily,
    /// Every week.
    Weekly,
    /// Every month.
    Monthly,
    /// Every year.
    Yearly,
}

impl Often {
    /// The word in requests.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Once => "Once",
            Self::Hourly => "Hourly",
            Self::Daily => "Daily",
            Self::Weekly => "Weekly",
            Self::Monthly => "Monthly",
            Self::Yearly => "Yearly",
        }
    }
}

/// One schedule.
#[derive(Debug, Args)]
pub(crate) struct ScheduleNameArgs {
    /// Its name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// `stockpot schedule run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot schedule run nightly
  stockpot schedule run nightly --watch -o json

--watch goes on until the backups have ended and what is not kept was given up; it ends with 1 if a backup of the run failed, or if \
something was to go and could not.")]
pub(crate) struct ScheduleRunArgs {
    /// Its name.
    pub(crate) name: String,
    /// Follow it until it has ended: its backups, and the retention after them.
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

/// `stockpot schedule retain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot schedule retain --dry-run            # of all schedules
  stockpot schedule retain nightly

Only backups that the schedule itself made are judged. Never given up: the newest copy of a volume, what is not committed, what is \
locked in its bucket. The room in the bucket is free after `stockpot prune`.")]
pub(crate) struct ScheduleRetainArgs {
    /// Its name [default: all of them].
    pub(crate) name: Option<String>,
    /// Only show what would be given up.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn parse(line: &[&str]) -> Result<ScheduleVerb, clap::Error> {
        let all = ["stockpot", "schedule"].iter().chain(line);
        match Cli::try_parse_from(all)?.verb {
            Verb::Schedule(verb) => Ok(*verb),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_said_is_heard() {
        let line = [
            "create",
            "n",
            "--calendar",
            "30 2 * * *",
            "--volume",
            "a",
            "--volume",
            "b*",
            "--match",
            "k=v",
            "--jitter",
            "10m",
            "--skip-in-use",
            "--keep-last",
            "3",
        ];
        let Ok(ScheduleVerb::Create(args)) = parse(&line) else {
            panic!("create");
        };
        assert_eq!(args.what.volumes, ["a", "b*"]);
        assert_eq!(args.what.jitter, Some(Duration::from_mins(10)));
        assert_eq!(args.what.skip_in_use, Some(true));
        assert_eq!(args.what.keep.keep_last, Some(3));
        let Ok(ScheduleVerb::Update(args)) = parse(&["update", "n", "--skip-in-use=false"]) else {
            panic!("update");
        };
        assert_eq!(args.what.skip_in_use, Some(false));
        assert_eq!(args.what.keep.keep_last, None);
        for wrong in [
            &["create"][..],
            &["create", "n", "--calendar", "@daily", "--every", "daily"],
            &["create", "n", "--every", "often"],
            &["update", "n", "--all-volumes", "--volume", "a"],
            &["create", "n", "--keep-last", "-1"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
