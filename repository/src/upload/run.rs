//! The pipeline of one upload: started, fed, drained, and, if anything fails, brought to rest before the error is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    assemble::{Assembled, assemble, write_pack_list},
    base::BaseMap,
    basis::Basis,
    commit::Attempt,
    live::{Live, LivePacks},
    plan::{Extents, Plan},
    present::Wanted,
    scan::{Scan, Scanned},
    send::{Made, Sender, Sent},
    writer::{PackOwner, PackWriter, Packing},
};
use crate::{
    Phase, Repository, RepositoryError,
    device::Source,
    format::{
        frame::FrameKind, ids::PackName, limits::chunk_count, list_page::PackEntry,
        manifest::RootRef,
    },
    joined,
    stop::Stop,
};

/// Segments for each worker that may be taken before the first of them is in the map.
const SEGMENTS_PER_WORKER: usize = 4;

/// What is in the bucket and waits for its manifest.
pub(super) struct Written {
    pub(super) size_bytes: u64,
    pub(super) map: Option<RootRef>,
    pub(super) pack_list: Option<RootRef>,
    pub(super) mapped: u64,
    pub(super) stored: u64,
    pub(super) stored_bytes: u64,
    pub(super) packs: u64,
    pub(super) adopted_packs: u64,
    pub(super) adopted_bytes: u64,
    /// Packs of the base that it refers to no longer, because little of them was needed.
    pub(super) repacked_packs: u64,
    /// What was needed of them and sent anew, in bytes as stored.
    pub(super) repacked_bytes: u64,
    pub(super) read_bytes: u64,
    pub(super) direct: bool,
    /// Whether a pack of this attempt may be in the bucket, referred to or not.
    pub(super) has_sent: bool,
    /// All packs that it refers to, whoever put them.
    pub(super) needed: Wanted,
    /// The versions of its own packs, where they are to be locked.
    pub(super) made: Made,
}

/// Why nothing can be committed, and what is in the bucket all the same.
pub(super) struct Failure {
    pub(super) error: RepositoryError,
    /// Whether a pack of this attempt may be in the bucket: also one whose answer was lost.
    pub(super) has_sent: bool,
    /// Number of the first pack of another try in the same run.
    pub(super) next_pack: u32,
}

impl From<RepositoryError> for Failure {
    /// Before the first pack.
    fn from(error: RepositoryError) -> Self {
        Self {
            error,
            has_sent: false,
            next_pack: 0,
        }
    }
}

/// Reads the source and writes all packs, from a number on.
pub(super) async fn run(
    repository: &Repository,
    source: &Arc<Source>,
    attempt: &Attempt<'_>,
    basis: &Basis,
    first_pack: u32,
    cancel: &CancellationToken,
) -> Result<Written, Failure> {
    let stop = Stop::new(cancel);
    // Also when this future is dropped, the threads end and open uploads are aborted.
    let _guard = stop.drop_guard();
    let request = attempt.request;
    let settings = match basis.adopted {
        Some(_) => request.settings.adopting(),
        None => request.settings.clone(),
    };
    let packing = Packing::new(
        Sender {
            store: repository.store().clone(),
            progress: attempt.progress.clone(),
            stop: stop.clone(),
            has_sent: Arc::default(),
            made: settings.lock.is_some().then(Arc::default),
        },
        attempt.sealer.clone(),
        PackOwner {
            volume: request.volume_id.clone(),
            snapshot: request.snapshot_id.clone(),
            run: attempt.run,
            volume_size_bytes: source.size_bytes(),
            base: basis.base.as_ref().map(|base| base.base.clone()),
            first_pack,
        },
        &settings,
        repository.chunk_size_bytes(),
    );
    let written = pipeline(source, attempt, basis, &packing, &stop, repository).await;
    written.map_err(|error| {
        stop.fail(error);
        Failure {
            error: stop.reason(),
            has_sent: packing.has_sent(),
            next_pack: packing.next_pack(),
        }
    })
}

