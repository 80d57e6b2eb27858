//! Schedules as they are printed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use stockpot_proto::stockpot::v1::{Retained, Retention, Schedule, ScheduledVolume};

use super::super::driver::created;
use crate::{cli::Cli, context, printable, table::Table, usage::Incomplete};

/// A schedule; the names stay.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    calendar: Option<String>,
    datetime: Option<String>,
    occurrence: Option<String>,
    time_zone: String,
    volumes: Vec<String>,
    selector: BTreeMap<String, String>,
    profile: Option<String>,
    full_every: u32,
    jitter_seconds: u32,
    skip_in_use: bool,
    retention: Keep,
    paused: bool,
    created_at: Option<Timestamp>,
    next_run_at: Option<Timestamp>,
    last_run_id: Option<i64>,
    last_run_at: Option<Timestamp>,
    /// Its retention was carried out, too.
    last_run_ended_at: Option<Timestamp>,
    last_ok: u32,
    last_failed: u32,
    last_skipped: u32,
    last_running: u32,
    last_error: Option<String>,
    /// Of the last run; none in a list.
    last_volumes: Vec<Volume>,
}

/// What is kept of each volume; 0: by that rule nothing.
#[derive(Debug, Serialize)]
struct Keep {
    keep_last: u32,
    keep_daily: u32,
    keep_weekly: u32,
    keep_monthly: u32,
    keep_yearly: u32,
    keep_days: u32,
}

/// What the last run made of one volume.
#[derive(Debug, Serialize)]
struct Volume {
    volume_id: String,
    volume_name: String,
    /// waiting, begun, done, failed, skipped
    state: String,
    backup_id: Option<String>,
    message: Option<String>,
}

/// A backup, and what retention makes of it.
#[derive(Debug, Serialize)]
struct Judged {
    schedule: String,
    volume_id: String,
    volume_name: String,
    backup_id: String,
    cut_at: Option<Timestamp>,
    kept: bool,
    why: String,
    error: Option<String>,
}

pub(super) fn list(cli: &Cli, schedules: Vec<Schedule>) -> anyhow::Result<()> {
    let rows: Vec<Row> = schedules.into_iter().map(row).collect();
    context::print(cli.output, &rows, || {
        let mut table = Table::new([
            "SCHEDULE", "WHEN", "NEXT", "LAST", "OK", "FAILED", "SKIPPED", "RUNNING", "ERROR",
        ]);
        for row in &rows {
            table.row([
                row.name.clone(),
                when(row),
                next(row),
                row.last_run_at
                    .map_or_else(|| "never".to_owned(), |at| created(Some(at))),
                row.last_ok.to_string(),
                row.last_failed.to_string(),
                row.last_skipped.to_string(),
                row.last_running.to_string(),
                row.last_error.clone().unwrap_or_default(),
            ]);
        }
        table.to_string()
    })
}

pub(super) fn one(cli: &Cli, schedule: Schedule) -> anyhow::Result<()> {
    let row = row(schedule);
    context::print(cli.output, &row, || {
        let mut text = format!("{}  {}", printable::line(&row.name), when(&row));
        for (what, value) in [
            ("volumes", Some(volumes(&row))),
            ("profile", row.profile.clone()),
            ("keeps", Some(keeps(&row.retention))),
            ("next run", Some(next(&row))),
            ("last run", row.last_run_at.map(|at| last(&row, at))),
            ("error", row.last_error.clone()),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("\n{what}: {}", printable::line(&value)));
            }
        }
        if !row.last_volumes.is_empty() {
            let mut table = Table::new(["VOLUME", "LAST RUN", "BACKUP", "WHY"]);
            for volume in &row.last_volumes {
                table.row([
                    volume.volume_name.clone(),
                    volume.state.clone(),
                    volume.backup_id.clone().unwrap_or_default(),
                    volume.message.clone().unwrap_or_default(),
                ]);
            }
            text.push_str(&format!("\n{table}"));
        }
        text
    })
}

/// Ends with an error if something was to go and could not.
pub(super) fn retained(cli: &Cli, dry_run: bool, items: Vec<Retained>) -> anyhow::Result<()> {
    let rows: Vec<Judged> = items.into_iter().map(judged).collect();
    let gone = rows
        .iter()
        .filter(|row| !row.kept && row.error.is_none())
        .count();
    let failed = rows.iter().filter(|row| row.error.is_some()).count();
    let would = if dry_run {
        "would be given up"
    } else {
        "given up"
    };
    context::print(cli.output, &rows, || {
        let mut table = Table::new(["SCHEDULE", "VOLUME", "CUT", "BACKUP", "WHAT"]);
        for row in &rows {
            let what = match (&row.error, row.kept) {
                (Some(error), _) => format!("not given up: {error}"),
                (None, true) => format!("kept: {}", row.why),
                (None, false) => format!("{would}: {}", row.why),
            };
            table.row([
                row.schedule.clone(),
                row.volume_name.clone(),
                created(row.cut_at),
                row.backup_id.clone(),
                what,
            ]);
        }
        let kept = rows.iter().filter(|row| row.kept).count();
        format!("{table}{gone} {would}, {kept} kept")
    })?;
    match failed {
        0 => Ok(()),
        n => Err(Incomplete::new(format!("{n} could not be given up; ask again")).into()),
    }
}

