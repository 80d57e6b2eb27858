//! What is asked of the driver for its overview. The names stay.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;
use serde::Serialize;
use stockpot_proto::{
    socket,
    stockpot::v1::{
        Backup, BackupStatus, CopyState, GetCapacityRequest, GetInfoRequest, ListBackupsRequest,
        ListSchedulesRequest, ListSnapshotsRequest, Progress, Schedule, Snapshot, Volume,
        VolumeStatus, backups_client::BackupsClient, manager_client::ManagerClient,
        schedules_client::SchedulesClient,
    },
};
use tonic::{Code, transport::Channel};

use super::super::{
    snapshot::{client, said},
    volume::{seconds_left, volumes, word},
};
use crate::cli::SocketArgs;

/// Backups of each kind that are shown.
const BACKUPS_SHOWN: usize = 5;
/// Schedules that are shown.
const SCHEDULES_SHOWN: usize = 5;

/// A running driver at one moment.
#[derive(Debug, Default, Serialize)]
pub(super) struct Overview {
    pub(super) node: String,
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) not_ready_reason: String,
    pub(super) pools: Vec<Pool>,
    /// How many volumes are in each status.
    pub(super) volumes: BTreeMap<&'static str, u64>,
    /// Names of those whose making failed.
    pub(super) volumes_in_error: Vec<String>,
    pub(super) transfers: Vec<Transfer>,
    /// The last that ended well, the newest first.
    pub(super) last_backups: Vec<Ended>,
    /// The last that failed, the newest first.
    pub(super) last_failures: Vec<Ended>,
    /// Those that run next, the soonest first.
    pub(super) schedules: Vec<Due>,
    /// How long file systems were frozen for backups; none where none was.
    pub(super) freezes: Option<Freezes>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Pool {
    pub(super) pool: String,
    pub(super) driver: String,
    pub(super) total_bytes: u64,
    pub(super) available_bytes: u64,
    pub(super) used_percent: u64,
    /// Why it cannot be asked.
    pub(super) error: Option<String>,
}

/// An upload or restore under way.
#[derive(Debug, Serialize)]
pub(super) struct Transfer {
    /// `upload` or `restore`.
    pub(super) kind: &'static str,
    /// The snapshot, or the volume that is restored.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) phase: String,
    pub(super) bytes_done: u64,
    pub(super) bytes_total: u64,
    pub(super) bytes_per_second: u64,
    pub(super) seconds_left: Option<u64>,
    /// What its last attempt met.
    pub(super) error: Option<String>,
}

