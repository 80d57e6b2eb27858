//! Backups in the words of the interface.

use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::Phase;

use crate::{
    Manager, ManagerError,
    catalog::{BackupRow, BackupSource, BackupStatus, JobKind},
    page::{self, Page},
    transfers::HowFar,
    translate,
};

impl Manager {
    /// A backup with the progress of its upload.
    pub(crate) async fn describe_backup(
        &self,
        row: &BackupRow,
    ) -> Result<api::Backup, ManagerError> {
        let mut backup = translate_backup(row);
        if row.source == BackupSource::Kept {
            let source = self.catalog.kept_source(&row.snapshot_id).await?;
            backup.source_snapshot_id = text(source);
        }
        if row.status == BackupStatus::Creating {
            let id = row.snapshot_id.as_str();
            if let Some(how_far) = self.transfers.how_far(JobKind::Upload, id) {
                let mut progress = translate::progress(&how_far);
                if how_far.counters.bytes_to_read == 0 {
                    // Known before the upload has begun with it.
                    progress.bytes_total = row.bytes_total;
                }
                backup.progress = Some(progress);
                (backup.bytes_done_per_second, backup.seconds_left) = pace(&how_far);
            } else if row.location.is_some()
                && let Some(progress) = &mut backup.progress
            {
                // It is committed, and its end is not on record yet.
                progress.phase = "cleaning up".to_owned();
                progress.bytes_done = progress.bytes_total;
            }
            let job = self.catalog.job(JobKind::Upload, id).await?;
            backup.attempts = job.as_ref().map(|job| job.attempts).unwrap_or_default();
            // What the last attempt met, while another one is to follow.
            backup.error = job.and_then(|job| job.error).unwrap_or_default();
        }
        Ok(backup)
    }

    /// One page of the backups that fit the request, oldest first.
    pub(crate) async fn list_backups(
        &self,
        request: api::ListBackupsRequest,
    ) -> Result<Page<api::Backup>, ManagerError> {
        let after = page::parse(&request.starting_token)?;
        let mut rows = self.catalog.backups().await?;
        let volume = request.volume.as_str();
        rows.retain(|row| {
            volume.is_empty() || row.volume_id.as_str() == volume || row.volume_name == volume
        });
        let page = page::cut(rows, after, request.max_entries, |row| row.id.as_str());
        let mut entries = Vec::with_capacity(page.entries.len());
        for row in &page.entries {
            entries.push(self.describe_backup(row).await?);
        }
        Ok(Page {
            entries,
            next_token: page.next_token,
        })
    }
}

/// Bytes dealt with per second in this attempt, and the seconds that the rest takes at that rate. Only while data is read: what
/// comes after it has no size.
fn pace(how_far: &HowFar) -> (u64, Option<u64>) {
    let (done, total) = how_far.done_of_total();
    let millis = how_far.elapsed.as_millis().max(1);
    let rate = u128::from(done) * 1000 / millis;
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let is_known = total > 0 && how_far.counters.phase == Phase::Data;
    let left = total.saturating_sub(done).checked_div(rate);
    (rate, left.filter(|_| is_known))
}

/// What is on record.
fn translate_backup(row: &BackupRow) -> api::Backup {
    let failure = row.failure.as_ref();
    let sent = row.sent;
    api::Backup {
        backup_id: row.id.clone(),
        name: row.name.clone(),
        volume_id: row.volume_id.to_string(),
        volume_name: row.volume_name.clone(),
        profile: row.profile.clone(),
        status: status(row.status).into(),
        snapshot_id: row.snapshot_id.to_string(),
        from_snapshot: row.source == BackupSource::Snapshot,
        attempts: 0,
        source_snapshot_id: String::new(),
        temp_snapshot_id: text(row.temp_snapshot_id.as_ref()),
        temp_volume_id: text(row.temp_volume_id.as_ref()),
        parent: text(row.parent.as_ref()),
        reason: text(row.reason.as_ref().map(|r| r.0)),
        reason_text: text(row.reason.as_ref().map(|r| &r.1)),
        cloud_location: text(row.location.as_ref()),
        error: failure.map(|f| f.text.clone()).unwrap_or_default(),
        error_code: failure.map(|f| translate::code(f.code)).unwrap_or_default(),
        progress: Some(api::Progress {
            phase: row.phase.clone(),
            bytes_total: row.bytes_total,
            bytes_done: row.bytes_done,
            bytes_transferred: sent.map(|s| s.stored_bytes).unwrap_or_default(),
            // How long it took is told by the times.
            bytes_per_second: 0,
            requests: sent.map(|s| s.requests).unwrap_or_default(),
        }),
        bytes_done_per_second: 0,
        seconds_left: None,
        created_at: Some(translate::timestamp(row.created_at_us)),
        cut_at: row.cut_at_us.map(translate::timestamp),
        ended_at: row.ended_at_us.map(translate::timestamp),
        cleaned: row.cleaned,
        metadata: row.metadata.clone().into_iter().collect(),
        paused: row.paused,
        consistency: text(row.consistency.as_ref().map(|c| c.0)),
        consistency_text: text(row.consistency.as_ref().map(|c| &c.1)),
        frozen_us: row.frozen_us,
        schedule: text(row.schedule.as_ref()),
    }
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn status(status: BackupStatus) -> api::BackupStatus {
    match status {
        BackupStatus::Creating => api::BackupStatus::Creating,
        BackupStatus::Available => api::BackupStatus::Available,
        BackupStatus::Cancelling => api::BackupStatus::Cancelling,
        BackupStatus::Cancelled => api::BackupStatus::Cancelled,
        BackupStatus::Error => api::BackupStatus::Error,
        BackupStatus::Deleted => api::BackupStatus::Deleted,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stockpot_repository::Progress;

    use super::*;

    #[test]
    fn nothing_is_promised_that_is_not_known() {
        let at = |seconds| HowFar {
            counters: Progress::new().snapshot(),
            elapsed: Duration::from_secs(seconds),
            waits_for: None,
        };
        assert_eq!(pace(&at(0)), (0, None));
        let mut half = at(4);
        half.counters.phase = Phase::Data;
        half.counters.bytes_total = 1000;
        half.counters.bytes_scanned = 400;
        assert_eq!(pace(&half), (100, Some(6)));
        // Holes are no work: where it is known what is to be read, that counts.
        (half.counters.bytes_to_read, half.counters.bytes_read) = (100, 20);
        assert_eq!(pace(&half), (5, Some(16)));
        half.counters.phase = Phase::Finishing;
        assert_eq!(pace(&half), (5, None));
        let mut none = at(4);
        (none.counters.phase, none.counters.bytes_total) = (Phase::Data, 1000);
        assert_eq!(pace(&none), (0, None));
    }
}
