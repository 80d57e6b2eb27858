//! Packs of the base of which little is needed: the upload refers to them no longer and sends what is needed of them anew,
//! so that a prune can remove them once older snapshots are gone. Manifests are never rewritten.
//!
//! An upload that compares reads everything anyway: it takes what lies in such a pack for not there. One that is told
//! what changed looks at the leaves of the map that the pack's index names, and reads the chunks that are in the pack
//! still from the source. Which of those leaves lead to something that is needed still shows only when they are looked at; where
//! there are too many, each upload looks at some, and the pack is given up a part at a time.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, stream};

use super::{
    base::BaseMap,
    changes::{Changed, leaf_of},
    commit::Attempt,
};
use crate::{
    RepositoryError, UploadSettings,
    format::{ids::PackName, list_page::PackEntry, pack_index::ENTRY_SIZE},
    indexes::read_index,
};

/// Packs that one upload empties, at most: one that is told what changed reads their indexes.
const PACKS_MAX: usize = 32;

/// Leaves of the map that are looked at for this alone, besides as many as have changes anyway.
const LEAVES_OPENED_MAX: u64 = 1024;

/// Indexes read at the same time; each may take some MiB.
const READS_IN_FLIGHT: usize = 4;

/// What a pack would have to be at least to hold what is needed of it, in bytes: its frames, and their part of the index.
/// So a fresh pack is as good as whole, however small its frames are.
fn needed(entry: &PackEntry) -> u64 {
    let index = u64::from(entry.live_frames) * u64::from(ENTRY_SIZE);
    (entry.live_bytes + index).min(entry.size_bytes)
}

/// The packs to empty: below the share that the settings name, the sparsest first, as long as the budget lasts.
fn choose<'a>(
    entries: impl Iterator<Item = &'a PackEntry>,
    settings: &UploadSettings,
) -> Vec<&'a PackEntry> {
    let gain = |entry: &PackEntry| entry.size_bytes - needed(entry);
    let is_sparse = |entry: &&PackEntry| {
        let share = u128::from(needed(entry)) * 100;
        share < u128::from(entry.size_bytes) * u128::from(settings.repack_below_percent)
            && gain(entry) >= settings.repack_gain_bytes_min / PACKS_MAX as u64
    };
    let mut sparse: Vec<&PackEntry> = entries.filter(is_sparse).collect();
    // Compared without dividing.
    sparse.sort_by(|a, b| {
        let share = |x: &PackEntry, y: &PackEntry| u128::from(needed(x)) * u128::from(y.size_bytes);
        let order = share(a, b).cmp(&share(b, a));
        order.then_with(|| a.pack.cmp(&b.pack))
    });
    let mut left = settings.repack_budget_bytes;
    let mut chosen = Vec::new();
    for entry in sparse {
        if chosen.len() < PACKS_MAX && entry.live_bytes <= left {
            left -= entry.live_bytes;
            chosen.push(entry);
        }
    }
    if chosen.iter().map(|entry| gain(entry)).sum::<u64>() < settings.repack_gain_bytes_min {
        chosen.clear();
    }
    chosen
}

