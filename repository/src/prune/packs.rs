//! All packs of a repository, in little memory: about 16 bytes for each, and a name for each run.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::{
    ids::{PackName, Run, SnapshotId, VolumeId},
    limits::PACK_SIZE_MAX,
};

/// An attempt to upload a snapshot, as the names of its packs tell it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunKey {
    pub(super) volume: VolumeId,
    pub(super) snapshot: SnapshotId,
    pub(super) run: Run,
}

impl RunKey {
    fn of(pack: &PackName) -> Self {
        Self {
            volume: pack.volume.clone(),
            snapshot: pack.snapshot.clone(),
            run: pack.run,
        }
    }

    fn pack(&self, number: u32) -> PackName {
        PackName {
            volume: self.volume.clone(),
            snapshot: self.snapshot.clone(),
            run: self.run,
            number,
        }
    }
}

/// A manifest reaches it.
const REACHED: u8 = 1;
/// An upload under way may refer to it.
const SPARED: u8 = 2;
/// It was deleted.
const GONE: u8 = 4;
/// The store did not let it be deleted.
const HELD: u8 = 8;
/// It was deleted, and the bucket keeps old versions of it.
const HIDDEN: u8 = 16;

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: u32,
    size_bytes: u32,
    /// The most that one snapshot reaches in it.
    live_bytes: u32,
    marks: u8,
}

#[derive(Debug, Default)]
struct OfRun {
    /// Last modification of the newest one by the store's clock, seconds since the epoch.
    newest_s: i64,
    /// By number.
    slots: Vec<Slot>,
    is_sorted: bool,
}

/// A number of packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub packs: u64,
    /// Their bytes in the bucket.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, slot: &Slot) {
        self.packs += 1;
        self.bytes += u64::from(slot.size_bytes);
    }
}

/// The packs by what is known of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tallies {
    pub(super) reached: Tally,
    /// At least so many bytes of those are still needed.
    pub(super) live_bytes: u64,
    /// Not reached, but an upload may refer to them.
    pub(super) spared: Tally,
    /// Neither, and still there.
    pub(super) unneeded: Tally,
    /// Of those, what the store did not let go.
    pub(super) held: Tally,
    pub(super) gone: Tally,
    /// Of those, what the bucket keeps old versions of.
    pub(super) hidden: Tally,
}

/// All packs that a listing named.
#[derive(Debug, Default)]
pub(super) struct PackTable {
    runs: BTreeMap<RunKey, OfRun>,
    /// Packs that manifests reach and the listing did not name: lost, or younger than it.
    unlisted: BTreeSet<PackName>,
}

/// So many unlisted packs are remembered; with more, all that the listing did not name are taken for needed.
const UNLISTED_MAX: usize = 1 << 16;

impl PackTable {
    /// Takes a pack of the listing.
    pub(super) fn insert(&mut self, name: &PackName, size_bytes: u64, modified_at_s: i64) {
        let of_run = self.runs.entry(RunKey::of(name)).or_default();
        of_run.newest_s = of_run.newest_s.max(modified_at_s);
        of_run.is_sorted = false;
        of_run.slots.push(Slot {
            number: name.number,
            size_bytes: u32::try_from(size_bytes.min(PACK_SIZE_MAX)).unwrap_or(u32::MAX),
            live_bytes: 0,
            marks: 0,
        });
    }

    /// After the last [`insert`](Self::insert): a listing is in the order of texts, where 10 comes before 2.
    pub(super) fn settle(&mut self) {
        for of_run in self.runs.values_mut().filter(|of_run| !of_run.is_sorted) {
            of_run.slots.sort_unstable_by_key(|slot| slot.number);
            of_run.slots.shrink_to_fit();
            of_run.is_sorted = true;
        }
    }

    fn slot(&mut self, name: &PackName) -> Option<&mut Slot> {
        let slots = &mut self.runs.get_mut(&RunKey::of(name))?.slots;
        let at = slots.binary_search_by_key(&name.number, |slot| slot.number);
        slots.get_mut(at.ok()?)
    }

    /// A manifest reaches `live_bytes` of a pack; `None`: all of it. A pack that is not in the table is younger than it, or
    /// lost.
    pub(super) fn reach(&mut self, name: &PackName, live_bytes: Option<u64>) {
        if let Some(slot) = self.slot(name) {
            let size = slot.size_bytes;
            let live = live_bytes.map_or(size, |live| u32::try_from(live).unwrap_or(size));
            slot.live_bytes = slot.live_bytes.max(live.min(size));
            slot.marks |= REACHED;
        } else if self.unlisted.len() < UNLISTED_MAX {
            self.unlisted.insert(name.clone());
        }
    }

    /// Whether a manifest may reach a pack that the listing did not name.
    pub(super) fn is_reached_unlisted(&self, name: &PackName) -> bool {
        self.unlisted.len() >= UNLISTED_MAX || self.unlisted.contains(name)
    }

    /// The first so many packs that manifests reach and the listing did not name.
    pub(super) fn unlisted(&self, most: usize) -> Vec<PackName> {
        self.unlisted.iter().take(most).cloned().collect()
    }

    /// An upload may refer to a pack.
    pub(super) fn spare(&mut self, name: &PackName) {
        if let Some(slot) = self.slot(name) {
            slot.marks |= SPARED;
        }
    }

