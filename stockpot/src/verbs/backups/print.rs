//! Backups as they are printed: rows of a table, one in full, one line of progress.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use stockpot_proto::stockpot::v1::{Backup, BackupStatus};

use crate::{
    cli::Cli,
    context, printable,
    sizes::{count, human_size},
    table::Table,
    verbs::driver::{created, progress_line},
};

/// A backup as it is printed; the names stay.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    backup_id: String,
    name: String,
    volume_id: String,
    volume_name: String,
    profile: String,
    status: &'static str,
    /// The cloud copy: what a volume is made from.
    snapshot_id: String,
    /// Read from a temporary snapshot, not from the volume itself.
    from_snapshot: bool,
    /// The local snapshot that it was asked to upload.
    source_snapshot_id: Option<String>,
    temp_snapshot_id: Option<String>,
    temp_volume_id: Option<String>,
    parent: Option<String>,
    /// How it knew what to send: incremental, compared, full; none before it is committed.
    reason: Option<String>,
    reason_text: Option<String>,
    cloud_location: Option<String>,
    error: Option<String>,
    /// Its upload is stopped until it is resumed.
    paused: bool,
    /// How often its upload was begun; while it is under way.
    attempts: u32,
    phase: Option<String>,
    bytes_done: u64,
    bytes_total: u64,
    bytes_transferred: u64,
    bytes_per_second: u64,
    bytes_done_per_second: u64,
    seconds_left: Option<u64>,
    requests: u64,
    created_at: Option<Timestamp>,
    cut_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// What a restore shows: file-system, unused, crash; none before it is cut.
    consistency: Option<String>,
    consistency_text: Option<String>,
    /// How long file systems were frozen for the cut.
    frozen_us: u64,
    /// Nothing temporary is left of it.
    cleaned: bool,
    metadata: BTreeMap<String, String>,
}

pub(super) fn row(backup: Backup) -> Row {
    let status = match backup.paused {
        true => "paused",
        false => word(backup.status()),
    };
    let progress = backup.progress.unwrap_or_default();
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let time = |seconds, nanos| Timestamp::new(seconds, nanos).ok();
    Row {
        status,
        backup_id: backup.backup_id,
        name: backup.name,
        volume_id: backup.volume_id,
        volume_name: backup.volume_name,
        profile: backup.profile,
        snapshot_id: backup.snapshot_id,
        from_snapshot: backup.from_snapshot,
        source_snapshot_id: given(backup.source_snapshot_id),
        paused: backup.paused,
        attempts: backup.attempts,
        temp_snapshot_id: given(backup.temp_snapshot_id),
        temp_volume_id: given(backup.temp_volume_id),
        parent: given(backup.parent),
        reason: given(backup.reason),
        reason_text: given(backup.reason_text),
        cloud_location: given(backup.cloud_location),
        error: given(backup.error),
        phase: given(progress.phase),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        bytes_transferred: progress.bytes_transferred,
        bytes_per_second: progress.bytes_per_second,
        bytes_done_per_second: backup.bytes_done_per_second,
        seconds_left: backup.seconds_left,
        requests: progress.requests,
        created_at: backup.created_at.and_then(|at| time(at.seconds, at.nanos)),
        cut_at: backup.cut_at.and_then(|at| time(at.seconds, at.nanos)),
        ended_at: backup.ended_at.and_then(|at| time(at.seconds, at.nanos)),
        consistency: given(backup.consistency),
        consistency_text: given(backup.consistency_text),
        frozen_us: backup.frozen_us,
        cleaned: backup.cleaned,
        metadata: backup.metadata.into_iter().collect(),
    }
}

pub(super) fn word(status: BackupStatus) -> &'static str {
    match status {
        BackupStatus::Creating => "creating",
        BackupStatus::Available => "available",
        BackupStatus::Cancelling => "cancelling",
        BackupStatus::Cancelled => "cancelled",
        BackupStatus::Error => "error",
        BackupStatus::Deleted => "deleted",
        BackupStatus::Unspecified => "unknown",
    }
}

