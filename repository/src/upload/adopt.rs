//! What earlier attempts left: whole packs, referred to instead of sent again.
//!
//! Attempts that were broken off leave an intent. The packs of those at the same snapshot, and at other snapshots of
//! the same volume that were not committed, may be used once the own intent names them and no prune is after them. A
//! chunk that one of them has at the same place with the same hash is referred to. Where the source is promised to be
//! the same as then, what a pack's index says was looked at is not even read.
//!
//! An attempt that is thought dead and is not loses nothing: its packs are never changed.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{base::BadFrames, choose::Basis, commit::Attempt, live::LivePacks, send::Sent};
use crate::{
    RepositoryError,
    fetch::Fetcher,
    format::{
        crypto::{Hash, Sealer},
        frame::{FrameHeader, FrameKind},
        ids::{INTENTS_PREFIX, PackName, parse_intent_key},
        limits::ADOPTS_MAX,
        location::Location,
        manifest::SnapshotRecord,
        pack_index::{PackIndex, ScannedRange},
        protocol::{AdoptedRun, Intent},
    },
    indexes::read_index,
    repository::{list_keys, read_object, too_many},
    snapshots::read_record,
    store::s3::{combine_crc32c, crc32c},
};

/// Intents of other snapshots that are looked at, the newest first.
const INTENTS_MAX: usize = 256;

/// Packs that are adopted at most: 16 TiB in packs of the usual size.
const PACKS_MAX: usize = 1 << 16;

/// Indexes and records read at the same time.
const READS_IN_FLIGHT: usize = 8;

/// Frames whose places are kept in memory, all packs together: about 30 MiB.
const CACHED_FRAMES: usize = 384 << 10;

/// A pack whose checksum the store does not state is read in pieces of this size, in bytes.
const PIECE: u64 = 8 << 20;

/// Packs of earlier attempts.
pub(super) struct Adopted {
    fetcher: Fetcher,
    sealer: Sealer,
    chunk_size_bytes: u32,
    bad: BadFrames,
    packs: Vec<AdoptedPack>,
    by_name: HashMap<Arc<PackName>, u64>,
    cache: Mutex<Cache>,
}

struct AdoptedPack {
    name: Arc<PackName>,
    size_bytes: u64,
    /// From the first to the last of its chunks.
    window: Range<u64>,
    /// What of the volume need not be read; none where the source may be another.
    scanned: Vec<ScannedRange>,
}

/// Places of frames by chunk, of the packs used last.
#[derive(Default)]
struct Cache {
    known: HashMap<usize, Arc<Vec<(u64, Location)>>>,
    order: VecDeque<usize>,
    frames: usize,
}

/// What adopted packs have of a segment.
#[derive(Default)]
pub(super) struct AdoptedChunks {
    found: HashMap<u64, Vec<Location>>,
    /// Ranges that need not be read, with the packs that say so; ascending, not overlapping.
    scanned: Vec<(Range<u64>, Arc<PackName>)>,
}

impl AdoptedChunks {
    /// Where a chunk with this hash is at the same place.
    pub(super) fn same(&self, chunk: u64, hash: &Hash) -> Option<&Location> {
        let found = self.found.get(&chunk)?;
        found.iter().find(|location| location.hash == *hash)
    }

    /// What the base has is not known well enough: all is to be read.
    pub(super) fn read_again(&mut self) {
        self.scanned.clear();
    }

    /// Ranges that need not be read.
    pub(super) fn scanned(&self) -> &[(Range<u64>, Arc<PackName>)] {
        &self.scanned
    }

    /// A chunk of such a range, if that pack has it; else it is as in the base.
    pub(super) fn of_pack(&self, chunk: u64, pack: &PackName) -> Option<&Location> {
        let found = self.found.get(&chunk)?;
        found.iter().find(|location| *location.pack == *pack)
    }
}