    /// An upload may refer to all packs of a run.
    pub(super) fn spare_run(&mut self, run: &RunKey) {
        if let Some(of_run) = self.runs.get_mut(run) {
            for slot in &mut of_run.slots {
                slot.marks |= SPARED;
            }
        }
    }

    /// An upload may refer to anything.
    pub(super) fn spare_all(&mut self) {
        for slot in self.runs.values_mut().flat_map(|run| &mut run.slots) {
            slot.marks |= SPARED;
        }
    }

    /// A pack was deleted, though perhaps not all versions of it.
    pub(super) fn gone(&mut self, name: &PackName, is_hidden: bool) {
        if let Some(slot) = self.slot(name) {
            slot.marks |= if is_hidden { GONE | HIDDEN } else { GONE };
        }
    }

    /// The store did not let a pack go.
    pub(super) fn held(&mut self, name: &PackName) {
        if let Some(slot) = self.slot(name) {
            slot.marks |= HELD;
        }
    }

    /// Whether a pack is needed neither by a manifest nor by an upload.
    pub(super) fn is_unneeded(&mut self, name: &PackName) -> bool {
        self.slot(name).is_some_and(|slot| slot.marks == 0)
    }

    /// Whether a pack is there.
    pub(super) fn has(&mut self, name: &PackName) -> bool {
        self.slot(name).is_some_and(|slot| slot.marks & GONE == 0)
    }

    /// The first so many packs that nothing needs.
    pub(super) fn unneeded(&self, most: usize) -> Vec<PackName> {
        let names = self.runs.iter().flat_map(|(key, of_run)| {
            let slots = of_run.slots.iter().filter(|slot| slot.marks == 0);
            slots.map(|slot| key.pack(slot.number))
        });
        names.take(most).collect()
    }

    /// The snapshots that packs were written for.
    pub(super) fn owners(&self) -> BTreeSet<(VolumeId, SnapshotId)> {
        let owner = |key: &RunKey| (key.volume.clone(), key.snapshot.clone());
        self.runs.keys().map(owner).collect()
    }

    /// How many runs there are.
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// When the newest pack of a run was put.
    pub(super) fn newest_s(&self, run: &RunKey) -> Option<i64> {
        self.runs.get(run).map(|of_run| of_run.newest_s)
    }

    /// Everything counted.
    pub(super) fn tallies(&self) -> Tallies {
        let mut tallies = Tallies::default();
        for slot in self.runs.values().flat_map(|run| &run.slots) {
            if slot.marks & GONE != 0 {
                tallies.gone.add(slot);
                if slot.marks & HIDDEN != 0 {
                    tallies.hidden.add(slot);
                }
            } else if slot.marks & REACHED != 0 {
                tallies.reached.add(slot);
                tallies.live_bytes += u64::from(slot.live_bytes);
            } else if slot.marks & SPARED != 0 {
                tallies.spared.add(slot);
            } else {
                tallies.unneeded.add(slot);
                if slot.marks & HELD != 0 {
                    tallies.held.add(slot);
                }
            }
        }
        tallies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(run: u8, number: u32) -> PackName {
        PackName {
            volume: VolumeId::new("v").unwrap(),
            snapshot: SnapshotId::new("s").unwrap(),
            run: Run([run; 16]),
            number,
        }
    }

    #[test]
    fn packs_are_counted_by_what_needs_them() {
        let mut table = PackTable::default();
        // As a listing brings them.
        for number in [0, 1, 10, 11, 2, 3] {
            table.insert(&name(1, number), 100, i64::from(number));
        }
        table.insert(&name(2, 0), 1000, 50);
        table.settle();
        table.reach(&name(1, 0), Some(30));
        table.reach(&name(1, 0), Some(20));
        table.reach(&name(1, 10), None);
        table.reach(&name(9, 9), None);
        table.spare(&name(1, 10));
        table.spare(&name(1, 2));
        assert_eq!(
            table.unneeded(9),
            [name(1, 1), name(1, 3), name(1, 11), name(2, 0)]
        );
        assert_eq!(table.unneeded(2).len(), 2);
        table.gone(&name(1, 1), true);
        table.held(&name(1, 3));
        assert!(!table.has(&name(1, 1)) && table.has(&name(1, 3)));
        assert!(table.is_unneeded(&name(1, 11)) && !table.is_unneeded(&name(1, 2)));
        assert!(!table.is_unneeded(&name(3, 0)), "what is not known is kept");
        let tally = |packs, bytes| Tally { packs, bytes };
        let tallies = table.tallies();
        assert_eq!(tallies.reached, tally(2, 200));
        assert_eq!(tallies.live_bytes, 130);
        assert_eq!(tallies.spared, tally(1, 100));
        assert_eq!(tallies.unneeded, tally(3, 1200));
        assert_eq!(tallies.held, tally(1, 100));
        assert_eq!(
            (tallies.gone, tallies.hidden),
            (tally(1, 100), tally(1, 100))
        );
        let owner = (VolumeId::new("v").unwrap(), SnapshotId::new("s").unwrap());
        assert_eq!(table.owners(), [owner].into());
        table.spare_all();
        assert_eq!(table.unneeded(9), []);
    }
}
