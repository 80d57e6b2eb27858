//! What is asked of the upload: what it is compared with, and what is said to have changed.

use std::{collections::BTreeMap, ops::Range};

use anyhow::Context as _;
use stockpot_driver::lvm::live::LiveSnapshot;
use stockpot_repository::{
    Repository, RepositoryError,
    format::{
        ids::SnapshotId,
        manifest::{CONSISTENCY_KEY, CONSISTENCY_TEXT_KEY},
    },
    upload::{BaseChoice, Changes, SnapshotRef, SourceCheck, UploadRequest},
};

use super::{Job, settings::settings};
use crate::{cli::BackupArgs, history, pick::pick, usage::Usage};

impl Job<'_> {
    /// Everything but the source.
    pub(super) async fn request(
        &self,
        repository: &Repository,
        size_bytes: u64,
    ) -> anyhow::Result<UploadRequest> {
        let changes = match (&self.changed, &self.args.since) {
            (Some(ranges), Some(since)) => {
                let asking = self.changes_since(repository, ranges, since, size_bytes);
                Some(self.interrupt.unless(asking).await?)
            }
            _ => None,
        };
        Ok(UploadRequest {
            snapshot_id: repository.new_snapshot_id(),
            volume_name: self.volume.to_string(),
            volume_id: self.volume.clone(),
            metadata: metadata(self.args, self.snapshot.is_some()),
            cut_at: self.cut_at,
            extents: None,
            source_check: self.snapshot.map(source_check),
            base: self.base(repository).await?,
            changes,
            // Nobody promises that a file or device is what it was: what an earlier backup sent is found by hash.
            source_is_fixed: false,
            settings: settings(self.args, repository.chunk_size_bytes())?,
        })
    }

    /// The ranges with the snapshot that they count from, if both can be meant.
    async fn changes_since(
        &self,
        repository: &Repository,
        ranges: &[Range<u64>],
        since: &str,
        size_bytes: u64,
    ) -> anyhow::Result<Changes> {
        let (since, base_size_bytes) = self.since(repository, since).await?;
        // A volume that shrank may have changed in what was cut off alone.
        let end = size_bytes.max(base_size_bytes);
        if !ranges.is_empty() && ranges.iter().all(|range| range.start >= end) {
            return Err(Usage::new(format!(
                "--changed: all its ranges lie behind the end of the volume, which has {size_bytes} bytes; offsets and lengths \
                 are in bytes, not in sectors or blocks"
            ))
            .into());
        }
        if ranges.is_empty() {
            remark!(
                "stockpot: --changed has no range: nothing is taken to have changed since {}",
                since.snapshot_id
            );
        }
        Ok(Changes {
            since,
            ranges: ranges.to_vec(),
        })
    }

    /// What is to be compared with; the snapshot's id may be shortened.
    async fn base(&self, repository: &Repository) -> anyhow::Result<BaseChoice> {
        match &self.args.base {
            _ if self.args.full => Ok(BaseChoice::Nothing),
            // Who gives the volume a name knows which one it is.
            None if self.args.volume.is_some() => Ok(BaseChoice::Newest),
            None => Ok(BaseChoice::NewestFrom(source_path(self.args))),
            Some(name) => {
                let finding = async {
                    let picked = pick(repository, name).await;
                    history::explained(&**repository.store(), picked).await
                };
                let manifest = self.interrupt.unless(finding).await.context("--base")?;
                Ok(BaseChoice::Snapshot(SnapshotRef::from(&manifest)))
            }
        }
    }

    /// The snapshot since which changes are known, and the volume's size then, in bytes; its id may be shortened.
    async fn since(
        &self,
        repository: &Repository,
        since: &str,
    ) -> anyhow::Result<(SnapshotRef, u64)> {
        // What was the latest when the changes were noted may not be it any more, and what changed between two snapshots
        // would be taken from the older one.
        if since.starts_with("latest:") {
            return Err(Usage::new(format!(
                "--since {since}: name the snapshot that the changes were counted from by its id; the latest one may be another by now"
            ))
            .into());
        }
        let picked = pick(repository, since).await;
        // No error: then all is read and compared, and the result says so.
        if let Err(error) = &picked
            && let Some(RepositoryError::Deleted { snapshot }) = error.downcast_ref()
        {
            let deleted = SnapshotRef {
                volume_id: self.volume.clone(),
                snapshot_id: SnapshotId::new(snapshot)?,
            };
            // Nothing can be said of it.
            return Ok((deleted, u64::MAX));
        }
        let manifest = history::explained(&**repository.store(), picked).await?;
        if manifest.volume_id != self.volume {
            return Err(Usage::new(format!(
                "--since {since}: this is a snapshot of volume {}, not of {}",
                manifest.volume_id, self.volume
            ))
            .into());
        }
        Ok((SnapshotRef::from(&manifest), manifest.size_bytes))
    }
}

/// Asks LVM whether the snapshot lasted until it was read.
fn source_check(snapshot: &LiveSnapshot) -> SourceCheck {
    let snapshot = snapshot.clone();
    SourceCheck::new(move || {
        let snapshot = snapshot.clone();
        async move { snapshot.check().await }
    })
}

/// Where the source is, from wherever one looks. Links stay: what a device's name leads to may be another one after a reboot.
fn source_path(args: &BackupArgs) -> String {
    let path = std::path::absolute(&args.source);
    path.as_ref().unwrap_or(&args.source).display().to_string()
}

/// What is kept with the snapshot; `is_cut`: a live volume was cut for it.
fn metadata(args: &BackupArgs, is_cut: bool) -> BTreeMap<String, String> {
    let mut metadata: BTreeMap<_, _> = args
        .labels
        .iter()
        .cloned()
        .map(|(k, v)| (format!("label.{k}"), v))
        .collect();
    metadata.insert("source".to_owned(), source_path(args));
    if is_cut {
        // What LVM froze for the cut is not known here: nothing better is promised.
        metadata.insert(CONSISTENCY_KEY.to_owned(), "crash".to_owned());
        let why = "the command line cut the volume as it was";
        metadata.insert(CONSISTENCY_TEXT_KEY.to_owned(), why.to_owned());
    }
    metadata
}
