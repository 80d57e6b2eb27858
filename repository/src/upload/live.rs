//! What a snapshot's map reaches in each pack: counted page by page, and, on a base of which only the changed pages
//! are looked at, as the difference to the base's own counts.

use std::{collections::BTreeMap, sync::Arc};

use crate::format::{ids::PackName, list_page::PackEntry, location::Location};

/// What a snapshot's map reaches in a pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) frames: u32,
    pub(super) bytes: u64,
}

impl Live {
    /// One more frame.
    pub(super) fn add(&mut self, location: &Location) {
        *self += Self {
            frames: 1,
            bytes: location.length.into(),
        };
    }
}

impl std::ops::AddAssign for Live {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

/// Live frames of all packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LivePacks(pub(super) BTreeMap<Arc<PackName>, Live>);

impl LivePacks {
    /// Those of a pack list.
    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a PackEntry>) -> Self {
        let live = |entry: &PackEntry| Live {
            frames: entry.live_frames,
            bytes: entry.live_bytes,
        };
        Self(
            entries
                .map(|entry| (entry.pack.clone(), live(entry)))
                .collect(),
        )
    }

    /// One more frame.
    pub(super) fn add(&mut self, location: &Location) {
        let live = self.0.entry(location.pack.clone()).or_default();
        live.add(location);
    }

    /// These frames are not reached any more. `false`: they were not counted before.
    #[must_use]
    pub(super) fn remove(&mut self, gone: &LivePacks) -> bool {
        gone.0.iter().all(|(pack, gone)| {
            let Some(live) = self.0.get_mut(pack) else {
                return false;
            };
            let left = (
                live.frames.checked_sub(gone.frames),
                live.bytes.checked_sub(gone.bytes),
            );
            let (Some(frames), Some(bytes)) = left else {
                return false;
            };
            *live = Live { frames, bytes };
            true
        })
    }

    /// Leaves out packs of which nothing is reached. `false`: the counts contradict themselves.
    #[must_use]
    pub(super) fn tidy(&mut self) -> bool {
        let sound = self
            .0
            .values()
            .all(|live| (live.frames == 0) == (live.bytes == 0));
        self.0.retain(|_, live| live.frames > 0);
        sound
    }
}
