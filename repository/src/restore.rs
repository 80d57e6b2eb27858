//! From a snapshot to a device or file.
//!
//! The map is read leaf by leaf; its chunks are joined into ranges of packs, fetched a few at a time, decrypted,
//! decompressed, checked against their hashes and written where they belong. Holes are made to read as zeroes, at no
//! cost where the target does so already. A restore is done when as many chunks were written as the manifest counts and
//! the target was flushed; anything else is an error, and what the target holds then is of no use. Only [`salvage`] goes on
//! without what cannot be read.

mod losses;
mod range;
mod salvage;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Phase, Progress, ReadSettings, Repository, RepositoryError,
    device::{Target, ZERO_STEP_BYTES},
    fetch::{BatchLimits, Fetcher, batches},
    format::{ids::PackName, location::Location, manifest::Manifest},
    joined,
    pages::{Pages, broken_list_page, broken_page},
    repository::blocking,
    stop::Stop,
    store::{StoreError, first::FirstVersions},
};
use losses::Lost;
pub use losses::{Losses, LostRange};
use range::Desks;
pub(crate) use range::WRITE_SIZE_BYTES;
pub(crate) use salvage::{is_no_help, may_lose, note_first};

/// Chunks are joined into ranges within a window of this many plain bytes, holes not counted: long enough for packs that
/// were filled side by side, short enough that ranges come nearly in the order of the volume.
const WINDOW_BYTES: u64 = 128 << 20;

/// What is said of a task that panicked.
const TASK: &str = "a task of the restore";

/// What a restore did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreReport {
    /// The volume's size.
    pub size_bytes: u64,
    /// Bytes written, holes not counted.
    pub data_bytes: u64,
    /// Bytes received from the bucket.
    pub received_bytes: u64,
    /// Requests made.
    pub requests: u64,
}