/// A backup that has ended.
#[derive(Debug, Serialize)]
pub(super) struct Ended {
    pub(super) backup_id: String,
    pub(super) name: String,
    pub(super) volume_name: String,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) bytes_total: u64,
    pub(super) bytes_transferred: u64,
    pub(super) reason: Option<String>,
    pub(super) error: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Due {
    pub(super) name: String,
    pub(super) next_run_at: Timestamp,
    pub(super) last_failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Freezes {
    pub(super) count: usize,
    pub(super) median_us: u64,
    pub(super) worst_us: u64,
}

/// Asks for all of it. A driver that is not ready is asked for no more than why.
///
/// # Errors
/// If it cannot be asked.
pub(super) async fn gather(at: &SocketArgs) -> anyhow::Result<Overview> {
    let mut manager = client(at);
    let info = manager.get_info(GetInfoRequest {}).await;
    let info = info.map_err(|status| said(at, &status))?.into_inner();
    let mut overview = Overview {
        node: info.node_id,
        version: info.version,
        ready: info.ready,
        not_ready_reason: info.not_ready_reason,
        ..Overview::default()
    };
    if !overview.ready {
        return Ok(overview);
    }
    for pool in info.pools {
        overview.pools.push(look_at(&mut manager, at, pool).await);
    }
    let volumes = volumes(&mut manager, at).await?;
    let backups = backups(at).await?;
    overview.transfers = uploads(&mut manager, at, &backups).await?;
    overview
        .transfers
        .extend(volumes.iter().filter_map(restore_of));
    for volume in volumes {
        *overview.volumes.entry(word(volume.status())).or_default() += 1;
        if volume.status() == VolumeStatus::Error {
            overview.volumes_in_error.push(volume.name);
        }
    }
    overview.freezes = freezes(&backups);
    (overview.last_backups, overview.last_failures) = ended(backups);
    overview.schedules = schedules(at).await?;
    Ok(overview)
}

async fn look_at(manager: &mut ManagerClient<Channel>, at: &SocketArgs, pool: String) -> Pool {
    let request = GetCapacityRequest { pool: pool.clone() };
    match manager.get_capacity(request).await {
        Ok(room) => {
            let room = room.into_inner();
            let used = room.total_bytes.saturating_sub(room.available_bytes);
            Pool {
                pool,
                driver: room.driver,
                total_bytes: room.total_bytes,
                available_bytes: room.available_bytes,
                used_percent: used
                    .saturating_mul(100)
                    .checked_div(room.total_bytes)
                    .unwrap_or(0),
                error: None,
            }
        }
        // The others may answer.
        Err(status) => Pool {
            pool,
            error: Some(said(at, &status).to_string()),
            ..Pool::default()
        },
    }
}

async fn backups(at: &SocketArgs) -> anyhow::Result<Vec<Backup>> {
    let mut client = BackupsClient::new(socket::channel(at.socket.clone()));
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListBackupsRequest {
            starting_token: token,
            ..ListBackupsRequest::default()
        };
        let page = client.list_backups(request).await;
        let page = page.map_err(|status| said(at, &status))?.into_inner();
        all.extend(page.backups);
        token = page.next_token;
        if token.is_empty() {
            return Ok(all);
        }
    }
}

/// Uploads under way, as their backups tell of them where they have one.
async fn uploads(
    manager: &mut ManagerClient<Channel>,
    at: &SocketArgs,
    backups: &[Backup],
) -> anyhow::Result<Vec<Transfer>> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListSnapshotsRequest {
            starting_token: token,
            on_record_only: true,
            ..ListSnapshotsRequest::default()
        };
        let page = manager.list_snapshots(request).await;
        let page = page.map_err(|status| said(at, &status))?.into_inner();
        let pending = page.snapshots.into_iter();
        let pending = pending.filter(|one| one.cloud() == CopyState::Pending);
        all.extend(pending.map(|snapshot| {
            let of = backups.iter();
            let backup = of.filter(|backup| backup.status() == BackupStatus::Creating);
            let backup = backup
                .into_iter()
                .find(|backup| backup.snapshot_id == snapshot.snapshot_id);
            upload_of(snapshot, backup)
        }));
        token = page.next_token;
        if token.is_empty() {
            return Ok(all);
        }
    }
}

fn upload_of(snapshot: Snapshot, backup: Option<&Backup>) -> Transfer {
    let progress = backup.and_then(|backup| backup.progress.clone());
    let progress = progress.or(snapshot.progress).unwrap_or_default();
    let mut transfer = transfer("upload", snapshot.snapshot_id, snapshot.name, &progress);
    transfer.error = Some(snapshot.error).filter(|error| !error.is_empty());
    if let Some(backup) = backup {
        transfer.name.clone_from(&backup.name);
        transfer.seconds_left = backup.seconds_left;
        if backup.paused {
            "paused".clone_into(&mut transfer.phase);
        }
    }
    transfer
}

fn restore_of(volume: &Volume) -> Option<Transfer> {
    if volume.status() != VolumeStatus::Restoring {
        return None;
    }
    let progress = volume.progress.clone().unwrap_or_default();
    let (id, name) = (volume.volume_id.clone(), volume.name.clone());
    Some(transfer("restore", id, name, &progress))
}

fn transfer(kind: &'static str, id: String, name: String, progress: &Progress) -> Transfer {
    Transfer {
        kind,
        id,
        name,
        phase: match progress.phase.as_str() {
            "" => "waiting".to_owned(),
            phase => phase.to_owned(),
        },
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        bytes_per_second: progress.bytes_per_second,
        seconds_left: seconds_left(progress),
        error: None,
    }
}