async fn pipeline(
    source: &Arc<Source>,
    attempt: &Attempt<'_>,
    basis: &Basis,
    packing: &Arc<Packing>,
    stop: &Stop,
    repository: &Repository,
) -> Result<Written, RepositoryError> {
    let size_bytes = source.size_bytes();
    let chunks = chunk_count(size_bytes, repository.chunk_size_bytes()).map_err(|source| {
        RepositoryError::Unstorable {
            what: "the volume".to_owned(),
            source,
        }
    })?;
    attempt.progress.enter(Phase::Data);
    let (threads, found) = start_workers(source, attempt, basis, packing, stop, repository)?;
    let assembler = {
        let packing = packing.clone();
        // Only where not everything is looked at does the rest stay as it is.
        let kept = basis.base.clone().filter(|_| basis.changed.is_some());
        let handle = Handle::current();
        spawn(stop, move || {
            assemble(&packing, found, chunks, kept, &handle)
        })
    };
    let mut worked = Ok(());
    for thread in threads {
        worked = worked.and(join(thread).await);
    }
    let assembled = join(assembler).await;
    // Whatever happened: nothing stays under way.
    let sent = packing.settle().await;
    worked?;
    let (assembled, mut sent) = (assembled?, sent?);
    let checked = source.clone();
    join(spawn(stop, move || Ok(checked.check_unchanged()?))).await?;
    attempt.progress.enter(Phase::Map);
    let repacked_packs = emptied(basis, &assembled.live);
    let list = pack_list(&assembled.live, &sent, basis, packing, stop).await?;
    sent.extend(list.sent);
    stop.check()?;
    let Assembled {
        root,
        mapped,
        stored,
        repacked,
        read,
        ..
    } = assembled;
    Ok(Written {
        size_bytes,
        map: root,
        pack_list: list.root,
        adopted_packs: list.adopted.len() as u64,
        adopted_bytes: list.adopted.values().map(|pack| pack.size_bytes).sum(),
        mapped,
        stored,
        stored_bytes: sent.values().map(|sent| sent.size_bytes).sum(),
        packs: sent.len() as u64,
        repacked_packs,
        repacked_bytes: repacked.bytes,
        read_bytes: read * u64::from(repository.chunk_size_bytes()),
        direct: source.is_direct(),
        has_sent: packing.has_sent(),
        needed: list.needed,
        made: packing.made(),
    })
}

/// How many sparse packs of the base are referred to no longer.
fn emptied(basis: &Basis, live: &LivePacks) -> u64 {
    let sparse = |base: &Arc<BaseMap>| {
        let gone = base.sparse.iter();
        gone.filter(|pack| !live.0.contains_key(*pack)).count() as u64
    };
    basis.base.as_ref().map_or(0, sparse)
}

/// What the pack list became, and what was sent for it.
struct ListWritten {
    root: Option<RootRef>,
    sent: BTreeMap<Arc<PackName>, Sent>,
    /// Packs of earlier attempts that are in it.
    adopted: BTreeMap<Arc<PackName>, Sent>,
    /// All packs that are in it, and those that it lies in.
    needed: Wanted,
}

/// The base's pack list where it is the same, else a new one.
async fn pack_list(
    live: &LivePacks,
    sent: &BTreeMap<Arc<PackName>, Sent>,
    basis: &Basis,
    packing: &Arc<Packing>,
    stop: &Stop,
) -> Result<ListWritten, RepositoryError> {
    let none = BTreeMap::new();
    let base = basis.base.as_ref();
    let base_packs = base.map_or(&none, |base| &base.packs);
    let adopted = match &basis.adopted {
        Some(adopted) => adopted.confirm(live, base_packs).await?,
        None => BTreeMap::new(),
    };
    let mut whole = adopted.clone();
    whole.extend(sent.iter().map(|(pack, sent)| (pack.clone(), *sent)));
    let entries = pack_entries(live, &whole, base_packs)?;
    let known = base.map(|base| base.list_pages.clone()).unwrap_or_default();
    let need = |pack: &Arc<PackName>, size_bytes| (pack.object_key(), (pack.clone(), size_bytes));
    let mut needed: Wanted = entries
        .iter()
        .map(|entry| need(&entry.pack, Some(entry.size_bytes)))
        .collect();
    let list = {
        let packing = packing.clone();
        spawn(stop, move || write_pack_list(&packing, entries, known))
    };
    let list = join(list).await;
    let sent_for_list = packing.settle().await;
    let ((root, lies_in), sent_for_list) = (list?, sent_for_list?);
    for pack in lies_in.0.keys() {
        let sent = sent_for_list.get(pack).or_else(|| whole.get(pack));
        let (key, pack) = need(pack, sent.map(|sent| sent.size_bytes));
        needed.entry(key).or_insert(pack);
    }
    Ok(ListWritten {
        root,
        sent: sent_for_list,
        adopted,
        needed,
    })
}

