//! The catalog with itself: each status says what else has to be on record.

use super::{Kind, Place, Report, Rows};
use crate::catalog::{
    Attachment, AttachmentKind, AttachmentStep, BackupRow, BackupStatus, CopyState, JobKind,
    Purpose, SnapshotRow, VolumeRow, VolumeStatus,
};

const AT_START: &str = "the next start of the daemon settles it";

/// `rows` stood all the time; what they need is looked for in `after` too.
pub(super) fn compare(rows: &Rows, after: &Rows, report: &mut Report) {
    for row in &rows.volumes {
        volume(row, rows, after, report);
    }
    for row in &rows.attachments {
        attachment(row, after, report);
    }
    for row in &rows.snapshots {
        snapshot(row, rows, after, report);
    }
    jobs(rows, after, report);
    for row in &rows.backups {
        backup(row, after, report);
    }
    for row in &rows.adoptions {
        report
            .find(
                Place::Catalog,
                Kind::Different,
                "volume",
                row.volume_id.as_str(),
            )
            .say(
                format!("to {} {} was begun, and did not end", row.way, row.source),
                AT_START,
            )
            .passes_if(true);
    }
}

fn volume(row: &VolumeRow, rows: &Rows, after: &Rows, report: &mut Report) {
    let id = row.id.as_str();
    let is_of_node = |row: &&Attachment| row.purpose == Purpose::Node;
    let attached = |of: &Rows| {
        of.attachment(AttachmentKind::Volume, id)
            .filter(is_of_node)
            .is_some()
    };
    let is_held = |of: &Rows| {
        let mut backups = of.backups.iter();
        backups.any(|backup| backup.holds_volume && backup.volume_id == row.id)
    };
    let (text, passing) = match row.status {
        VolumeStatus::InUse if !attached(rows) && !attached(after) => (
            "it is in use on record, and nothing says what it is attached as",
            false,
        ),
        VolumeStatus::Available if attached(rows) && attached(after) => {
            ("it is attached, and available on record", false)
        }
        VolumeStatus::BackingUp if !is_held(rows) && !is_held(after) => (
            "it is being backed up on record, and no backup says so",
            false,
        ),
        VolumeStatus::Restoring
            if !rows.has_job(JobKind::Restore, id) && !after.has_job(JobKind::Restore, id) =>
        {
            (
                "it is being restored on record, and nothing does that",
                false,
            )
        }
        // It stood like this all the time, and such work is short.
        VolumeStatus::Creating => ("it is being made", true),
        VolumeStatus::Deleting => ("it is being removed", true),
        VolumeStatus::Extending => ("it is growing", true),
        _ => return,
    };
    report
        .find(Place::Catalog, Kind::Different, "volume", id)
        .say(text, AT_START)
        .passes_if(passing);
}

fn attachment(row: &Attachment, after: &Rows, report: &mut Report) {
    let is_there = match row.kind {
        AttachmentKind::Volume => after.volume(&row.id).is_some(),
        AttachmentKind::Snapshot => after.snapshot(&row.id).is_some(),
    };
    if !is_there {
        return report
            .find(Place::Catalog, Kind::Different, "attachment", &row.id)
            .say(
                format!(
                    "{} {} is attached, and not on record itself",
                    row.kind, row.id
                ),
                AT_START,
            )
            .passes_if(after.is_restoring());
    }
    let is_read = match row.kind {
        AttachmentKind::Snapshot => after.reads_snapshot(&row.id),
        AttachmentKind::Volume => after.works_on_volume(&row.id),
    };
    if row.purpose == Purpose::Transfer && !is_read {
        report
            .find(Place::Catalog, Kind::Different, "attachment", &row.id)
            .say(
                format!(
                    "{} {} is attached for a transfer, and none is under way",
                    row.kind, row.id
                ),
                AT_START,
            )
            .passes_if(false);
    } else if row.purpose == Purpose::Node && row.step != AttachmentStep::Attached {
        report
            .find(Place::Catalog, Kind::Different, "attachment", &row.id)
            .say(
                format!(
                    "attaching or detaching it was broken off at step {}",
                    row.step
                ),
                "attach or detach it again",
            )
            .passes_if(true);
    }
}

fn snapshot(row: &SnapshotRow, rows: &Rows, after: &Rows, report: &mut Report) {
    let id = row.id.as_str();
    let paused = |backup: &BackupRow| backup.snapshot_id == row.id && backup.paused;
    let is_paused = after.backups.iter().any(paused);
    let has_job = rows.has_job(JobKind::Upload, id) || after.has_job(JobKind::Upload, id);
    if row.cloud == CopyState::Pending && row.local != CopyState::Pending && !has_job && !is_paused
    {
        report
            .find(Place::Catalog, Kind::Different, "snapshot", id)
            .say("its upload is awaited, and nothing does that", AT_START)
            .passes_if(row.deleting.is_some());
    } else if row.local == CopyState::Pending || row.deleting.is_some() {
        let what = if row.deleting.is_some() {
            "removed"
        } else {
            "cut"
        };
        let of_it = |backup: &&BackupRow| backup.snapshot_id == row.id && !backup.cleaned;
        let advice = match after.backups.iter().find(of_it) {
            // It is seen to for as long as the daemon runs, with growing pauses.
            Some(backup) => format!(
                "nothing: the daemon goes on with it by itself, as part of backup {}",
                backup.name
            ),
            None => AT_START.to_owned(),
        };
        report
            .find(Place::Catalog, Kind::Different, "snapshot", id)
            .say(format!("it is being {what}"), advice)
            .passes_if(true);
    }
}

fn jobs(rows: &Rows, after: &Rows, report: &mut Report) {
    for job in &rows.jobs {
        let id = job.target_id.as_str();
        let is_awaited = match job.kind {
            JobKind::Upload => after
                .snapshot(id)
                .is_some_and(|row| row.cloud == CopyState::Pending),
            JobKind::Restore => after
                .volume(id)
                .is_some_and(|row| row.status == VolumeStatus::Restoring),
        };
        if !is_awaited {
            report
                .find(Place::Catalog, Kind::Different, "job", id)
                .say(
                    format!("there is a job of kind {} that nothing awaits", job.kind),
                    AT_START,
                )
                .passes_if(false);
        }
    }
}

fn backup(row: &BackupRow, after: &Rows, report: &mut Report) {
    let snapshot = after.snapshot(row.snapshot_id.as_str());
    let volume = after.volume(row.volume_id.as_str());
    let is_backing_up = volume.is_some_and(|v| v.status == VolumeStatus::BackingUp);
    let mut say = |text: String, advice: &str, passing| {
        report
            .find(Place::Catalog, Kind::Different, "backup", &row.id)
            .say(text, advice)
            .passes_if(passing);
    };
    match row.status {
        _ if row.holds_volume && volume.is_some() && !is_backing_up => say(
            format!(
                "it holds volume {}, which is not being backed up",
                row.volume_id
            ),
            AT_START,
            false,
        ),
        BackupStatus::Creating | BackupStatus::Cancelling if snapshot.is_none() => say(
            format!(
                "it is {} and the snapshot that it sends is not on record",
                row.status
            ),
            AT_START,
            true,
        ),
        BackupStatus::Available if snapshot.is_none_or(|s| s.cloud != CopyState::Present) => say(
            format!(
                "it is available, and its cloud copy {} is not on record as present",
                row.snapshot_id
            ),
            "delete the backup, or see what happened to its copy",
            !row.cleaned,
        ),
        _ => {}
    }
}