/// A line for each, and behind them what those met that have an error.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = Table::new([
        "BACKUP", "VOLUME", "CREATED", "STATUS", "SIZE", "SENT", "HOW", "SNAPSHOT",
    ]);
    for row in rows {
        let done = row.bytes_done.saturating_mul(100);
        let status = match (row.status, done.checked_div(row.bytes_total)) {
            ("creating" | "paused", Some(percent)) => format!("{} {percent} %", row.status),
            (status, _) => status.to_owned(),
        };
        table.row([
            row.name.clone(),
            row.volume_name.clone(),
            created(row.created_at),
            status,
            human_size(row.bytes_total),
            human_size(row.bytes_transferred),
            row.reason.clone().unwrap_or_default(),
            row.snapshot_id.clone(),
        ]);
    }
    let errors = rows.iter().filter_map(|row| {
        let error = printable::line(row.error.as_ref()?);
        let again = match row.status {
            "creating" => " is tried again",
            _ => "",
        };
        Some(format!("{}{again}: {error}\n", printable::line(&row.name)))
    });
    errors.fold(table.to_string(), |text, line| text + &line)
}

/// One line: how far, how fast, how long still, and what the last attempt met.
pub(super) fn now(backup: &Backup) -> String {
    let progress = backup.progress.clone().unwrap_or_default();
    if backup.paused {
        return format!(
            "paused at {} of {}",
            human_size(progress.bytes_done),
            human_size(progress.bytes_total)
        );
    }
    let left = match backup.seconds_left {
        Some(seconds) => format!("{seconds} s"),
        None => "unknown".to_owned(),
    };
    let mut line = match progress.phase.as_str() {
        // It waits for its turn, or for its next attempt.
        "" => "waiting".to_owned(),
        _ => format!("{}, {left} left", progress_line(&progress)),
    };
    if !backup.error.is_empty() {
        let begun = count(backup.attempts.into(), "attempt");
        let error = printable::line(&backup.error);
        line.push_str(&format!(" ({begun} so far; the last error: {error})"));
    }
    line
}

pub(super) fn print(cli: &Cli, backup: Backup) -> anyhow::Result<()> {
    let line = (backup.status() == BackupStatus::Creating).then(|| now(&backup));
    let row = row(backup);
    context::print(cli.output, &row, || {
        let read = match (row.from_snapshot, &row.source_snapshot_id) {
            (true, _) => "a temporary snapshot",
            (false, Some(_)) => "a local snapshot",
            (false, None) => "the volume itself",
        };
        let mut text = format!(
            "{}  {}, {} of volume {}, read from {read}",
            printable::line(&row.backup_id),
            row.status,
            human_size(row.bytes_total),
            printable::line(&row.volume_id),
        );
        let how = row.reason.as_ref().map(|reason| {
            let sent = human_size(row.bytes_transferred);
            match &row.reason_text {
                None => format!("{sent}, {reason}"),
                Some(why) => format!("{sent}, {reason}: {why}"),
            }
        });
        let shows = row.consistency.as_ref().map(|_| shows(&row));
        let times = format!(
            "asked for {}, cut {}, ended {}",
            created(row.created_at),
            created(row.cut_at),
            created(row.ended_at)
        );
        for (what, value) in [
            ("name", Some(&row.name)),
            ("times", Some(&times)),
            ("consistency", shows.as_ref()),
            ("now", line.as_ref()),
            ("snapshot", Some(&row.snapshot_id)),
            ("profile", Some(&row.profile)),
            ("location", row.cloud_location.as_ref()),
            ("sent", how.as_ref()),
            ("builds on", row.parent.as_ref()),
            ("local snapshot", row.source_snapshot_id.as_ref()),
            ("temporary snapshot", row.temp_snapshot_id.as_ref()),
            ("error", row.error.as_ref()),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("\n{what}: {}", printable::line(value)));
            }
        }
        text
    })
}

/// What a restore shows, why, and how long writers were held off for that.
fn shows(row: &Row) -> String {
    let mut text = row.consistency.clone().unwrap_or_default();
    if let Some(why) = &row.consistency_text {
        text.push_str(&format!(": {why}"));
    }
    if row.frozen_us > 0 {
        let (millis, rest) = (row.frozen_us / 1000, row.frozen_us % 1000);
        text.push_str(&format!(" (frozen for {millis}.{rest:03} ms)"));
    }
    text
}

#[cfg(test)]
mod tests;
