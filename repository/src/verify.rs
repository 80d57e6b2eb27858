//! Is everything there that the snapshots need, and is it sound?
//!
//! The structure is always checked: records, every page of both trees with its hash, every pack with its size, and that each
//! place a map names is a frame of that pack's own index with the same hash. With `read_data` every byte of every pack
//! is read too: frames are opened, decompressed and hashed, and the object's checksum is compared with the pack
//! list. A sample reads a share of the frames instead. Problems do not end a verify; they are gathered with object, offset
//! and the snapshots that suffer. Only a bucket that does not answer ends it early.
//!
//! Frames that snapshots need and that are bad are put into a mark: later uploads do not refer to them, so that a backup of a
//! volume that still has the data stores it again. What is wrong with a snapshot that was deleted while the verify ran is told
//! of nowhere: a prune may take away what it needed. A pack that is missing, or of which nobody can say which frames are good, is
//! marked as a whole. A verify of all snapshots also looks for those whose records somebody took away.

mod ended;
mod index;
mod problems;
mod sample;
mod structure;
mod unaccounted;
mod unsound;
mod walk;

use std::{collections::BTreeSet, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use problems::Problem;
use problems::{Problems, ids_of};
use sample::Choice;
pub use sample::Sample;
use unsound::Unsound;

use crate::{
    Phase, Progress, ReadSettings, Repository, RepositoryError,
    fetch::Fetcher,
    format::{
        FormatError,
        ids::{
            CONDEMNED_PREFIX, INTENTS_PREFIX, MARKS_PREFIX, SEEN_PREFIX, SLOTS_PREFIX,
            SNAPSHOTS_PREFIX, SnapshotId, parse_snapshot_key,
        },
        limits::SMALL_OBJECT_MAX,
        manifest::{Manifest, SnapshotRecord},
        protocol::{Condemned, Intent, Mark, Seen},
        record::Record,
        slot::Slot,
    },
    pages::Pages,
    repository::{Strays, list_all, read_object},
    snapshots::{chain, manifest_below, record_at},
};

/// How to verify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifySettings {
    /// Read all data, not only what leads to it.
    pub read_data: bool,
    /// Of the data, read this share only.
    pub sample: Option<Sample>,
    /// Snapshots that were deleted as well, of which a manifest is left below the tombstone: in a repository that was opened by
    /// [`open_first`](Repository::open_first).
    pub deleted: bool,
    /// Do not write marks for what is bad.
    pub no_marks: bool,
    /// Limits.
    pub read: ReadSettings,
}

/// What a verify found.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Snapshots that were checked.
    pub snapshots: Vec<SnapshotId>,
    /// Packs that they need.
    pub packs: u64,
    /// Bytes received from the bucket.
    pub received_bytes: u64,
    /// Bytes of packs whose content was checked; 0 unless data was read.
    pub data_bytes: u64,
    /// Everything that is wrong; empty is what one hopes for.
    pub problems: Vec<Problem>,
    /// Snapshots that were deleted meanwhile: what they alone needed may be gone, and that is no problem.
    pub ended: Vec<SnapshotId>,
    /// Frames that are bad and that none of these snapshots needs.
    pub unneeded: u64,
    /// Bad frames that were not marked before and are now: the next backup stores them again.
    pub marked: u64,
    /// Why marks could not be written.
    pub unmarked: Option<String>,
}

/// Verifies snapshots; all of them where `ids` is `None`.
///
/// # Errors
/// [`RepositoryError::UnknownSnapshot`], [`RepositoryError::Cancelled`], [`RepositoryError::KeyNeeded`], [`RepositoryError::Settings`], and a bucket that
/// does not answer. What is wrong with the repository is no error but a [`Problem`].
pub async fn verify(
    repository: &Repository,
    ids: Option<&[SnapshotId]>,
    settings: &VerifySettings,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<VerifyReport, RepositoryError> {
    settings.read.check()?;
    progress.enter(Phase::Starting);
    // Nothing but marks is written, each by one request: whatever is under way may be dropped anywhere.
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(RepositoryError::Cancelled),
        report = check(repository, ids, settings, progress, cancel) => report,
    }
}

async fn check(
    repository: &Repository,
    ids: Option<&[SnapshotId]>,
    settings: &VerifySettings,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<VerifyReport, RepositoryError> {
    let job = Job {
        repository,
        fetcher: Fetcher {
            store: repository.store().clone(),
            progress: progress.clone(),
        },
        settings,
        cancel,
    };
    let mut problems = Problems::default();
    if ids.is_none() {
        unaccounted::check(&job, &mut problems).await?;
        job.check_others(&mut problems).await?;
    }
    let mut manifests = job.manifests(ids, &mut problems).await?;
    progress.enter(Phase::Map);
    let mut unsound = Unsound::default();
    let needed = structure::check(&job, &manifests, &mut problems, &mut unsound).await?;
    let mut data_bytes = 0;
    if settings.read_data {
        progress.enter(Phase::Data);
        let choice = settings
            .sample
            .map(|sample| Choice::new(sample, needed.sizes()));
        progress.set_total(choice.map_or_else(|| needed.total_bytes(), |c| c.total_bytes));
        walk::check(&job, &needed, choice, &mut problems, &mut unsound).await?;
        data_bytes = progress.snapshot().bytes_scanned;
    }
    let settled = ended::settle(&job, problems, &unsound, &needed, &mut manifests).await?;
    let marked = if settled.bad.is_empty() || settings.no_marks {
        Ok(0)
    } else {
        unsound::mark(&job, settled.bad).await
    };
    progress.enter(Phase::Done);
    Ok(VerifyReport {
        snapshots: manifests.iter().map(|m| m.snapshot_id.clone()).collect(),
        packs: needed.len() as u64,
        received_bytes: progress.snapshot().bytes_moved,
        data_bytes,
        problems: settled.problems.into_sorted(),
        ended: ids_of(settled.ended),
        unneeded: settled.unneeded,
        marked: *marked.as_ref().unwrap_or(&0),
        unmarked: marked.err(),
    })
}

/// What all checks need.
struct Job<'a> {
    repository: &'a Repository,
    fetcher: Fetcher,
    settings: &'a VerifySettings,
    cancel: &'a CancellationToken,
}