fn when(row: &Row) -> String {
    let mut text = match (&row.calendar, &row.datetime, &row.occurrence) {
        (Some(calendar), _, _) => calendar.clone(),
        (None, Some(first), None) => format!("once, {first}"),
        (None, Some(first), Some(often)) => format!("{}, first {first}", often.to_lowercase()),
        (None, None, often) => often.clone().unwrap_or_default().to_lowercase(),
    };
    text.push_str(&format!(" {}", row.time_zone));
    text
}

fn next(row: &Row) -> String {
    match (row.paused, row.next_run_at) {
        (true, _) => "paused".to_owned(),
        (false, Some(at)) => created(Some(at)),
        (false, None) => "none".to_owned(),
    }
}

fn last(row: &Row, at: Timestamp) -> String {
    let retention = match (row.last_running, row.last_run_ended_at) {
        (0, None) => ", retention under way",
        _ => "",
    };
    format!(
        "{}: {} done, {} failed, {} left out, {} under way{retention}",
        created(Some(at)),
        row.last_ok,
        row.last_failed,
        row.last_skipped,
        row.last_running
    )
}

fn volumes(row: &Row) -> String {
    let notes = row
        .selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let said: Vec<String> = row.volumes.iter().cloned().chain(notes).collect();
    match (said.is_empty(), row.name.starts_with("profile:")) {
        (_, true) => "those that name the profile".to_owned(),
        (true, false) => "all".to_owned(),
        (false, false) => said.join(", "),
    }
}

fn keeps(keep: &Keep) -> String {
    let rules = [
        ("last", keep.keep_last),
        ("daily", keep.keep_daily),
        ("weekly", keep.keep_weekly),
        ("monthly", keep.keep_monthly),
        ("yearly", keep.keep_yearly),
        ("days", keep.keep_days),
    ];
    let rules = rules.iter().filter(|(_, number)| *number > 0);
    let said: Vec<String> = rules
        .map(|(rule, number)| format!("{rule} {number}"))
        .collect();
    match said.is_empty() {
        true => "everything".to_owned(),
        false => said.join(", "),
    }
}

fn row(schedule: Schedule) -> Row {
    let keep = schedule.retention.unwrap_or_default();
    Row {
        name: schedule.name,
        calendar: given(schedule.calendar),
        datetime: given(schedule.datetime),
        occurrence: given(schedule.occurrence),
        time_zone: given(schedule.time_zone).unwrap_or_else(|| "UTC".to_owned()),
        volumes: schedule.volumes,
        selector: schedule.selector.into_iter().collect(),
        profile: given(schedule.profile),
        full_every: schedule.full_every,
        jitter_seconds: schedule.jitter_seconds,
        skip_in_use: schedule.skip_in_use,
        retention: kept(keep),
        paused: schedule.paused,
        created_at: schedule
            .created_at
            .and_then(|at| time(at.seconds, at.nanos)),
        next_run_at: schedule
            .next_run_at
            .and_then(|at| time(at.seconds, at.nanos)),
        last_run_id: Some(schedule.last_run_id).filter(|id| *id != 0),
        last_run_at: schedule
            .last_run_at
            .and_then(|at| time(at.seconds, at.nanos)),
        last_run_ended_at: schedule
            .last_run_ended_at
            .and_then(|at| time(at.seconds, at.nanos)),
        last_ok: schedule.last_ok,
        last_failed: schedule.last_failed,
        last_skipped: schedule.last_skipped,
        last_running: schedule.last_running,
        last_error: given(schedule.last_error),
        last_volumes: schedule.last_volumes.into_iter().map(volume).collect(),
    }
}

fn kept(keep: Retention) -> Keep {
    Keep {
        keep_last: keep.keep_last,
        keep_daily: keep.keep_daily,
        keep_weekly: keep.keep_weekly,
        keep_monthly: keep.keep_monthly,
        keep_yearly: keep.keep_yearly,
        keep_days: keep.keep_days,
    }
}

fn volume(volume: ScheduledVolume) -> Volume {
    Volume {
        volume_id: volume.volume_id,
        volume_name: volume.volume_name,
        state: volume.state,
        backup_id: given(volume.backup_id),
        message: given(volume.message),
    }
}

fn judged(item: Retained) -> Judged {
    Judged {
        schedule: item.schedule,
        volume_id: item.volume_id,
        volume_name: item.volume_name,
        backup_id: item.backup_id,
        cut_at: item.cut_at.and_then(|at| time(at.seconds, at.nanos)),
        kept: item.kept,
        why: item.why,
        error: given(item.error),
    }
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn time(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Timestamp::new(seconds, nanos).ok()
}
