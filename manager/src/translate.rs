//! From what is on record, and what buckets say, to the words of the interface.

use std::collections::HashMap;

use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::{
    format::manifest::Manifest,
    snapshots::{SnapshotSummary, Status},
};

use crate::{
    catalog::{
        Consistency, CopyState, SnapshotRow, SourceCopy, VolumeRow, VolumeSource, VolumeStatus,
    },
    snapshots::metadata::consistency_of,
    transfers::HowFar,
};

/// What the bucket says of a cloud copy on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloudTruth {
    /// The same, or it was not asked.
    AsRecorded,
    /// It was deleted there.
    Deleted,
    /// It does not answer, or does not show it.
    Unknown,
}

/// A volume, without progress.
pub(crate) fn volume(row: &VolumeRow) -> api::Volume {
    let (source_snapshot, source_volume_id) = match &row.source {
        VolumeSource::Empty | VolumeSource::Adopted => (None, String::new()),
        VolumeSource::Snapshot(id, copy) => (
            Some(api::SnapshotSource {
                snapshot_id: id.to_string(),
                copy: source_copy(*copy).into(),
            }),
            String::new(),
        ),
        VolumeSource::Volume(id) => (None, id.to_string()),
    };
    let error = row.error.as_ref();
    api::Volume {
        volume_id: row.id.to_string(),
        name: row.name.clone(),
        size_bytes: row.size_bytes,
        pool: row.pool.clone(),
        status: volume_status(row.status).into(),
        error: error.map(|e| e.text.clone()).unwrap_or_default(),
        error_code: error.map(|e| code(e.code)).unwrap_or_default(),
        source_snapshot,
        source_volume_id,
        metadata: row.metadata.clone().into_iter().collect(),
        created_at: Some(timestamp(row.created_at_us)),
        progress: None,
        previous_status: row
            .previous_status
            .map_or(api::VolumeStatus::Unspecified, volume_status)
            .into(),
        device_path: String::new(),
    }
}

/// A snapshot on record: with what its upload came to, without the progress of one under way.
pub(crate) fn snapshot(row: &SnapshotRow, truth: CloudTruth) -> api::Snapshot {
    let (consistency, consistency_text) = shown(row.consistency.as_ref());
    let cloud = match (row.cloud, truth) {
        (CopyState::Present, CloudTruth::Deleted) => api::CopyState::Deleted,
        (CopyState::Present, CloudTruth::Unknown) => api::CopyState::Unknown,
        (state, _) => copy_state(state),
    };
    let local = copy_state(row.local);
    let wanted = if row.profile.is_empty() { local } else { cloud };
    let error = row.error.as_ref();
    api::Snapshot {
        snapshot_id: row.id.to_string(),
        name: row.name.clone(),
        source_volume_id: row.volume_id.to_string(),
        volume_name: row.volume_name.clone(),
        size_bytes: row.size_bytes.unwrap_or_default(),
        cut_at: row.cut_at_us.map(timestamp),
        local: local.into(),
        cloud: cloud.into(),
        ready: wanted == api::CopyState::Present && row.deleting.is_none(),
        profile: row.profile.clone(),
        cloud_location: row.location.clone().unwrap_or_default(),
        error: error.map(|e| e.text.clone()).unwrap_or_default(),
        error_code: error.map(|e| code(e.code)).unwrap_or_default(),
        progress: sent(row),
        reason: row
            .reason
            .as_ref()
            .map(|r| r.0.to_string())
            .unwrap_or_default(),
        reason_text: row.reason.as_ref().map(|r| r.1.clone()).unwrap_or_default(),
        kept_as_base: row.kept_as_base,
        consistency,
        consistency_text,
        metadata: row.metadata.clone().into_iter().collect(),
    }
}

/// The final figures of a committed upload.
fn sent(row: &SnapshotRow) -> Option<api::Progress> {
    let sent = row.sent.filter(|_| row.cloud == CopyState::Present)?;
    let size_bytes = row.size_bytes.unwrap_or_default();
    Some(api::Progress {
        phase: "done".to_owned(),
        bytes_total: size_bytes,
        bytes_done: size_bytes,
        bytes_transferred: sent.stored_bytes,
        // How long it took is not on record.
        bytes_per_second: 0,
        requests: sent.requests,
    })
}

/// What a restore shows, and why; empty where nobody knows.
fn shown(consistency: Option<&(Consistency, String)>) -> (String, String) {
    let shown = consistency.map(|(what, why)| (what.to_string(), why.clone()));
    shown.unwrap_or_default()
}

