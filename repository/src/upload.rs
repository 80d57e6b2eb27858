//! From a device or file to a committed snapshot.
//!
//! Workers read, pass zeroes over, hash, compare with the base, compress, seal and fill parts; parts are sent as they fill;
//! the map is built as segments come in; the manifest is written last. The order of what is written is that of
//! section 11 of the format: it is what makes pruning safe without locks.
//!
//! - Broken off by an error or on request: open multipart uploads are aborted, whole packs and the intent stay
//!   for a later attempt. The same snapshot id may be tried again.
//! - Broken off by a crash: as above, but multipart uploads stay open.
//! - Deleted meanwhile (a tombstone is there): the commit is refused and the upload ends with
//!   [`RepositoryError::Deleted`].

mod assemble;
mod base;
mod commit;
mod plan;
pub(crate) mod read_ahead;
mod run;
mod scan;
mod send;
mod source_check;
mod writer;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use jiff::Timestamp;
pub use source_check::SourceCheck;
use tokio_util::sync::CancellationToken;

use crate::{
    Phase, Progress, Repository, RepositoryError, UploadSettings,
    device::Source,
    format::{
        ids::{Run, SnapshotId, VolumeId},
        manifest::{ChunkCounts, Manifest, Reason, check_metadata, now, to_microseconds, tool},
    },
};

/// What is uploaded, and as what.
#[derive(Debug, Clone)]
pub struct UploadRequest {
    /// The snapshot's id: [`Repository::new_snapshot_id`], or that of an attempt that failed.
    pub snapshot_id: SnapshotId,
    /// The volume that it is a snapshot of.
    pub volume_id: VolumeId,
    /// The volume's name for people, at most 255 bytes.
    pub volume_name: String,
    /// Whatever is to be known without reading the volume: file system, claim, labels, profile. At most 16 KiB.
    pub metadata: BTreeMap<String, String>,
    /// The moment that the content is of.
    pub cut_at: Timestamp,
    /// Where data may be, as byte ranges, ascending and not overlapping; all else is holes. `None`: as the source knows it.
    pub extents: Option<Vec<Range<u64>>>,
    /// What to build on.
    pub base: BaseChoice,
    /// Asked when all was read and before the commit, where the source can become void while it is read.
    pub source_check: Option<SourceCheck>,
    /// Limits.
    pub settings: UploadSettings,
}

/// What an upload compares with, so that only what changed is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BaseChoice {
    /// The snapshot of the same volume that was committed last, if there is one.
    #[default]
    Newest,
    /// This snapshot of the same volume.
    Snapshot(SnapshotId),
    /// Nothing: all data is sent.
    Nothing,
}

/// What an upload did.
#[derive(Debug, Clone)]
pub struct UploadReport {
    /// What was committed.
    pub manifest: Manifest,
    /// Packs that this upload put.
    pub packs: u64,
    /// Requests that it made.
    pub requests: u64,
    /// Whether reads passed the page cache by.
    pub direct: bool,
}

/// Uploads a source as a snapshot. When it returns `Ok`, the snapshot is committed: every pack is in the bucket with
/// its size and checksums confirmed, and the manifest names them.
///
/// # Errors
/// [`RepositoryError::Cancelled`] on request; [`RepositoryError::AlreadyCommitted`] and [`RepositoryError::Deleted`] for an
/// id that is decided; [`RepositoryError::Settings`] and [`RepositoryError::Unstorable`] before anything is written;
/// [`RepositoryError::SourceVoid`] if the source's check fails; whatever the device or the store meets.
pub async fn upload(
    repository: &Repository,
    source: Source,
    request: UploadRequest,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<UploadReport, RepositoryError> {
    progress.enter(Phase::Starting);
    progress.set_total(source.size_bytes());
    let sealer = repository.sealer_to_write()?.clone();
    request.settings.check()?;
    check_request(&request)?;
    let started_at = now();
    let run = Run::generate().map_err(unstorable)?;
    let attempt = commit::Attempt {
        repository,
        sealer: &sealer,
        request: &request,
        progress,
        run,
        started_at,
    };
    attempt.refuse_decided().await?;
    let base = attempt.announce().await?;
    let written = run::run(repository, source, &attempt, base, cancel).await;
    let written = match written {
        Ok(written) => written,
        Err(failure) => {
            if failure.packs == 0 {
                // Nothing that a later attempt could use.
                attempt.withdraw().await;
            }
            return Err(failure.error);
        }
    };
    progress.enter(Phase::Finishing);
    let manifest = manifest(&attempt, &written, repository.chunk_size_bytes());
    if let Some(check) = &request.source_check
        && let Err(source) = check.ask().await
    {
        // Nor may a later attempt take up what this one read.
        attempt.withdraw().await;
        return Err(RepositoryError::SourceVoid { source });
    }
    attempt.commit(&manifest).await?;
    attempt.clear_intents().await;
    progress.enter(Phase::Done);
    Ok(UploadReport {
        manifest,
        packs: written.packs,
        requests: progress.snapshot().requests,
        direct: written.direct,
    })
}

/// What cannot be stored is refused before the first byte is read.
fn check_request(request: &UploadRequest) -> Result<(), RepositoryError> {
    check_metadata(&request.metadata).map_err(|source| RepositoryError::Unstorable {
        what: "the snapshot's metadata".to_owned(),
        source,
    })?;
    if request.volume_name.len() > crate::format::limits::TEXT_MAX {
        return Err(RepositoryError::Settings(format!(
            "the volume's name is {} bytes long; 255 is the most",
            request.volume_name.len()
        )));
    }
    Ok(())
}

fn unstorable(source: crate::format::FormatError) -> RepositoryError {
    RepositoryError::Unstorable {
        what: "the snapshot".to_owned(),
        source,
    }
}

fn manifest(
    attempt: &commit::Attempt<'_>,
    written: &run::Written,
    chunk_size_bytes: u32,
) -> Manifest {
    let request = attempt.request;
    Manifest {
        snapshot_id: request.snapshot_id.clone(),
        volume_id: request.volume_id.clone(),
        volume_name: request.volume_name.clone(),
        size_bytes: written.size_bytes,
        chunk_size_bytes,
        reason: match written.base {
            Some(_) => Reason::Compared,
            None => Reason::Full,
        },
        base: written.base.clone(),
        run: attempt.run,
        cut_at: to_microseconds(request.cut_at),
        started_at: attempt.started_at,
        committed_at: now(),
        map: written.map.clone(),
        pack_list: written.pack_list.clone(),
        data_bytes: written.mapped * u64::from(chunk_size_bytes),
        stored_bytes: written.stored_bytes,
        chunks: ChunkCounts {
            total: written.size_bytes.div_ceil(u64::from(chunk_size_bytes)),
            mapped: written.mapped,
            stored: written.stored,
        },
        metadata: request.metadata.clone(),
        tool: tool(),
        requires: Vec::new(),
    }
}
