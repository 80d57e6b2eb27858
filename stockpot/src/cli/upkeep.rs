//! The verbs that take something away: `forget`, `prune`.

use std::time::Duration;

use clap::Args;

use super::{KeyArgs, S3Args};

/// `stockpot forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot forget s3://backups/site-a --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  stockpot forget s3://backups/site-a --volume web-1 --keep-last 3 --keep-within 2d
  stockpot forget s3://backups/site-a snap-1f0c22ab-01jd…

A policy judges each volume by itself, by the moment of the snapshots' content, in days, weeks and so on of UTC. It never takes the \
newest snapshot of a volume, nor one that is not complete or cannot be read. A snapshot that is named is given up whatever it is; an \
upload under way is cancelled by it. Nothing comes back: the data stays in the bucket until `stockpot prune`, but not its record.")]
pub(crate) struct ForgetArgs {
    /// Where: s3://BUCKET[/PREFIX].
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    /// Snapshots to give up, each by its id or the start of it.
    #[arg(value_name = "SNAPSHOT", conflicts_with_all = ["volume", "keep"])]
    pub(crate) snapshots: Vec<String>,
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
    /// Only snapshots of this volume.
    #[arg(long, value_name = "NAME")]
    pub(crate) volume: Option<String>,
    /// Only show what would be given up.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// What a policy keeps.
#[derive(Debug, Args)]
#[command(next_help_heading = "Policy: what any of these keeps stays")]
#[group(id = "keep", multiple = true)]
pub(crate) struct KeepArgs {
    /// The newest N.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_last: u32,
    /// The newest of each of the last N days that have one.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_daily: u32,
    /// The newest of each of the last N weeks that have one.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_weekly: u32,
    /// The newest of each of the last N months that have one.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_monthly: u32,
    /// The newest of each of the last N years that have one.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_yearly: u32,
    /// All that are younger than this (36h, 7d, 8w).
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pub(crate) keep_within: Option<Duration>,
}

/// `stockpot prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot prune s3://backups/site-a --key-file /etc/stockpot/key --dry-run
  stockpot prune s3://backups/site-a --key-file /etc/stockpot/key

Backups, restores and other prunes of the same repository may go on meanwhile, on this machine and on others: no lock is taken, and \
none can be left behind. A prune that was killed is carried on by the next one.")]
pub(crate) struct PruneArgs {
    /// Where: s3://BUCKET[/PREFIX].
    #[arg(value_name = "URL")]
    pub(crate) from: String,
    /// Only show what would be deleted.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Give up an upload that has shown no sign of life for so long (90m, 36h, 7d); a wrong guess costs that upload, never
    /// data.
    #[arg(long, value_name = "AGE", default_value = "7d", value_parser = parse_duration)]
    pub(crate) give_up_after: Duration,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// Reads `90s`, `30m`, `12h`, `7d`, `4w`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a whole number with s, m, h, d or w, such as 36h".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: u64 = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let total = number.checked_mul(seconds);
    // A century, so that whatever it is added to stays a time.
    let total = total.filter(|total| *total <= 100 * 366 * 24 * 3600);
    total
        .map(Duration::from_secs)
        .ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0h"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("2w"), Ok(Duration::from_hours(14 * 24)));
        for bad in ["", "7", "d", "1.5h", "-1d", "1 d", "5y", "99999999w", "é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
