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

mod adopt;
mod assemble;
mod base;
mod basis;
mod changes;
mod choose;
mod commit;
mod guard;
mod live;
mod plan;
mod present;
pub(crate) mod read_ahead;
mod repack;
mod run;
mod scan;
pub(crate) mod send;
mod source_check;
mod writer;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use jiff::Timestamp;
pub use source_check::SourceCheck;
use tokio_util::sync::CancellationToken;

use self::{
    basis::Basis,
    commit::Attempt,
    run::{Failure, Written},
};
use crate::{
    Phase, Progress, Repository, RepositoryError, UploadSettings,
    device::Source,
    format::{
        ids::{Run, SnapshotId, VolumeId},
        manifest::{ChunkCounts, Manifest, check_metadata, now, to_microseconds, tool},
    },
    lock,
    snapshots::chain,
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
    /// What changed, if that is known: then only that is read, and `base` counts only if it turns out to be of no use.
    pub changes: Option<Changes>,
    /// Whether the source has the same content in each attempt at this snapshot id: a snapshot that is read-only. Then an
    /// attempt does not read again what an earlier one read and sent.
    pub source_is_fixed: bool,
    /// Limits.
    pub settings: UploadSettings,
}

/// What an upload compares with, so that only what changed is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BaseChoice {
    /// The snapshot of the same volume that was committed last, if there is one.
    #[default]
    Newest,
    /// The same, if its `source` (in its metadata) is this one or no absolute path; else the upload is refused.
    NewestFrom(String),
    /// As [`Newest`](Self::Newest), and where there is none, this snapshot, from which the volume was made; if it is of no use, nothing.
    NewestOr(SnapshotRef),
    /// This snapshot, also one of another volume.
    Snapshot(SnapshotRef),
    /// Nothing: all data is sent.
    Nothing,
}

/// A snapshot, by its volume and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRef {
    /// The volume that it is of.
    pub volume_id: VolumeId,
    /// Its id.
    pub snapshot_id: SnapshotId,
}

impl From<&Manifest> for SnapshotRef {
    fn from(manifest: &Manifest) -> Self {
        Self {
            volume_id: manifest.volume_id.clone(),
            snapshot_id: manifest.snapshot_id.clone(),
        }
    }
}

/// What changed in a volume since one of its snapshots, or since one that it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The snapshot.
    pub since: SnapshotRef,
    /// Ranges of bytes outside of which the volume is as it was then; maybe none, in any order. They may run past the end
    /// of a volume that shrank. What a volume has grown by counts as changed; a part that was discarded has to be in
    /// them.
    pub ranges: Vec<Range<u64>>,
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
    /// Bytes of the source that were read, in whole chunks, without what was sampled.
    pub read_bytes: u64,
    /// Packs of earlier attempts, broken off before their commit, that the snapshot refers to.
    pub adopted_packs: u64,
    /// Their size in bytes.
    pub adopted_bytes: u64,
    /// Packs of the base that the snapshot refers to no longer, because little of them was needed.
    pub repacked_packs: u64,
    /// What was needed of them and sent anew, in bytes as stored.
    pub repacked_bytes: u64,
    /// Chunks said to be unchanged that were read to make sure.
    pub sampled_chunks: u64,
    /// Whether reads passed the page cache by.
    pub direct: bool,
}

/// Uploads a source as a snapshot. When it returns `Ok`, the snapshot is committed: every pack is in the bucket with
/// its size and checksums confirmed, and the manifest names them.
///
/// # Errors
/// [`RepositoryError::Cancelled`] on request; [`RepositoryError::MarkerGone`] and [`RepositoryError::MarkerReplaced`];
/// [`RepositoryError::AlreadyCommitted`] and [`RepositoryError::Deleted`] for an
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
    let attempt = Attempt {
        repository,
        sealer: &sealer,
        request: &request,
        progress,
        run: Run::generate().map_err(unstorable)?,
        started_at: now(),
    };
    heeding(cancel, repository.check_marker()).await?;
    if request.settings.lock.is_some() {
        heeding(cancel, lock::require(&**repository.store())).await?;
    }
    heeding(cancel, attempt.refuse_decided()).await?;
    let chosen = heeding(cancel, attempt.choose()).await?;
    let done = attempt.send(chosen, &Arc::new(source), cancel).await;
    let (basis, mut written) = match done {
        Ok(done) => done,
        Err(failure) => {
            if !failure.has_sent {
                // Nothing that a later attempt could use, or that a prune would have to account for.
                attempt.withdraw().await;
            }
            return Err(attempt.or_decided(failure.error).await);
        }
    };
    progress.enter(Phase::Finishing);
    if let Some(check) = &request.source_check
        && let Err(source) = check.ask().await
    {
        // Nor may a later attempt take up what this one read. The intent of packs that are there stays: else a prune
        // could not tell whose they are.
        if written.has_sent {
            attempt.mark_void().await;
        } else {
            attempt.withdraw().await;
        }
        return Err(RepositoryError::SourceVoid { source });
    }
    let mut manifest = manifest(&attempt, &basis, &written, repository.chunk_size_bytes());
    let finishing = attempt.finish(&mut manifest, &mut written, cancel);
    finishing.await?;
    attempt.clear_intents().await;
    progress.enter(Phase::Done);
    Ok(UploadReport {
        manifest,
        packs: written.packs,
        requests: progress.snapshot().requests,
        read_bytes: written.read_bytes,
        adopted_packs: written.adopted_packs,
        adopted_bytes: written.adopted_bytes,
        repacked_packs: written.repacked_packs,
        repacked_bytes: written.repacked_bytes,
        sampled_chunks: basis.sampled.chunks,
        direct: written.direct,
    })
}