type Thread<T> = JoinHandle<Result<T, RepositoryError>>;

fn start_workers(
    source: &Arc<Source>,
    attempt: &Attempt<'_>,
    basis: &Basis,
    packing: &Arc<Packing>,
    stop: &Stop,
    repository: &Repository,
) -> Result<(Vec<Thread<()>>, mpsc::UnboundedReceiver<Scanned>), RepositoryError> {
    let request = attempt.request;
    let size_bytes = source.size_bytes();
    let chunk_size_bytes = repository.chunk_size_bytes();
    let plan =
        |extents| Plan::new(extents, size_bytes, chunk_size_bytes).only(basis.changed.clone());
    let extents = match request.extents.clone() {
        Some(ranges) => {
            // The source alone would have to be asked for all of its holes.
            let planned = plan(Extents::given(ranges.clone(), size_bytes)?).read_chunks()?;
            let progress = attempt.progress;
            progress.set_to_read(planned * u64::from(chunk_size_bytes));
            Extents::given(ranges, size_bytes)?
        }
        None => Extents::Source(source.clone()),
    };
    let workers = request.settings.workers;
    let scan = Arc::new(Scan {
        source: source.clone(),
        plan: Mutex::new(plan(extents)),
        chunk_size: chunk_size_bytes as usize,
        sealer: attempt.sealer.clone(),
        base: basis.base.clone(),
        adopted: basis.adopted.clone(),
        keeps_rest: basis.changed.is_some(),
        unsaid: basis.unsaid.clone(),
        turns: Arc::new(Semaphore::new(workers * SEGMENTS_PER_WORKER)),
        progress: attempt.progress.clone(),
        stop: stop.clone(),
        handle: Handle::current(),
    });
    let (tell, found) = mpsc::unbounded_channel();
    let threads = (0..workers).map(|_| {
        let (scan, packing, tell) = (scan.clone(), packing.clone(), tell.clone());
        spawn(stop, move || {
            let writer = PackWriter::new(&packing, FrameKind::Chunk)?;
            scan.work(writer, &tell)
        })
    });
    Ok((threads.collect(), found))
}

/// Runs a part of the pipeline on a thread; its failure stops all others at once.
fn spawn<T: Send + 'static>(
    stop: &Stop,
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Thread<T> {
    let stop = stop.clone();
    tokio::task::spawn_blocking(move || {
        let guard = StopOnPanic(&stop);
        let done = work().map_err(|error| {
            stop.fail(error);
            RepositoryError::Cancelled
        });
        drop(guard);
        done
    })
}

/// A thread that panics must not leave the others waiting for it.
struct StopOnPanic<'a>(&'a Stop);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .fail(RepositoryError::Internal("a thread panicked".to_owned()));
        }
    }
}

async fn join<T>(thread: Thread<T>) -> Result<T, RepositoryError> {
    joined::ended(thread.await, "a thread of the upload").await?
}

/// What the pack list says of each pack that the map reaches.
fn pack_entries(
    live: &LivePacks,
    sent: &BTreeMap<Arc<PackName>, Sent>,
    base: &BTreeMap<Arc<PackName>, PackEntry>,
) -> Result<Vec<PackEntry>, RepositoryError> {
    let entry = |(pack, live): (&Arc<PackName>, &Live)| {
        let (size_bytes, crc32c) = match (sent.get(pack), base.get(pack)) {
            (Some(sent), _) => (sent.size_bytes, sent.crc32c),
            (None, Some(known)) => (known.size_bytes, known.crc32c),
            (None, None) => {
                return Err(RepositoryError::Inconsistent {
                    object: pack.object_key(),
                    problem: "the base's map names it, the base's pack list does not".to_owned(),
                });
            }
        };
        Ok(PackEntry {
            pack: pack.clone(),
            size_bytes,
            crc32c,
            live_frames: live.frames,
            live_bytes: live.bytes,
        })
    };
    live.0.iter().map(entry).collect()
}
