//! `stockpot backup create`, `list`, `show`, …: asks a running driver over its socket.

use std::collections::BTreeMap;

use anyhow::bail;
use jiff::Timestamp;
use serde::Serialize;
use stockpot_proto::{
    socket,
    stockpot::v1::{
        Backup, BackupStatus, CreateBackupRequest, GetBackupRequest, ListBackupsRequest,
        backups_client::BackupsClient,
    },
};
use tonic::{Status, transport::Channel};

use super::{
    driver::{created, progress_line, said},
    patience::Patience,
    snapshot,
};
use crate::{
    cli::{BackupCreateArgs, BackupIdArgs, BackupVerb, Cli, SocketArgs},
    context, printable,
    sizes::{count, human_size},
    table::Table,
};

/// A backup as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Row {
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

pub(super) async fn run(cli: &Cli, verb: &BackupVerb) -> anyhow::Result<()> {
    match verb {
        BackupVerb::Create(args) => create(cli, args).await,
        BackupVerb::List { volume, socket } => list(cli, volume.as_deref(), socket).await,
        BackupVerb::Show(args) => {
            let shown = client(&args.socket).get_backup(request(args)).await;
            let backup = shown.map_err(|status| said(&args.socket, &status))?;
            print(cli, backup.into_inner())
        }
        BackupVerb::Watch(args) => watch(cli, &args.id, &args.socket).await,
        BackupVerb::Pause(args) => {
            let paused = client(&args.socket).pause_backup(request(args)).await;
            let backup = paused.map_err(|status| said(&args.socket, &status))?;
            print(cli, backup.into_inner())
        }
        BackupVerb::Resume(args) => {
            let resumed = client(&args.socket).resume_backup(request(args)).await;
            let backup = resumed.map_err(|status| said(&args.socket, &status))?;
            print(cli, backup.into_inner())
        }
        BackupVerb::Cancel(args) => {
            let cancelled = client(&args.socket).cancel_backup(request(args)).await;
            let backup = cancelled.map_err(|status| said(&args.socket, &status))?;
            print(cli, backup.into_inner())
        }
        BackupVerb::Delete(args) => delete(cli, args).await,
    }
}

/// What a deletion removed; the names stay.
#[derive(Debug, Serialize)]
struct Deleted {
    backup_id: String,
    name: String,
    volume_id: String,
    snapshot_id: String,
    removed: bool,
}

/// What is not there is a slip of the pen, and told: to the manager, which is asked again, it is success.
async fn delete(cli: &Cli, args: &BackupIdArgs) -> anyhow::Result<()> {
    let mut client = client(&args.socket);
    let found = client.get_backup(request(args)).await;
    let found = found.map_err(|status| said(&args.socket, &status))?;
    let found = found.into_inner();
    let request = GetBackupRequest {
        backup_id: found.backup_id.clone(),
    };
    let deleted = client.delete_backup(request).await;
    deleted.map_err(|status| said(&args.socket, &status))?;
    let deleted = Deleted {
        backup_id: found.backup_id,
        name: found.name,
        volume_id: found.volume_id,
        snapshot_id: found.snapshot_id,
        removed: true,
    };
    context::print(cli.output, &deleted, || {
        format!(
            "{}: removed backup {}",
            printable::line(&deleted.backup_id),
            printable::line(&deleted.name)
        )
    })
}

async fn create(cli: &Cli, args: &BackupCreateArgs) -> anyhow::Result<()> {
    let snapshot_id = match &args.snapshot {
        None => String::new(),
        Some(name) => {
            let found = snapshot::named(&args.socket, name).await?;
            found.ok_or_else(|| snapshot::none_of(name))?.snapshot_id
        }
    };
    let request = CreateBackupRequest {
        name: args.name.clone().unwrap_or_default(),
        volume: args.volume.clone().unwrap_or_default(),
        profile: args.profile.clone().unwrap_or_default(),
        force: args.force,
        metadata: args.labels.iter().cloned().collect(),
        full: args.full,
        snapshot_id,
    };
    let begun = client(&args.socket).create_backup(request).await;
    let backup = begun.map_err(|status| said(&args.socket, &status))?;
    let backup = backup.into_inner();
    match args.watch {
        true => watch(cli, &backup.backup_id, &args.socket).await,
        false => print(cli, backup),
    }
}