impl Attempt<'_> {
    /// From the intent to the last pack. Whatever fails, the intent is there, or may be.
    async fn send(
        &self,
        chosen: choose::Chosen,
        source: &Arc<Source>,
        cancel: &CancellationToken,
    ) -> Result<(Basis, Written), Failure> {
        let mut basis = heeding(cancel, self.begin(chosen, source, cancel)).await?;
        let (mut has_sent, mut next_pack) = (false, 0);
        loop {
            let done = run::run(self.repository, source, self, &basis, next_pack, cancel).await;
            match done {
                Ok(mut written) => {
                    written.has_sent |= has_sent;
                    return Ok((basis, written));
                }
                Err(failure) if basis.changed.is_some() && basis.unsaid.get().is_some() => {
                    basis.disbelieve_unsaid();
                    has_sent |= failure.has_sent;
                    next_pack = failure.next_pack;
                }
                // A base whose pages cannot all be read is good enough to compare with.
                Err(failure) if basis.changed.is_some() && failure.error.is_of_one_object() => {
                    let error = chain(&failure.error);
                    tracing::error!(
                        error,
                        "what changed cannot be used: all is read and compared"
                    );
                    basis.compare(format!("the base is damaged: {error}"));
                    has_sent |= failure.has_sent;
                    next_pack = failure.next_pack;
                }
                Err(failure) => {
                    return Err(Failure {
                        has_sent: has_sent || failure.has_sent,
                        ..failure
                    });
                }
            }
        }
    }

    /// Puts the intent, then looks at what it must not refer to, then at the base: in this order. Then makes sure of what
    /// is said to be unchanged.
    async fn begin(
        &self,
        chosen: choose::Chosen,
        source: &Arc<Source>,
        cancel: &CancellationToken,
    ) -> Result<Basis, RepositoryError> {
        let runs = self.adoptable(chosen.base_started_at).await?;
        self.announce(chosen.base.clone(), runs.clone()).await?;
        // Read even without a base: the order of requests is the same for all uploads.
        let condemned = self.condemned().await?;
        let size_bytes = source.size_bytes();
        let mut basis = self.settle(chosen, condemned.as_ref(), size_bytes).await?;
        let adopted = self.adopt(&runs, condemned.as_ref(), &basis, size_bytes);
        basis.adopted = adopted.await?.map(Arc::new);
        if let Some(changed) = &basis.changed
            && let Some(base) = &basis.base
        {
            let guard = guard::Guard {
                base,
                changed,
                source,
                sealer: self.sealer,
                share_ppm: self.request.settings.guard_share_ppm,
                chunks_min: self.request.settings.guard_chunks_min,
                cancel,
            };
            let since = base.base.snapshot_id.clone();
            match guard.check().await {
                Ok(sampled) => {
                    basis.sampled = sampled;
                    basis.judge(&since);
                }
                Err(error) if error.is_of_one_object() => {
                    let error = chain(&error);
                    tracing::error!(
                        error,
                        "what changed cannot be used: all is read and compared"
                    );
                    basis.compare(format!("the base is damaged: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(basis)
    }
}

/// Does something that may be left off anywhere, unless the caller wants to stop.
async fn heeding<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, RepositoryError>>,
) -> Result<T, RepositoryError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(RepositoryError::Cancelled),
        done = work => done,
    }
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
    attempt: &Attempt<'_>,
    basis: &Basis,
    written: &Written,
    chunk_size_bytes: u32,
) -> Manifest {
    let request = attempt.request;
    Manifest {
        snapshot_id: request.snapshot_id.clone(),
        volume_id: request.volume_id.clone(),
        volume_name: request.volume_name.clone(),
        size_bytes: written.size_bytes,
        chunk_size_bytes,
        reason: basis.reason(),
        why: basis.text(),
        base: basis.base.as_ref().map(|base| base.base.clone()),
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
        lock: None,
    }
}
