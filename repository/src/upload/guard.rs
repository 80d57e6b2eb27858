//! The guard against wrong deltas: some chunks that are said to be unchanged are read, and have to be what the base has.
//!
//! Chunks are drawn from leaves that are found by a random walk down the base's map, so that few pages are read whatever
//! the volume's size; some places are drawn from the whole volume too, since a hole may have got data.

use std::{collections::BTreeMap, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{base::BaseMap, changes::Changed};
use crate::{
    RepositoryError,
    device::{AlignedBuffer, Source, is_zero},
    format::{
        crypto::{Hash, Sealer},
        ids::Run,
        limits::FAN_OUT,
        location::Location,
        map_page::MapPage,
    },
    repository::blocking,
    settings::{GUARD_CHUNKS_MAX, PPM},
};

/// Leaves of the map that the sample is drawn from.
const LEAVES_MAX: u64 = 64;

/// Chunks of a leaf, so that a small sample does not come from one place only.
const CHUNKS_PER_LEAF: u64 = 3;

/// Places drawn from the whole volume, holes or not.
const PLACES: u64 = 4;

/// What was read to make sure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sampled {
    pub(super) chunks: u64,
    /// One that is not what the base has.
    pub(super) wrong: Option<u64>,
}

/// Looks for a chunk that changed though it is said to be unchanged.
pub(super) struct Guard<'a> {
    pub(super) base: &'a BaseMap,
    pub(super) changed: &'a Changed,
    pub(super) source: &'a Arc<Source>,
    pub(super) sealer: &'a Sealer,
    /// Share of the data to read, in parts per million; at 1,000,000 the whole volume is.
    pub(super) share_ppm: u32,
    /// Chunks to read at least.
    pub(super) chunks_min: u32,
    pub(super) cancel: &'a CancellationToken,
}

/// Chunks and the hashes that the base has; `None` for holes.
type Expected = BTreeMap<u64, Option<Hash>>;