async fn list(cli: &Cli, volume: Option<&str>, at: &SocketArgs) -> anyhow::Result<()> {
    let mut client = client(at);
    let (mut rows, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListBackupsRequest {
            max_entries: 0,
            starting_token: token,
            volume: volume.unwrap_or_default().to_owned(),
        };
        let page = client.list_backups(request).await;
        let page = page.map_err(|status| said(at, &status))?.into_inner();
        rows.extend(page.backups.into_iter().map(row));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    context::print(cli.output, &rows, || table(&rows))
}

/// A line for each, and behind them what those met that have an error.
fn table(rows: &[Row]) -> String {
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

/// Follows until the backup has ended, over a restart of the driver too; the last state is the result.
async fn watch(cli: &Cli, id: &str, at: &SocketArgs) -> anyhow::Result<()> {
    let mut patience = Patience::default();
    let backup = loop {
        let met = match follow(cli, id, at, &mut patience).await {
            Ok(Some(backup)) => break backup,
            Ok(None) => Status::unavailable("it ended without a word"),
            Err(status) => status,
        };
        let waited = patience.wait(cli, met).await;
        waited.map_err(|status| said(at, &status))?;
    };
    let status = backup.status();
    print(cli, backup)?;
    match status {
        BackupStatus::Available => Ok(()),
        BackupStatus::Error => bail!("the backup failed"),
        other => bail!("the backup is {}", word(other)),
    }
}

/// Follows it as long as the driver tells of it; `None` if it had not ended by then.
async fn follow(
    cli: &Cli,
    id: &str,
    at: &SocketArgs,
    patience: &mut Patience,
) -> Result<Option<Backup>, Status> {
    let request = GetBackupRequest {
        backup_id: id.to_owned(),
    };
    let mut stream = client(at).watch_backup(request).await?.into_inner();
    let mut last = None;
    while let Some(backup) = stream.message().await? {
        patience.heard();
        if !cli.quiet && backup.status() == BackupStatus::Creating {
            remark!("{}", now(&backup));
        }
        last = Some(backup);
    }
    let is_over = |backup: &Backup| {
        let status = backup.status();
        !matches!(status, BackupStatus::Creating | BackupStatus::Cancelling)
    };
    Ok(last.filter(is_over))
}

/// One line: how far, how fast, how long still, and what the last attempt met.
fn now(backup: &Backup) -> String {
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

fn print(cli: &Cli, backup: Backup) -> anyhow::Result<()> {
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

fn row(backup: Backup) -> Row {
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

fn word(status: BackupStatus) -> &'static str {
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

fn request(args: &BackupIdArgs) -> GetBackupRequest {
    GetBackupRequest {
        backup_id: args.id.clone(),
    }
}

fn client(at: &SocketArgs) -> BackupsClient<Channel> {
    BackupsClient::new(socket::channel(at.socket.clone()))
}

#[cfg(test)]
mod tests {
    use stockpot_proto::stockpot::v1::Progress;

    use super::*;

    #[test]
    fn what_was_sent_and_what_failed_stand_in_the_list() {
        let backup = |name: &str, status: BackupStatus, error: &str| {
            row(Backup {
                name: name.to_owned(),
                status: status.into(),
                error: error.to_owned(),
                progress: Some(Progress {
                    bytes_total: 100 << 20,
                    bytes_done: 45 << 20,
                    bytes_transferred: 3 << 20,
                    ..Progress::default()
                }),
                ..Backup::default()
            })
        };
        let text = table(&[
            backup("b1", BackupStatus::Error, "no bucket"),
            backup("b2", BackupStatus::Creating, ""),
        ]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0][3..6], ["STATUS", "SIZE", "SENT"]);
        assert_eq!(lines[1][2..], ["error", "100", "MiB", "3.00", "MiB"]);
        assert_eq!(lines[2][2..5], ["creating", "45", "%"]);
        assert_eq!(lines[3], ["b1:", "no", "bucket"]);
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn the_attempt_that_runs_is_told_from_those_before() {
        let mut backup = Backup {
            attempts: 1,
            error: "no route".to_owned(),
            ..Backup::default()
        };
        let waits = "waiting (1 attempt so far; the last error: no route)";
        assert_eq!(now(&backup), waits);
        backup.progress = Some(Progress {
            phase: "moving data".to_owned(),
            ..Progress::default()
        });
        backup.attempts = 2;
        let text = now(&backup);
        assert!(text.starts_with("moving data: "), "{text}");
        assert!(
            text.ends_with("(2 attempts so far; the last error: no route)"),
            "{text}"
        );
    }

    #[test]
    fn what_a_restore_shows_is_told() {
        let mut shown = row(Backup {
            consistency: "file-system".to_owned(),
            consistency_text: "ext4 at /data".to_owned(),
            frozen_us: 20_000,
            ..Backup::default()
        });
        assert_eq!(
            shows(&shown),
            "file-system: ext4 at /data (frozen for 20.000 ms)"
        );
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["consistency"], "file-system");
        assert_eq!(json["consistency_text"], "ext4 at /data");
        assert_eq!(json["frozen_us"], 20_000);
        (shown.consistency_text, shown.frozen_us) = (None, 0);
        assert_eq!(shows(&shown), "file-system");
    }
}