/// The last that ended well, and the last that failed.
fn ended(backups: Vec<Backup>) -> (Vec<Ended>, Vec<Ended>) {
    let of = |wanted: BackupStatus| {
        let mut rows: Vec<Ended> = backups
            .iter()
            .filter(|backup| backup.status() == wanted)
            .map(row)
            .collect();
        rows.sort_by_key(|row| Reverse(row.ended_at));
        rows.truncate(BACKUPS_SHOWN);
        rows
    };
    (of(BackupStatus::Available), of(BackupStatus::Error))
}

fn row(backup: &Backup) -> Ended {
    let progress = backup.progress.clone().unwrap_or_default();
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Ended {
        backup_id: backup.backup_id.clone(),
        name: backup.name.clone(),
        volume_name: backup.volume_name.clone(),
        ended_at: backup
            .ended_at
            .and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()),
        bytes_total: progress.bytes_total,
        bytes_transferred: progress.bytes_transferred,
        reason: given(&backup.reason),
        error: given(&backup.error),
    }
}

/// The median and the worst of all on record. Of two in the middle the lesser one, as `ListBackups` tells it.
fn freezes(backups: &[Backup]) -> Option<Freezes> {
    let mut times: Vec<u64> = backups.iter().map(|backup| backup.frozen_us).collect();
    times.retain(|time| *time > 0);
    times.sort_unstable();
    Some(Freezes {
        count: times.len(),
        median_us: *times.get(times.len().checked_sub(1)? / 2)?,
        worst_us: *times.last()?,
    })
}

async fn schedules(at: &SocketArgs) -> anyhow::Result<Vec<Due>> {
    let mut client = SchedulesClient::new(socket::channel(at.socket.clone()));
    let listed = match client.list_schedules(ListSchedulesRequest {}).await {
        Ok(listed) => listed.into_inner().schedules,
        // A driver of an earlier version.
        Err(status) if status.code() == Code::Unimplemented => Vec::new(),
        Err(status) => return Err(said(at, &status)),
    };
    let mut due: Vec<Due> = listed.into_iter().filter_map(next_run).collect();
    due.sort_by_key(|due| due.next_run_at);
    due.truncate(SCHEDULES_SHOWN);
    Ok(due)
}

fn next_run(schedule: Schedule) -> Option<Due> {
    let at = schedule.next_run_at.filter(|_| !schedule.paused)?;
    Some(Due {
        name: schedule.name,
        next_run_at: Timestamp::new(at.seconds, at.nanos).ok()?,
        last_failed: schedule.last_failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(name: &str, status: BackupStatus, ended: i64, frozen_us: u64) -> Backup {
        let mut backup = Backup {
            name: name.to_owned(),
            status: status.into(),
            ended_at: Some(Default::default()),
            frozen_us,
            ..Backup::default()
        };
        if let Some(at) = &mut backup.ended_at {
            at.seconds = ended;
        }
        backup
    }

    #[test]
    fn the_newest_come_first_and_failures_stand_apart() {
        let mut all: Vec<Backup> = (0..7)
            .map(|n| backup(&format!("b{n}"), BackupStatus::Available, n, 0))
            .collect();
        all.push(backup("bad", BackupStatus::Error, 3, 0));
        all.push(backup("now", BackupStatus::Creating, 9, 0));
        let (good, bad) = ended(all);
        let names: Vec<&str> = good.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["b6", "b5", "b4", "b3", "b2"]);
        assert_eq!(bad.len(), 1);
    }

    #[test]
    fn the_median_and_the_worst_freeze() {
        let frozen = |us| backup("b", BackupStatus::Available, 0, us);
        assert_eq!(freezes(&[frozen(0)]), None);
        let all = [frozen(9), frozen(0), frozen(5), frozen(100)];
        let found = freezes(&all).unwrap();
        assert_eq!((found.count, found.median_us, found.worst_us), (3, 9, 100));
        let two = freezes(&[frozen(9), frozen(5)]).unwrap();
        assert_eq!((two.count, two.median_us, two.worst_us), (2, 5, 9));
    }
}
