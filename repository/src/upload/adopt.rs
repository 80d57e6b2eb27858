//! What earlier attempts left: whole packs, referred to instead of sent again.
//!
//! Attempts that were broken off leave an intent. The packs of those at the same snapshot, and at other snapshots of
//! the same volume that were not committed, may be used once the own intent names them and no prune is after them. A
//! chunk that one of them has at the same place with the same hash is referred to. Where the source is promised to be
//! the same as then, what a pack's index says was looked at is not even read.
//!
//! An attempt that is thought dead and is not loses nothing: its packs are never changed.

mod contents;
mod find;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, TryStreamExt, stream};

use super::{base::BadFrames, live::LivePacks, send::Sent};
use crate::{
    RepositoryError,
    fetch::Fetcher,
    format::{
        crc32c::{combine_crc32c, crc32c},
        crypto::{Hash, Sealer},
        frame::{FrameHeader, FrameKind},
        ids::PackName,
        list_page::PackEntry,
        location::Location,
        pack_index::{IndexEntry, PackIndex, ScannedRange},
    },
    indexes::read_index,
};

/// Indexes and records read at the same time.
const READS_IN_FLIGHT: usize = 8;

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

/// Where a pack has which chunk.
type Places = Arc<[(u64, Location)]>;

/// Places of frames by chunk, of the packs used last: of one at least.
struct Cache {
    known: HashMap<usize, Places>,
    order: VecDeque<usize>,
    frames: usize,
    frames_max: usize,
}

impl Cache {
    fn of(bytes: u64) -> Self {
        let frames_max = bytes / size_of::<(u64, Location)>() as u64;
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            frames: 0,
            frames_max: usize::try_from(frames_max).unwrap_or(usize::MAX),
        }
    }

    fn put(&mut self, number: usize, places: Places) {
        // Two threads may have missed it at the same time.
        if self.known.contains_key(&number) {
            return;
        }
        self.frames += places.len();
        while self.frames > self.frames_max
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(places) = self.known.remove(&oldest) {
                self.frames -= places.len();
            }
        }
        self.known.insert(number, places);
        self.order.push_back(number);
    }
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

impl Adopted {
    /// The chunks of a pack that may be referred to.
    fn places(&self, name: &Arc<PackName>, index: &PackIndex) -> Places {
        let length_max = FrameHeader::length_max(self.chunk_size_bytes);
        let place = |(offset, entry): (u64, &IndexEntry)| {
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
        self.remember(self.packs.len(), places);
        self.packs.push(AdoptedPack {
            name,
            size_bytes,
            window: start..end,
            scanned,
        });
    }

    fn remember(&self, number: usize, places: Places) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(number, places);
    }

    async fn places_of(&self, number: usize) -> Result<Places, RepositoryError> {
        let known = {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.known.get(&number).cloned()
        };
        if let Some(places) = known {
            return Ok(places);
        }
        let pack = &self.packs[number];
        let index = read_index(&self.fetcher, &self.sealer, &pack.name, pack.size_bytes).await?;
        let places = self.places(&pack.name, &index);
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

    /// Size and checksum of the packs that are reached, but for those that the base has: as the store states them, or as they are read.
    ///
    /// # Errors
    /// [`RepositoryError::Inconsistent`] for a pack that is not what it was; whatever the store says.
    pub(super) async fn confirm(
        &self,
        live: &LivePacks,
        known: &BTreeMap<Arc<PackName>, PackEntry>,
    ) -> Result<BTreeMap<Arc<PackName>, Sent>, RepositoryError> {
        let reached = live
            .0
            .keys()
            .filter(|pack| !known.contains_key(*pack))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ids::{Run, SnapshotId, VolumeId};

    #[test]
    fn the_cache_stays_within_its_bytes_and_keeps_the_newest() {
        let location = Location {
            pack: Arc::new(PackName {
                volume: VolumeId::new("vol-1").unwrap(),
                snapshot: SnapshotId::new("snap-1").unwrap(),
                run: Run([1; 16]),
                number: 0,
            }),
            offset: 16,
            length: 100,
            hash: Hash([0; 32]),
        };
        let places = |count: u64| -> Places {
            let place = |chunk| (chunk, location.clone());
            (0..count).map(place).collect()
        };
        let bytes = 1000 * size_of::<(u64, Location)>() as u64;
        let mut cache = Cache::of(bytes);
        for number in 0..10 {
            cache.put(number, places(300));
            cache.put(number, places(300));
            let held = cache.known.values().map(|places| places.len());
            assert_eq!(held.sum::<usize>(), cache.frames);
            assert!(cache.frames <= 1000, "{} frames", cache.frames);
            assert!(cache.known.contains_key(&number));
        }
        assert_eq!(cache.known.len(), 3);
        // A pack that is too large for it is kept alone.
        cache.put(10, places(5000));
        assert_eq!((cache.known.len(), cache.frames), (1, 5000));
    }
}