impl Job<'_> {
    fn check_cancelled(&self) -> Result<(), RepositoryError> {
        if self.cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        Ok(())
    }

    fn pages(&self) -> Result<Pages, RepositoryError> {
        Ok(Pages::new(
            self.fetcher.clone(),
            self.repository.sealer()?.clone(),
        ))
    }

    /// The manifests to check. One that cannot be read is a problem; a tombstone is none.
    async fn manifests(
        &self,
        ids: Option<&[SnapshotId]>,
        problems: &mut Problems,
    ) -> Result<Vec<Manifest>, RepositoryError> {
        let store = self.repository.store();
        let mut missing: BTreeSet<&SnapshotId> = ids.unwrap_or_default().iter().collect();
        let mut manifests = Vec::new();
        let listed = list_all(&**store, SNAPSHOTS_PREFIX).await?;
        tell_strays(listed.strays, problems);
        for meta in listed.ours {
            self.check_cancelled()?;
            let Ok((volume, snapshot)) = parse_snapshot_key(&meta.key) else {
                continue;
            };
            if ids.is_some_and(|ids| !ids.contains(&snapshot)) {
                continue;
            }
            missing.remove(&snapshot);
            self.fetcher.progress.requested(1);
            let found = match record_at(self.repository, &meta.key).await {
                Ok(Some(SnapshotRecord::Manifest(manifest, _))) => Ok(Some(*manifest)),
                Ok(Some(SnapshotRecord::Tombstone(..))) if self.settings.deleted => {
                    manifest_below(self.repository, &volume, &snapshot).await
                }
                Ok(_) => Ok(None),
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => manifests.extend(found),
                Err(error) => problems.take(error, &meta.key, &[(volume, snapshot)])?,
            }
        }
        match missing.first() {
            Some(snapshot) => Err(RepositoryError::UnknownSnapshot {
                snapshot: snapshot.to_string(),
                location: self.repository.location(),
            }),
            None => Ok(manifests),
        }
    }

    /// Objects that no snapshot needs, but that somebody will read one day.
    async fn check_others(&self, problems: &mut Problems) -> Result<(), RepositoryError> {
        let repository_id = self.repository.id();
        let sealer = self.repository.sealer()?.clone();
        self.check_each(SLOTS_PREFIX, SMALL_OBJECT_MAX, problems, |key, object| {
            Slot::parse(key, repository_id, object).map(drop)
        })
        .await?;
        let open = |key: &str, object: &[u8]| opens::<Intent>(&sealer, key, object);
        self.check_each(INTENTS_PREFIX, Intent::OBJECT_MAX, problems, open)
            .await?;
        let open = |key: &str, object: &[u8]| opens::<Condemned>(&sealer, key, object);
        self.check_each(CONDEMNED_PREFIX, Condemned::OBJECT_MAX, problems, open)
            .await?;
        let open = |key: &str, object: &[u8]| opens::<Mark>(&sealer, key, object);
        self.check_each(MARKS_PREFIX, Mark::OBJECT_MAX, problems, open)
            .await?;
        let open = |key: &str, object: &[u8]| opens::<Seen>(&sealer, key, object);
        self.check_each(SEEN_PREFIX, Seen::OBJECT_MAX, problems, open)
            .await
    }

    async fn check_each(
        &self,
        prefix: &str,
        bytes_max: usize,
        problems: &mut Problems,
        check: impl Fn(&str, &[u8]) -> Result<(), FormatError>,
    ) -> Result<(), RepositoryError> {
        let store = self.repository.store();
        let listed = list_all(&**store, prefix).await?;
        tell_strays(listed.strays, problems);
        for meta in listed.ours {
            self.check_cancelled()?;
            self.fetcher.progress.requested(1);
            let object = match read_object(&**store, &meta.key, bytes_max).await {
                Ok(Some(object)) => object,
                Ok(None) => continue,
                Err(error) => {
                    problems.take(error, &meta.key, &[])?;
                    continue;
                }
            };
            if let Err(error) = check(&meta.key, &object) {
                problems.add(&meta.key, None, chain(&error), []);
            }
        }
        Ok(())
    }
}

/// What does not belong here is one problem, however much it is.
fn tell_strays(strays: Strays, problems: &mut Problems) {
    let Some(first) = strays.first else { return };
    let what = match strays.count - 1 {
        0 => "its name is not one that a repository gives".to_owned(),
        more => format!("its name is not one that a repository gives, and {more} more here"),
    };
    problems.add(&first, None, what, []);
}

fn opens<R: Record>(
    sealer: &crate::format::crypto::Sealer,
    key: &str,
    object: &[u8],
) -> Result<(), FormatError> {
    sealer.open_record::<R>(key, object).map(drop)
}
