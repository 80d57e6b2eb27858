//! A share of the data, chosen by a seed: the same seed chooses the same again.

use crate::format::ids::PackName;

/// Packs are chosen from in pieces of this size, in bytes: a frame belongs to the piece that it starts in.
pub(super) const WINDOW_BYTES: u64 = 1 << 20;

/// How much of the data is read, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The share, in millionths; 1 to 1,000,000.
    pub share_ppm: u32,
    /// What is chosen follows from it.
    pub seed: u64,
}

/// What a sample comes to over all packs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    sample: Sample,
    /// Windows of a lower rank are chosen.
    below: u64,
    /// Their bytes, all together.
    pub(super) total_bytes: u64,
}

impl Choice {
    /// Chooses among packs of these sizes: about the share, and never nothing.
    pub(super) fn new<'a>(
        sample: Sample,
        packs: impl Iterator<Item = (&'a PackName, u64)>,
    ) -> Self {
        let share = u128::from(sample.share_ppm.clamp(1, 1_000_000));
        let below = u64::try_from((share << 64) / 1_000_000).unwrap_or(u64::MAX);
        let mut choice = Self {
            sample,
            below,
            total_bytes: 0,
        };
        let mut lowest: Option<(u64, u64)> = None;
        for (pack, size_bytes) in packs {
            for window in 0..size_bytes.div_ceil(WINDOW_BYTES) {
                let bytes = WINDOW_BYTES.min(size_bytes - window * WINDOW_BYTES);
                let rank = choice.rank(pack, window);
                if rank < below || below == u64::MAX {
                    choice.total_bytes += bytes;
                }
                if lowest.is_none_or(|(least, _)| rank < least) {
                    lowest = Some((rank, bytes));
                }
            }
        }
        if let (0, Some((rank, bytes))) = (choice.total_bytes, lowest) {
            choice.below = rank.saturating_add(1);
            choice.total_bytes = bytes;
        }
        choice
    }

    /// Whether what starts at this offset is to be read.
    pub(super) fn has(&self, pack: &PackName, offset: u64) -> bool {
        self.below == u64::MAX || self.rank(pack, offset / WINDOW_BYTES) < self.below
    }

    fn rank(&self, pack: &PackName, window: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.sample.seed.to_le_bytes());
        hasher.update(&window.to_le_bytes());
        hasher.update(pack.object_key().as_bytes());
        let mut rank = [0; 8];
        rank.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ids::{Run, SnapshotId, VolumeId};

    fn packs() -> Vec<(PackName, u64)> {
        let pack = |number| PackName {
            volume: VolumeId::new("v").unwrap(),
            snapshot: SnapshotId::new("s").unwrap(),
            run: Run([1; 16]),
            number,
        };
        (0..20)
            .map(|number| (pack(number), (200 << 20) + 17))
            .collect()
    }

    fn choose(share_ppm: u32, seed: u64) -> (Choice, Vec<bool>) {
        let packs = packs();
        let sample = Sample { share_ppm, seed };
        let choice = Choice::new(sample, packs.iter().map(|(pack, size)| (pack, *size)));
        let chosen = packs
            .iter()
            .flat_map(|(pack, _)| (0..=200).map(|w| choice.has(pack, w * WINDOW_BYTES)));
        let chosen = chosen.collect();
        (choice, chosen)
    }

    #[test]
    fn about_the_share_the_same_again_and_never_nothing() {
        let (choice, chosen) = choose(50_000, 1);
        let count = chosen.iter().filter(|chosen| **chosen).count();
        assert!((120..=290).contains(&count), "{count} of {}", chosen.len());
        assert_eq!(choose(50_000, 1).1, chosen);
        assert_ne!(choose(50_000, 2).1, chosen);
        assert!(choice.total_bytes > 100 << 20);
        let (all, chosen) = choose(1_000_000, 3);
        assert!(chosen.iter().all(|chosen| *chosen));
        assert_eq!(all.total_bytes, 20 * ((200 << 20) + 17));
        for seed in 0..50 {
            let (choice, chosen) = choose(1, seed);
            assert!(chosen.contains(&true) && choice.total_bytes > 0);
        }
    }
}