/// Fills a target with a snapshot, and flushes it. The target has to be opened for the manifest's size.
///
/// # Errors
/// [`RepositoryError::Cancelled`] on request; [`RepositoryError::Damaged`] with object and offset for the first thing that is
/// not what it should be; [`RepositoryError::Store`] for a pack that is missing; whatever the target meets.
pub async fn restore(
    repository: &Repository,
    manifest: &Manifest,
    target: Target,
    settings: &ReadSettings,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<RestoreReport, RepositoryError> {
    let done = run(
        repository,
        manifest,
        target,
        settings,
        (progress, cancel),
        None,
    )
    .await;
    done.map(|(report, _)| report)
}

/// As [`restore`], but what cannot be read becomes zeroes, and is told of. Where the bucket keeps versions, what was written first under the same
/// name is tried before.
///
/// # Errors
/// As [`restore`], but for what is damaged or missing. What the store refuses to give is neither.
pub async fn salvage(
    repository: &Repository,
    manifest: &Manifest,
    target: Target,
    settings: &ReadSettings,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<(RestoreReport, Losses), RepositoryError> {
    let chunk_size = u64::from(repository.chunk_size_bytes());
    let lost = Some(Lost::new(chunk_size, manifest.size_bytes));
    run(
        repository,
        manifest,
        target,
        settings,
        (progress, cancel),
        lost,
    )
    .await
}

async fn run(
    repository: &Repository,
    manifest: &Manifest,
    target: Target,
    settings: &ReadSettings,
    (progress, cancel): (&Arc<Progress>, &CancellationToken),
    lost: Option<Lost>,
) -> Result<(RestoreReport, Losses), RepositoryError> {
    settings.check()?;
    progress.enter(Phase::Starting);
    progress.set_total(manifest.size_bytes);
    if target.size_bytes() != manifest.size_bytes {
        return Err(RepositoryError::Settings(format!(
            "the target was opened for {} bytes, the snapshot has {}",
            target.size_bytes(),
            manifest.size_bytes
        )));
    }
    let stop = Stop::new(cancel);
    let _guard = stop.drop_guard();
    let fetcher = Fetcher {
        store: repository.store().clone(),
        progress: progress.clone(),
    };
    let read_first = Arc::new(AtomicBool::new(false));
    let first = match lost {
        Some(_) => first_view(repository, &fetcher)?,
        None => None,
    };
    let pages = Pages::new(fetcher.clone(), repository.sealer()?.clone());
    let pages = match &first {
        Some(first) => pages.or_from(first.clone(), read_first.clone()),
        None => pages,
    };
    let sizes = stop.unless(pack_sizes(&pages, manifest)).await??;
    let filler = Filler {
        target: Arc::new(target),
        pages: pages.with_sizes(sizes),
        shared: Arc::new(Shared {
            fetcher,
            first,
            read_first,
            desks: Desks::new(repository.sealer()?.clone(), repository.chunk_size_bytes()),
            in_flight: Arc::new(Semaphore::new(settings.gets_in_flight)),
            workers: Semaphore::new(settings.workers),
            written: AtomicU64::new(0),
            lost,
            stop: stop.clone(),
        }),
        chunk_size: u64::from(repository.chunk_size_bytes()),
        settings: settings.clone(),
    };
    progress.enter(Phase::Data);
    let mut tasks = JoinSet::new();
    let filled = filler.fill(manifest, &mut tasks, progress).await;
    if let Err(error) = filled {
        stop.fail(error);
    }
    // Nothing may write to the target after this function has ended.
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = joined::ended(done, TASK).await {
            stop.fail(error);
        }
    }
    if stop.check().is_err() {
        return Err(stop.reason());
    }
    finish(filler, manifest, progress).await
}

/// The bucket as it was first written, where it keeps versions and is not read so already.
fn first_view(
    repository: &Repository,
    fetcher: &Fetcher,
) -> Result<Option<Fetcher>, RepositoryError> {
    let Some(first) = FirstVersions::of(repository.store().clone()) else {
        return Ok(None);
    };
    first.trust(repository.sealer()?.clone());
    Ok(Some(Fetcher {
        store: Arc::new(first),
        progress: fetcher.progress.clone(),
    }))
}

/// Sizes of the snapshot's packs, so that pages can be read with their neighbours. A restore works without its pack list,
/// so that a damaged one costs requests only.
async fn pack_sizes(
    pages: &Pages,
    manifest: &Manifest,
) -> Result<BTreeMap<Arc<PackName>, u64>, RepositoryError> {
    let mut sizes = BTreeMap::new();
    let mut list = pages.pack_list(manifest.pack_list.as_ref());
    while let Some(entries) = list.next().await {
        match entries.map_err(broken_list_page) {
            Ok(entries) => {
                let known = entries
                    .into_iter()
                    .map(|entry| (entry.pack, entry.size_bytes));
                sizes.extend(known);
            }
            Err(
                error @ (RepositoryError::Damaged { .. }
                | RepositoryError::Store(
                    StoreError::NotFound { .. } | StoreError::Integrity { .. },
                )),
            ) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the pack list is damaged; it is not needed for this"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sizes)
}

async fn finish(
    filler: Filler,
    manifest: &Manifest,
    progress: &Arc<Progress>,
) -> Result<(RestoreReport, Losses), RepositoryError> {
    let written = filler.shared.written.load(Ordering::Relaxed);
    let lost = filler.shared.lost.as_ref().filter(|lost| !lost.is_empty());
    let lost = lost.map(Lost::losses);
    let read_first = filler.shared.read_first.load(Ordering::Relaxed);
    // How many chunks a page of the map had that is lost is not known.
    if written != manifest.chunks.mapped && lost.is_none() {
        return Err(RepositoryError::Inconsistent {
            object: manifest.object_key(),
            problem: format!(
                "it counts {} chunks, its map led to {written}",
                manifest.chunks.mapped
            ),
        });
    }
    progress.enter(Phase::Finishing);
    let target = Arc::into_inner(filler.target)
        .ok_or_else(|| RepositoryError::Internal("the target is still in use".to_owned()))?;
    blocking(move || target.finish()).await??;
    progress.enter(Phase::Done);
    let counted = progress.snapshot();
    let report = RestoreReport {
        size_bytes: manifest.size_bytes,
        data_bytes: manifest.data_bytes,
        received_bytes: counted.bytes_moved,
        requests: counted.requests,
    };
    let losses = Losses {
        read_first,
        ..lost.unwrap_or_default()
    };
    Ok((report, losses))
}

/// What all ranges share.
struct Shared {
    fetcher: Fetcher,
    /// Where what cannot be read is looked for once more: the bucket as it was first written.
    first: Option<Fetcher>,
    /// Something was read from there.
    read_first: Arc<AtomicBool>,
    desks: Desks,
    in_flight: Arc<Semaphore>,
    workers: Semaphore,
    written: AtomicU64,
    /// Where what cannot be read is noted; `None`: it ends the restore.
    lost: Option<Lost>,
    stop: Stop,
}

struct Filler {
    target: Arc<Target>,
    pages: Pages,
    shared: Arc<Shared>,
    chunk_size: u64,
    settings: ReadSettings,
}

impl Filler {
    /// Goes through the map; its chunks are written by tasks that may still run when this returns.
    async fn fill(
        &self,
        manifest: &Manifest,
        tasks: &mut JoinSet<()>,
        progress: &Progress,
    ) -> Result<(), RepositoryError> {
        let mut map = self.pages.map(manifest)?;
        let mut window: Vec<(Location, u64)> = Vec::new();
        let mut next_chunk = 0;
        loop {
            self.shared.stop.check()?;
            let leaf = self.shared.stop.unless(map.next()).await?;
            let leaf = match leaf {
                Some(Err(broken)) => {
                    let chunks = broken.chunks.clone();
                    self.shared.lose([chunks.clone()], broken_page(broken))?;
                    self.hole(next_chunk..chunks.start, progress).await?;
                    next_chunk = chunks.end;
                    // It was counted when it was lost.
                    self.hole(chunks, &Progress::new()).await?;
                    continue;
                }
                leaf => leaf.transpose().map_err(broken_page)?,
            };
            let window_full = window.len() as u64 * self.chunk_size >= WINDOW_BYTES;
            if leaf.is_none() || window_full {
                self.fetch(std::mem::take(&mut window), tasks).await?;
            }
            let Some(leaf) = leaf else { break };
            for (chunk, location) in leaf.chunks() {
                self.hole(next_chunk..chunk, progress).await?;
                next_chunk = chunk + 1;
                window.push((location.clone(), chunk));
            }
        }
        self.hole(next_chunk..manifest.chunks.total, progress).await
    }

    /// Chunks that the map does not have are zeroes. A device without a command for that writes all of them, so this goes step
    /// by step, and can be stopped after each.
    async fn hole(&self, chunks: Range<u64>, progress: &Progress) -> Result<(), RepositoryError> {
        if chunks.is_empty() {
            return Ok(());
        }
        let bytes = chunks.start * self.chunk_size..chunks.end * self.chunk_size;
        if self.target.reads_as_zeroes() {
            progress.scanned(bytes.end - bytes.start);
            return Ok(());
        }
        let mut at = bytes.start;
        while at < bytes.end {
            self.shared.stop.check()?;
            let next = bytes.end.min(at + ZERO_STEP_BYTES);
            let target = self.target.clone();
            blocking(move || target.zero(at..next)).await??;
            progress.scanned(next - at);
            at = next;
        }
        Ok(())
    }

    /// Starts to fetch a window's chunks, as many ranges at a time as the settings allow.
    async fn fetch(
        &self,
        window: Vec<(Location, u64)>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), RepositoryError> {
        let range_bytes = self.settings.range_size_bytes as u64;
        let limits = BatchLimits {
            range_bytes,
            gap_bytes: self.settings.gap_size_bytes as u64,
            // Well compressed chunks must not unpack to more than some ranges' worth of memory.
            frames: usize::try_from((4 * range_bytes / self.chunk_size).max(1)).unwrap_or(1),
        };
        for batch in batches(window, limits) {
            let shared = self.shared.clone();
            let permit = tokio::select! {
                permit = shared.in_flight.clone().acquire_owned() => {
                    permit.map_err(|_| RepositoryError::Cancelled)?
                }
                () = shared.stop.stopped() => return Err(RepositoryError::Cancelled),
            };
            let target = self.target.clone();
            tasks.spawn(async move {
                if let Err(error) = shared.fill_range(batch, target).await {
                    shared.stop.fail(error);
                }
                drop(permit);
            });
            // Those that are done are let go, so that a large volume does not gather them.
            while let Some(done) = tasks.try_join_next() {
                joined::ended(done, TASK).await?;
            }
        }
        Ok(())
    }
}
