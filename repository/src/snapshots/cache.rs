//! What listings have read. A record is replaced as a whole or stays, so one that a listing shows with the size and time of before is
//! not read again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{SnapshotSummary, Status};
use crate::store::ObjectMeta;

/// Memory that all caches which share a room take together, in bytes, as it is reckoned here.
const ROOM_BYTES: u64 = 32 << 20;

/// What a record takes beside its key and what is in it, in bytes.
const RECORD_BYTES: u64 = 512;

/// Memory that several caches share: 32 MiB.
#[derive(Debug)]
pub struct RecordRoom(AtomicU64);

impl Default for RecordRoom {
    fn default() -> Self {
        Self(AtomicU64::new(ROOM_BYTES))
    }
}

impl RecordRoom {
    fn take(&self, bytes: u64) -> bool {
        let order = Ordering::Relaxed;
        let taken = self
            .0
            .fetch_update(order, order, |left| left.checked_sub(bytes));
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What is left of it, in bytes.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The records of one repository, as they were read.
#[derive(Debug, Default)]
pub struct RecordCache {
    known: Mutex<HashMap<String, Known>>,
    room: Arc<RecordRoom>,
}

#[derive(Debug)]
struct Known {
    size_bytes: u64,
    modified_at_s: i64,
    takes_bytes: u64,
    summary: SnapshotSummary,
}

impl RecordCache {
    /// A cache that shares its room with others; what does not fit is read again each time.
    #[must_use]
    pub fn sharing(room: Arc<RecordRoom>) -> Self {
        Self {
            known: Mutex::default(),
            room,
        }
    }

    /// What was read of an object that looks like this.
    pub(super) fn get(&self, meta: &ObjectMeta) -> Option<SnapshotSummary> {
        let known = self.lock();
        let known = known.get(&meta.key)?;
        let is_same =
            known.size_bytes == meta.size_bytes && known.modified_at_s == meta.modified_at_s;
        is_same.then(|| known.summary.clone())
    }

    /// Keeps what is certain.
    pub(super) fn put(&self, meta: &ObjectMeta, summary: &SnapshotSummary) {
        // A manifest takes about as much as its object, whose size somebody else may have chosen, twice over.
        let (is_certain, content_bytes) = match summary.status {
            Status::Committed => (summary.manifest.is_some(), 2 * meta.size_bytes),
            Status::Deleted => (true, 0),
            Status::Uploading | Status::Unreadable(_) => (false, 0),
        };
        let takes_bytes = content_bytes + RECORD_BYTES + 2 * meta.key.len() as u64;
        let mut known = self.lock();
        if let Some(old) = known.remove(&meta.key) {
            self.room.give_back(old.takes_bytes);
        }
        if is_certain && self.room.take(takes_bytes) {
            let new = Known {
                size_bytes: meta.size_bytes,
                modified_at_s: meta.modified_at_s,
                takes_bytes,
                summary: summary.clone(),
            };
            known.insert(meta.key.clone(), new);
        }
    }

    /// Forgets what a listing does not show any more.
    pub(super) fn keep_only(&self, listed: &[ObjectMeta]) {
        let mut known = self.lock();
        if !known.is_empty() {
            let listed: BTreeSet<&str> = listed.iter().map(|meta| meta.key.as_str()).collect();
            known.retain(|key, old| {
                let stays = listed.contains(key.as_str());
                if !stays {
                    self.room.give_back(old.takes_bytes);
                }
                stays
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RecordCache {
    fn drop(&mut self) {
        let taken = self.lock().values().map(|known| known.takes_bytes).sum();
        self.room.give_back(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ids::SnapshotId;

    fn record(number: u64) -> (ObjectMeta, SnapshotSummary) {
        let meta = ObjectMeta {
            key: format!("snapshots/v/{number:08}.json"),
            size_bytes: 1000,
            modified_at_s: 7,
        };
        let summary = SnapshotSummary {
            snapshot_id: SnapshotId::new(format!("s{number:08}")).unwrap(),
            volume_id: None,
            status: Status::Deleted,
            manifest: None,
            started_at: None,
        };
        (meta, summary)
    }

    #[test]
    fn caches_share_a_room_and_give_back_what_they_took() {
        let room = Arc::new(RecordRoom(AtomicU64::new(10 * 600)));
        let caches = [(); 2].map(|()| RecordCache::sharing(room.clone()));
        let all: Vec<_> = (0..20).map(record).collect();
        for (meta, summary) in &all {
            caches[usize::from(meta.key.contains("01"))].put(meta, summary);
            // Again is no more.
            caches[usize::from(meta.key.contains("01"))].put(meta, summary);
        }
        let count = |cache: &RecordCache| {
            let known = all.iter().filter(|(meta, _)| cache.get(meta).is_some());
            known.count()
        };
        let [first, second] = &caches;
        assert!((5..=10).contains(&(count(first) + count(second))));
        assert!(room.left_bytes() < 600);
        let listed: Vec<ObjectMeta> = all[..2].iter().map(|(meta, _)| meta.clone()).collect();
        caches.iter().for_each(|cache| cache.keep_only(&listed));
        assert_eq!(count(first) + count(second), 2);
        drop(caches);
        assert_eq!(room.left_bytes(), 10 * 600);
    }
}
