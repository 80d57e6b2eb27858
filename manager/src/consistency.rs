//! What is on record against what is there: `stockpot catalog check`. Nothing is changed.
//!
//! | module | what is compared |
//! | --- | --- |
//! | `records` | the catalog with itself: statuses, attachments, jobs, backups |
//! | `storage` | volumes and snapshots with what the pools hold |
//! | `exports` | what other hosts get with the kernel's targets |
//! | `host` | attachments with this host's devices and iSCSI sessions |
//! | `bucket` | cloud copies with what the repositories hold |
//!
//! Work goes on meanwhile. So the catalog is read before and after everything else: what is missing is missing by a row that stood
//! all the time, and what is unknown is on no record before or after. What may be explained by work under way says so.

mod bucket;
mod exports;
mod finding;
mod host;
mod records;
mod storage;

use std::{collections::BTreeMap, sync::Arc};

use stockpot_driver::SnapshotId;
use stockpot_proto::stockpot::v1 as api;

use self::finding::{Kind, Place, Report};
use crate::{
    Manager, ManagerError,
    catalog::{
        Adoption, Attachment, AttachmentKind, BackupRow, Catalog, CopyState, InPlaceRow, Job,
        JobKind, SnapshotRow, StreamRow, VolumeRow, VolumeStatus,
    },
};

/// The whole catalog at one moment, or what of it stood as it is between two.
#[derive(Debug)]
struct Rows {
    volumes: Vec<VolumeRow>,
    snapshots: Vec<SnapshotRow>,
    attachments: Vec<Attachment>,
    jobs: Vec<Job>,
    backups: Vec<BackupRow>,
    adoptions: Vec<Adoption>,
    /// Restores into volumes that are under way.
    in_place: Vec<InPlaceRow>,
    /// Streams that are under way.
    streams: Vec<StreamRow>,
    /// The local snapshots that cloud copies are read from, where these are not their own.
    kept_sources: BTreeMap<SnapshotId, SnapshotId>,
}

impl Rows {
    async fn read(catalog: &Catalog) -> Result<Self, ManagerError> {
        // Before the attachments: what is attached is explained by what was under way then.
        let mut streams = catalog.streams().await?;
        streams.retain(|row| row.ended_at_us.is_none());
        Ok(Self {
            streams,
            kept_sources: catalog.kept_sources().await?,
            volumes: catalog.volumes().await?,
            snapshots: catalog.snapshots().await?,
            attachments: catalog.attachments().await?,
            jobs: catalog.jobs().await?,
            backups: catalog.backups().await?,
            adoptions: catalog.adoptions().await?,
            in_place: catalog.in_place_under_way().await?,
        })
    }

    /// Only the rows that are the same at another moment.
    fn standing(mut self, after: &Self) -> Self {
        self.volumes.retain(|row| after.volumes.contains(row));
        self.snapshots.retain(|row| after.snapshots.contains(row));
        self.attachments
            .retain(|row| after.attachments.contains(row));
        self.jobs.retain(|row| after.jobs.contains(row));
        self.backups.retain(|row| {
            let same = |other: &&BackupRow| {
                other.id == row.id
                    && other.status == row.status
                    && other.holds_volume == row.holds_volume
            };
            after.backups.iter().any(|other| same(&other))
        });
        self.adoptions.retain(|row| after.adoptions.contains(row));
        self
    }

    fn volume(&self, id: &str) -> Option<&VolumeRow> {
        self.volumes.iter().find(|row| row.id.as_str() == id)
    }

    fn snapshot(&self, id: &str) -> Option<&SnapshotRow> {
        self.snapshots.iter().find(|row| row.id.as_str() == id)
    }

    fn has_job(&self, kind: JobKind, id: &str) -> bool {
        let is_it = |job: &Job| job.kind == kind && job.target_id == id;
        self.jobs.iter().any(is_it)
    }

    /// Whether something reads a snapshot: an upload of it, or of a cloud copy that is read from it, or a stream.
    fn reads_snapshot(&self, id: &str) -> bool {
        let mut kept = self.kept_sources.iter();
        let is_sent = |row: &StreamRow| row.snapshot_id.as_ref().is_some_and(|s| s.as_str() == id);
        self.has_job(JobKind::Upload, id)
            || kept.any(|(copy, source)| {
                source.as_str() == id && self.has_job(JobKind::Upload, copy.as_str())
            })
            || self.streams.iter().any(is_sent)
    }

    /// Whether a volume is read by a backup, or filled by a restore or a stream.
    fn works_on_volume(&self, id: &str) -> bool {
        let is_filled = |row: &StreamRow| {
            let spare = row.spare_volume_id.as_ref();
            row.snapshot_id.is_none()
                && (row.volume_id.as_str() == id || spare.is_some_and(|s| s.as_str() == id))
        };
        self.has_job(JobKind::Restore, id)
            || self
                .snapshots
                .iter()
                .any(|row| row.volume_id.as_str() == id && row.cloud == CopyState::Pending)
            || self.streams.iter().any(is_filled)
    }

    fn attachment(&self, kind: AttachmentKind, id: &str) -> Option<&Attachment> {
        let mut rows = self.attachments.iter();
        rows.find(|row| row.kind == kind && row.id == id)
    }

    /// Whether a volume is being filled: what does that may have volumes of its own.
    fn is_restoring(&self) -> bool {
        let is_restoring = |row: &VolumeRow| row.status == VolumeStatus::Restoring;
        self.volumes.iter().any(is_restoring)
            || self.jobs.iter().any(|job| job.kind == JobKind::Restore)
    }
}

impl Manager {
    /// Compares the catalog with the storage, the exports, this host, and unless `local_only` the buckets.
    ///
    /// # Errors
    /// Only when the catalog itself cannot be read: what cannot be asked is a finding.
    pub(crate) async fn check_catalog(
        self: Arc<Self>,
        local_only: bool,
    ) -> Result<api::CheckCatalogResponse, ManagerError> {
        let mut report = Report::default();
        let before = Rows::read(&self.catalog).await?;
        let pools = storage::look(&self, &mut report).await;
        let sessions = self.connector.sessions().await;
        let seen = match local_only {
            true => None,
            false => Some(bucket::look(&self, &mut report).await?),
        };
        let after = Rows::read(&self.catalog).await?;
        let rows = before.standing(&after);
        report.looked_at(format!(
            "{} volumes, {} snapshots, {} backups, {} attachments and {} jobs on record",
            after.volumes.len(),
            after.snapshots.len(),
            after.backups.len(),
            after.attachments.len(),
            after.jobs.len()
        ));
        records::compare(&rows, &after, &mut report);
        storage::compare(&self, &rows, &after, &pools, &mut report);
        exports::compare(&self, &mut report).await;
        host::compare(&rows, &after, sessions, &mut report).await;
        if let Some(seen) = seen {
            bucket::compare(&self, &rows, &after, &seen, &mut report);
        }
        Ok(report.into_answer())
    }
}