impl Guard<'_> {
    /// Reads the sample and compares it.
    ///
    /// # Errors
    /// What the device or the base's pages meet; [`RepositoryError::Cancelled`].
    pub(super) async fn check(&self) -> Result<Sampled, RepositoryError> {
        if self.share_ppm == 0 {
            return Ok(Sampled::default());
        }
        if self.share_ppm >= PPM {
            return self.check_all().await;
        }
        let expected = self.draw().await?;
        self.compare(expected).await
    }

    /// Chunks that both have: what the volume has grown by counts as changed anyway.
    fn total(&self) -> u64 {
        let chunk_size = u64::from(self.base.manifest.chunk_size_bytes);
        let new = self.source.size_bytes().div_ceil(chunk_size);
        self.base.manifest.chunks.total.min(new)
    }

    fn is_kept(&self, chunk: u64) -> bool {
        chunk < self.total() && !self.changed.contains(chunk)
    }

    async fn check_all(&self) -> Result<Sampled, RepositoryError> {
        let mut sampled = Sampled::default();
        let (mut start, step) = (0, FAN_OUT * 8);
        while start < self.total() && sampled.wrong.is_none() {
            let chunks = start..(start + step).min(self.total());
            let base = self.base.all_chunks(chunks.clone()).await?;
            let mut expected: Expected = chunks.map(|chunk| (chunk, None)).collect();
            expected.extend(
                base.within(start..start + step)
                    .map(|(chunk, at)| (chunk, Some(at.hash))),
            );
            expected.extend(base.anew.iter().map(|(chunk, hash)| (*chunk, Some(*hash))));
            expected.retain(|chunk, _| self.is_kept(*chunk));
            let part = self.compare(expected).await?;
            sampled.chunks += part.chunks;
            sampled.wrong = part.wrong;
            start += step;
        }
        Ok(sampled)
    }

    async fn draw(&self) -> Result<Expected, RepositoryError> {
        let mut random = Random::new()?;
        let mapped = self.base.manifest.chunks.mapped;
        let share = mapped.saturating_mul(self.share_ppm.into()) / u64::from(PPM);
        let wanted = share.clamp(self.chunks_min.into(), GUARD_CHUNKS_MAX);
        let leaves = (wanted / CHUNKS_PER_LEAF).clamp(1, LEAVES_MAX);
        let mut expected = Expected::new();
        // Some leaves may have changed as a whole; it is tried again, but not for ever.
        for _ in 0..leaves * 4 {
            if expected.len() as u64 >= wanted {
                break;
            }
            let Some(leaf) = self.walk(|page| random.below(page.entries.len())).await? else {
                break;
            };
            let mut kept: Vec<(u64, &Location)> = leaf
                .entries
                .iter()
                .map(|(slot, location)| (leaf.slot_chunk(*slot), location))
                .filter(|(chunk, _)| self.is_kept(*chunk))
                .collect();
            for _ in 0..wanted.div_ceil(leaves).min(kept.len() as u64) {
                let (chunk, location) = kept.swap_remove(random.below(kept.len()));
                expected.insert(chunk, Some(location.hash));
            }
        }
        for _ in 0..PLACES {
            let chunk = random.next() % self.total();
            if self.is_kept(chunk) {
                expected.insert(chunk, self.find(chunk).await?);
            }
        }
        Ok(expected)
    }

    /// Goes down the map, to the entry of each page that is chosen. `None` if there is no map.
    async fn walk(
        &self,
        mut choose: impl FnMut(&MapPage) -> usize,
    ) -> Result<Option<MapPage>, RepositoryError> {
        let Some(mut at) = self.base.root() else {
            return Ok(None);
        };
        loop {
            let page = self.base.page(&at).await?;
            if page.level == 0 {
                return Ok(Some(page));
            }
            let Some((slot, location)) = page.entries.get(choose(&page)) else {
                return Ok(None);
            };
            at.level = page.level - 1;
            at.first_chunk = page.slot_chunk(*slot);
            at.location = location.clone();
        }
    }

    /// The base's hash of a chunk; `None` for a hole.
    async fn find(&self, chunk: u64) -> Result<Option<Hash>, RepositoryError> {
        let to_chunk = |page: &MapPage| {
            let covers = |slot: u8| {
                let start = page.slot_chunk(slot);
                let span = crate::format::map_page::slot_span(page.level);
                (start..start + span).contains(&chunk)
            };
            page.entries
                .iter()
                .position(|(slot, _)| covers(*slot))
                .unwrap_or(usize::MAX)
        };
        let leaf = self.walk(to_chunk).await?;
        Ok(leaf.and_then(|leaf| leaf.entry_for(chunk).map(|at| at.hash)))
    }

    /// Reads the chunks, in order, until one is not as expected.
    async fn compare(&self, expected: Expected) -> Result<Sampled, RepositoryError> {
        let (source, sealer) = (self.source.clone(), self.sealer.clone());
        let cancel = self.cancel.clone();
        let chunk_size = self.base.manifest.chunk_size_bytes as usize;
        let read = move || {
            let mut sampled = Sampled::default();
            let mut buffer = AlignedBuffer::new(chunk_size);
            for (chunk, expected) in expected {
                if cancel.is_cancelled() {
                    return Err(RepositoryError::Cancelled);
                }
                source.read_at(chunk * chunk_size as u64, &mut buffer)?;
                sampled.chunks += 1;
                let found = (!is_zero(&buffer)).then(|| sealer.chunk_hash(&buffer));
                if found != expected {
                    sampled.wrong = Some(chunk);
                    break;
                }
            }
            Ok(sampled)
        };
        blocking(read).await?
    }
}

/// Numbers that nobody can foresee, for drawing samples (splitmix64).
struct Random(u64);

impl Random {
    fn new() -> Result<Self, RepositoryError> {
        let seed = Run::generate().map_err(super::unstorable)?;
        let (seed, _) = seed.0.split_at(8);
        Ok(Self(
            seed.iter()
                .fold(0, |all, byte| (all << 8) | u64::from(*byte)),
        ))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An index below `count`, which is not 0.
    fn below(&mut self, count: usize) -> usize {
        let drawn = self.next() % count.max(1) as u64;
        usize::try_from(drawn).expect("below an index")
    }
}