/// A snapshot that only a bucket knows.
pub(crate) fn snapshot_in_bucket(
    manifest: &Manifest,
    profile: &str,
    location: String,
) -> api::Snapshot {
    let (consistency, consistency_text) = shown(consistency_of(manifest).as_ref());
    let metadata: HashMap<String, String> = manifest.metadata.clone().into_iter().collect();
    api::Snapshot {
        snapshot_id: manifest.snapshot_id.to_string(),
        name: metadata.get("snapshot_name").cloned().unwrap_or_default(),
        source_volume_id: manifest.volume_id.to_string(),
        volume_name: manifest.volume_name.clone(),
        size_bytes: manifest.size_bytes,
        cut_at: Some(timestamp(manifest.cut_at.as_microsecond())),
        local: api::CopyState::None.into(),
        cloud: api::CopyState::Present.into(),
        ready: true,
        profile: profile.to_owned(),
        cloud_location: location,
        error: String::new(),
        error_code: 0,
        progress: None,
        reason: manifest.reason.to_string(),
        reason_text: String::new(),
        kept_as_base: false,
        consistency,
        consistency_text,
        metadata,
    }
}

/// A snapshot from a bucket's list that is not on record; `None` where there is none (deleted, or not complete).
pub(crate) fn snapshot_listed(
    summary: &SnapshotSummary,
    profile: &str,
    repository: &str,
) -> Option<api::Snapshot> {
    match (&summary.status, &summary.manifest) {
        (Status::Committed, Some(manifest)) => {
            let location = format!("{repository}/{}", manifest.object_key());
            Some(snapshot_in_bucket(manifest, profile, location))
        }
        // Shown, so that nobody takes it for gone, and not ready.
        (Status::Unreadable(why), _) => Some(api::Snapshot {
            snapshot_id: summary.snapshot_id.to_string(),
            source_volume_id: summary
                .volume_id
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            cloud: api::CopyState::Unknown.into(),
            profile: profile.to_owned(),
            error: why.clone(),
            error_code: code(tonic::Code::DataLoss.into()),
            ..Default::default()
        }),
        (Status::Committed | Status::Deleted | Status::Uploading, _) => None,
    }
}

/// How far a transfer is.
pub(crate) fn progress(how_far: &HowFar) -> api::Progress {
    let counters = &how_far.counters;
    let (bytes_done, bytes_total) = how_far.done_of_total();
    let millis = u64::try_from(how_far.elapsed.as_millis()).unwrap_or(u64::MAX);
    api::Progress {
        phase: how_far.phase().to_owned(),
        bytes_total,
        bytes_done,
        bytes_transferred: counters.bytes_moved,
        bytes_per_second: counters.bytes_moved.saturating_mul(1000) / millis.max(1),
        requests: counters.requests,
    }
}

/// The copy that a request asks for; what is not known is `auto`, as an absent field is.
pub(crate) fn asked_copy(copy: api::SourceCopy) -> SourceCopy {
    match copy {
        api::SourceCopy::Auto => SourceCopy::Auto,
        api::SourceCopy::Local => SourceCopy::Local,
        api::SourceCopy::Cloud => SourceCopy::Cloud,
    }
}

fn source_copy(copy: SourceCopy) -> api::SourceCopy {
    match copy {
        SourceCopy::Auto => api::SourceCopy::Auto,
        SourceCopy::Local => api::SourceCopy::Local,
        SourceCopy::Cloud => api::SourceCopy::Cloud,
    }
}

fn volume_status(status: VolumeStatus) -> api::VolumeStatus {
    match status {
        VolumeStatus::Creating => api::VolumeStatus::Creating,
        VolumeStatus::Restoring => api::VolumeStatus::Restoring,
        VolumeStatus::Available => api::VolumeStatus::Available,
        VolumeStatus::InUse => api::VolumeStatus::InUse,
        VolumeStatus::BackingUp => api::VolumeStatus::BackingUp,
        VolumeStatus::Extending => api::VolumeStatus::Extending,
        VolumeStatus::Deleting => api::VolumeStatus::Deleting,
        VolumeStatus::Error => api::VolumeStatus::Error,
    }
}

fn copy_state(state: CopyState) -> api::CopyState {
    match state {
        CopyState::None => api::CopyState::None,
        CopyState::Pending => api::CopyState::Pending,
        CopyState::Present => api::CopyState::Present,
        CopyState::Failed => api::CopyState::Failed,
        CopyState::Deleted => api::CopyState::Deleted,
    }
}

pub(crate) fn code(code: i32) -> u32 {
    u32::try_from(code).unwrap_or_default()
}

pub(crate) fn timestamp(microseconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: microseconds.div_euclid(1_000_000),
        nanos: i32::try_from(microseconds.rem_euclid(1_000_000) * 1000)
            .expect("less than a second in nanoseconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_the_epoch() {
        let of = |us| (timestamp(us).seconds, timestamp(us).nanos);
        assert_eq!(of(1_500_000), (1, 500_000_000));
        assert_eq!(of(-1), (-1, 999_999_000));
    }
}