impl Attempt<'_> {
    /// Attempts whose packs may be of use. `since` is when the base's upload began: what was left before that was of use to
    /// the base.
    pub(super) async fn adoptable(
        &self,
        since: Option<Timestamp>,
    ) -> Result<Vec<AdoptedRun>, RepositoryError> {
        let store = self.repository.store();
        self.progress.requested(1);
        let mut keys = list_keys(&**store, INTENTS_PREFIX).await?;
        keys.sort_by_key(|meta| std::cmp::Reverse(meta.modified_at_s));
        let own = &self.request.snapshot_id;
        let is_own = |key: &str| parse_intent_key(key).is_ok_and(|(id, _)| id == *own);
        let (same, mut others): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|meta| is_own(&meta.key));
        others.truncate(if self.alone() { 0 } else { INTENTS_MAX });
        let keys = same.into_iter().chain(others).map(|meta| meta.key);
        let runs: Vec<AdoptedRun> = stream::iter(keys)
            .map(|key| self.adoptable_run(key, since))
            .buffered(READS_IN_FLIGHT)
            .try_filter_map(|run| async { Ok(run) })
            .try_collect()
            .await?;
        Ok(runs.into_iter().take(ADOPTS_MAX).collect())
    }

    async fn adoptable_run(
        &self,
        key: String,
        since: Option<Timestamp>,
    ) -> Result<Option<AdoptedRun>, RepositoryError> {
        self.progress.requested(1);
        let store = self.repository.store();
        let object = match read_object(
            &**store,
            &key,
            <Intent as crate::format::record::Record>::OBJECT_MAX,
        )
        .await
        {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(None),
            Err(error) if error.is_of_one_object() => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whose intent cannot be read is of no use, and no harm.
        let Ok((intent, _)) = self.sealer.open_record::<Intent>(&key, &object) else {
            return Ok(None);
        };
        let run = AdoptedRun {
            volume_id: intent.volume_id,
            snapshot_id: intent.snapshot_id,
            run: intent.run,
        };
        if run.volume_id != self.request.volume_id || run.run == self.run {
            return Ok(None);
        }
        if run.snapshot_id == self.request.snapshot_id {
            // A copy that is to stand alone may go on with one that was to.
            let fits = !self.alone() || (intent.base.is_none() && intent.adopts.is_empty());
            return Ok(fits.then_some(run));
        }
        if since.is_some_and(|since| intent.started_at < since) {
            return Ok(None);
        }
        self.progress.requested(1);
        match read_record(self.repository, &run.volume_id, &run.snapshot_id).await {
            Ok(None) => Ok(Some(run)),
            Ok(Some(SnapshotRecord::Manifest(..) | SnapshotRecord::Tombstone(..))) => Ok(None),
            Err(error) if error.is_of_one_object() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the packs of the runs that the intent names, but for those that a prune is after.
    pub(super) async fn adopt(
        &self,
        runs: &[AdoptedRun],
        condemned: Option<&HashSet<PackName>>,
        basis: &Basis,
        size_bytes: u64,
    ) -> Result<Option<Adopted>, RepositoryError> {
        let Some(condemned) = condemned.filter(|_| !runs.is_empty()) else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for run in runs {
            let packs = self.packs_of_run(run).await?;
            if packs.iter().any(|(pack, _)| condemned.contains(&**pack)) {
                tracing::warn!(run = %run.run, "a prune is about to delete what an earlier attempt left: it is sent again");
                continue;
            }
            names.extend(packs);
            too_many(
                "packs/",
                "packs of earlier attempts",
                names.len(),
                PACKS_MAX,
            )?;
        }
        let mut adopted = Adopted {
            fetcher: self.fetcher(),
            sealer: self.sealer.clone(),
            chunk_size_bytes: self.repository.chunk_size_bytes(),
            bad: self.bad_frames().await?,
            packs: Vec::new(),
            by_name: HashMap::new(),
            cache: Mutex::default(),
        };
        let base = basis.base.as_ref().map(|base| &base.base);
        let (fetcher, sealer) = (self.fetcher(), self.sealer);
        let mut indexes = stream::iter(names)
            .map(|(name, size)| index_of_chunks(&fetcher, sealer, name, size))
            .buffered(READS_IN_FLIGHT);
        while let Some(found) = indexes.try_next().await? {
            let Some((name, size, index)) = found else {
                continue;
            };
            // The same content on the same base: else what was looked at then says nothing now.
            let same_source = self.request.source_is_fixed
                && name.snapshot == self.request.snapshot_id
                && index.volume_size_bytes == size_bytes
                && index.base.as_ref() == base;
            let is_sound = index.entries.len() == adopted.places(&name, &index).len();
            adopted.add(name, size, &index, same_source && is_sound);
        }
        if adopted.packs.is_empty() {
            return Ok(None);
        }
        tracing::info!(
            packs = adopted.packs.len(),
            "going on with what earlier attempts left"
        );
        Ok(Some(adopted))
    }

    async fn packs_of_run(
        &self,
        run: &AdoptedRun,
    ) -> Result<Vec<(Arc<PackName>, u64)>, RepositoryError> {
        let prefix = crate::format::ids::packs_of(&run.volume_id, &run.snapshot_id);
        let prefix = format!("{prefix}{}-", run.run);
        self.progress.requested(1);
        let keys = list_keys(&**self.repository.store(), &prefix).await?;
        let pack = |key: &str| PackName::parse(key).ok().filter(|pack| pack.run == run.run);
        Ok(keys
            .into_iter()
            .filter_map(|meta| Some((Arc::new(pack(&meta.key)?), meta.size_bytes)))
            .collect())
    }

    /// Whether the snapshot is to share no pack with any other.
    fn alone(&self) -> bool {
        self.request.base == super::BaseChoice::Nothing
    }
}

/// A pack of chunks with its index; `None` for other packs, and for one that cannot be read.
async fn index_of_chunks(
    fetcher: &Fetcher,
    sealer: &Sealer,
    name: Arc<PackName>,
    size_bytes: u64,
) -> Result<Option<(Arc<PackName>, u64, PackIndex)>, RepositoryError> {
    match read_index(fetcher, sealer, &name, size_bytes).await {
        Ok(index) => {
            let first = index.entries.first();
            let of_chunks = first.is_some_and(|entry| entry.kind == FrameKind::Chunk);
            Ok(of_chunks.then_some((name, size_bytes, index)))
        }
        Err(error) if error.is_of_one_object() => {
            tracing::warn!(
                pack = %name,
                error = &error as &dyn std::error::Error,
                "a pack of an earlier attempt cannot be read: it is sent again"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Adopted {
    /// The chunks of a pack that may be referred to.
    fn places(&self, name: &Arc<PackName>, index: &PackIndex) -> Vec<(u64, Location)> {
        let length_max = FrameHeader::length_max(self.chunk_size_bytes);
        let place = |(offset, entry): (u64, &crate::format::pack_index::IndexEntry)| {
            let location = Location {
                pack: name.clone(),
                offset: u32::try_from(offset).ok()?,
                length: entry.length,
                hash: entry.hash,
            };
            let is_good = entry.kind == FrameKind::Chunk
                && entry.length <= length_max
                && !self.bad.have(&location);
            is_good.then_some((entry.position, location))
        };
        index.with_offsets().filter_map(place).collect()
    }

    fn add(&mut self, name: Arc<PackName>, size_bytes: u64, index: &PackIndex, skips: bool) {
        let places = self.places(&name, index);
        let (Some(first), Some(last)) = (
            places.iter().map(|(chunk, _)| *chunk).min(),
            places.iter().map(|(chunk, _)| *chunk).max(),
        ) else {
            return;
        };
        let scanned = if skips {
            index.scanned.clone()
        } else {
            Vec::new()
        };
        let start = scanned
            .first()
            .map_or(first, |range| range.first.min(first));
        let end = scanned
            .last()
            .map_or(last + 1, |range| (range.first + range.count).max(last + 1));
        self.by_name.insert(name.clone(), size_bytes);
        self.remember(self.packs.len(), Arc::new(places));
        self.packs.push(AdoptedPack {
            name,
            size_bytes,
            window: start..end,
            scanned,
        });
    }

    fn remember(&self, number: usize, places: Arc<Vec<(u64, Location)>>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.frames += places.len();
        while cache.frames > CACHED_FRAMES
            && let Some(oldest) = cache.order.pop_front()
        {
            if let Some(places) = cache.known.remove(&oldest) {
                cache.frames -= places.len();
            }
        }
        if cache.known.insert(number, places).is_none() {
            cache.order.push_back(number);
        }
    }

    async fn places_of(&self, number: usize) -> Result<Arc<Vec<(u64, Location)>>, RepositoryError> {
        let known = {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.known.get(&number).cloned()
        };
        if let Some(places) = known {
            return Ok(places);
        }
        let pack = &self.packs[number];
        let index = read_index(&self.fetcher, &self.sealer, &pack.name, pack.size_bytes).await?;
        let places = Arc::new(self.places(&pack.name, &index));
        self.remember(number, places.clone());
        Ok(places)
    }

    /// What there is of a segment.
    ///
    /// # Errors
    /// If an index that was read before cannot be read any more.
    pub(super) async fn chunks(
        &self,
        range: &Range<u64>,
    ) -> Result<AdoptedChunks, RepositoryError> {
        let mut adopted = AdoptedChunks::default();
        let meets = |window: &Range<u64>| window.start < range.end && window.end > range.start;
        for (number, pack) in self.packs.iter().enumerate() {
            if !meets(&pack.window) {
                continue;
            }
            for (chunk, location) in self.places_of(number).await?.iter() {
                if range.contains(chunk) {
                    adopted
                        .found
                        .entry(*chunk)
                        .or_default()
                        .push(location.clone());
                }
            }
            let scanned = pack.scanned.iter().filter_map(|scanned| {
                let start = scanned.first.max(range.start);
                let end = (scanned.first + scanned.count).min(range.end);
                (start < end).then(|| (start..end, pack.name.clone()))
            });
            adopted.scanned.extend(scanned);
        }
        // Two attempts may have looked at the same.
        adopted.scanned.sort_by_key(|(range, _)| range.start);
        let mut end = 0;
        for (range, _) in &mut adopted.scanned {
            range.start = range.start.max(end);
            end = end.max(range.end);
        }
        adopted.scanned.retain(|(range, _)| range.start < range.end);
        Ok(adopted)
    }

    /// Size and checksum of the packs that are reached: as the store states them, or as they are read.
    ///
    /// # Errors
    /// [`RepositoryError::Inconsistent`] for a pack that is not what it was; whatever the store says.
    pub(super) async fn confirm(
        &self,
        live: &LivePacks,
    ) -> Result<BTreeMap<Arc<PackName>, Sent>, RepositoryError> {
        let reached = live
            .0
            .keys()
            .filter_map(|pack| Some((pack.clone(), *self.by_name.get(pack)?)));
        stream::iter(reached.collect::<Vec<_>>())
            .map(|(pack, size_bytes)| async move {
                let crc32c = self.crc32c(&pack, size_bytes).await?;
                Ok((pack, Sent { size_bytes, crc32c }))
            })
            .buffered(READS_IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn crc32c(&self, pack: &PackName, size_bytes: u64) -> Result<u32, RepositoryError> {
        let key = pack.object_key();
        self.fetcher.progress.requested(1);
        let (meta, stated) = self.fetcher.store.head_with_crc32c(&key).await?;
        if meta.size_bytes != size_bytes {
            return Err(RepositoryError::Inconsistent {
                object: key,
                problem: format!("it had {size_bytes} bytes, and has {} now", meta.size_bytes),
            });
        }
        if let Some(stated) = stated {
            return Ok(stated);
        }
        let mut sum = crc32c(&[]);
        let mut at = 0;
        while at < size_bytes {
            let end = (at + PIECE).min(size_bytes);
            let piece = self.fetcher.get(pack, at..end).await?;
            sum = combine_crc32c(sum, crc32c(&piece), end - at);
            at = end;
        }
        Ok(sum)
    }
}