impl Attempt<'_> {
    /// Makes the upload refer no longer to the base's sparse packs. With `changed`, the leaves that lead to them are added there,
    /// as many as there is room for: what the others lead to stays in use until a later upload.
    ///
    /// # Errors
    /// Only if the bucket does not answer: a pack whose index cannot be read stays in use.
    pub(super) async fn leave_sparse_packs(
        &self,
        map: &mut BaseMap,
        changed: Option<&mut Changed>,
    ) -> Result<(), RepositoryError> {
        let chosen: Vec<(Arc<PackName>, u64)> = choose(map.packs.values(), &self.request.settings)
            .into_iter()
            .map(|entry| (entry.pack.clone(), entry.size_bytes))
            .collect();
        let Some(changed) = changed else {
            map.sparse.extend(chosen.into_iter().map(|(pack, _)| pack));
            return Ok(());
        };
        let mut found = stream::iter(chosen)
            .map(|(pack, size_bytes)| async move {
                let leaves = self.leaves_of(&pack, size_bytes).await;
                (pack, leaves)
            })
            .buffered(READS_IN_FLIGHT);
        let mut room = LEAVES_OPENED_MAX + changed.leaves();
        let mut scattered: Option<(Arc<PackName>, BTreeSet<u64>)> = None;
        while room > 0
            && let Some((pack, leaves)) = found.next().await
        {
            let Some(mut leaves) = leaves? else {
                continue;
            };
            leaves.retain(|leaf| !changed.opens(*leaf));
            match room.checked_sub(leaves.len() as u64) {
                Some(left) => {
                    room = left;
                    leaves.into_iter().for_each(|leaf| changed.open(leaf));
                    map.sparse.insert(pack);
                }
                None => drop(scattered.get_or_insert((pack, leaves))),
            }
        }
        if room > 0
            && let Some((pack, leaves)) = scattered
        {
            tracing::info!(
                pack = %pack,
                leaves = leaves.len(),
                looked_at = room,
                "little of this pack is needed, but it lies scattered: it is given up in parts"
            );
            let from = random_below(leaves.len());
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let some = leaves.iter().cycle().skip(from).take(room);
            some.for_each(|leaf| changed.open(*leaf));
            map.sparse.insert(pack);
        }
        Ok(())
    }

    /// First chunks of the leaves that may lead to a pack: of all its frames, needed or not. `None` for one whose index cannot
    /// be read.
    async fn leaves_of(
        &self,
        pack: &Arc<PackName>,
        size_bytes: u64,
    ) -> Result<Option<BTreeSet<u64>>, RepositoryError> {
        match read_index(&self.fetcher(), self.sealer, pack, size_bytes).await {
            Ok(index) => {
                let entries = index.entries.iter();
                Ok(Some(entries.map(|entry| leaf_of(entry.position)).collect()))
            }
            Err(error) if error.is_of_one_object() => {
                tracing::warn!(
                    pack = %pack,
                    error = &error as &dyn std::error::Error,
                    "little of this pack is needed, but its index cannot be read: it stays in use"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Some place in a list of that length; another one each time, so that all of it gets its turn.
fn random_below(length: usize) -> usize {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    usize::try_from(random % length.max(1) as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ids::{Run, SnapshotId, VolumeId};

    fn entry(number: u32, size_kib: u64, live_kib: u64) -> PackEntry {
        PackEntry {
            pack: Arc::new(PackName {
                volume: VolumeId::new("v").unwrap(),
                snapshot: SnapshotId::new("s").unwrap(),
                run: Run([1; 16]),
                number,
            }),
            size_bytes: size_kib << 10,
            crc32c: 0,
            live_frames: 1,
            live_bytes: live_kib << 10,
        }
    }

    fn chosen(entries: &[PackEntry], percent: u32, budget_kib: u64) -> Vec<u32> {
        let settings = UploadSettings {
            repack_below_percent: percent,
            repack_budget_bytes: budget_kib << 10,
            ..UploadSettings::default()
        };
        let chosen = choose(entries.iter(), &settings);
        chosen.into_iter().map(|entry| entry.pack.number).collect()
    }

    #[test]
    fn sparse_packs_are_emptied_within_the_budget() {
        let entries = [
            entry(0, 100 << 10, 90 << 10),
            entry(1, 100 << 10, 20 << 10),
            entry(2, 10 << 10, 512),
            entry(3, 100 << 10, 1 << 10),
            // Next to nothing to gain.
            entry(4, 30, 1),
        ];
        assert_eq!(chosen(&entries, 25, 1 << 20), [3, 2, 1]);
        assert_eq!(chosen(&entries, 90, 1 << 20), [3, 2, 1]);
        assert_eq!(chosen(&entries, 15, 1 << 20), [3, 2]);
        assert_eq!(chosen(&entries, 25, 2 << 10), [3, 2], "the budget ends it");
        assert_eq!(chosen(&entries, 25, 700), [2], "what does not fit waits");
        assert_eq!(chosen(&entries, 0, 1 << 20), [0; 0]);
    }

    #[test]
    fn small_packs_are_emptied_together_or_not_at_all() {
        let small = |count| -> Vec<PackEntry> { (0..count).map(|n| entry(n, 100, 1)).collect() };
        assert_eq!(chosen(&small(10), 25, 1 << 20), [0; 0]);
        assert_eq!(chosen(&small(11), 25, 1 << 20).len(), 11);
        assert_eq!(chosen(&small(100), 25, 1 << 20).len(), PACKS_MAX);
    }

    #[test]
    fn a_pack_of_tiny_frames_is_not_sparse_as_long_as_they_are_needed() {
        let mut fresh = entry(0, 9 << 10, 4 << 10);
        fresh.live_frames = (5 << 20) / 48;
        assert_eq!(chosen(&[fresh], 90, 1 << 20), [0; 0]);
    }
}
