//! What listings have read. A record is replaced as a whole or stays, so one that a listing shows with the size and time of before is
//! not read again.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{SnapshotSummary, Status};
use crate::{format::manifest::Manifest, store::ObjectMeta};

/// Memory that all caches which share a room take together, in bytes, as it is reckoned here.
const ROOM_BYTES: u64 = 32 << 20;

/// What a record takes beside its key and what is in it, in bytes.
const RECORD_BYTES: u64 = 1024;

/// What an entry of a manifest's metadata takes beside its text, in bytes.
const ENTRY_BYTES: u64 = 128;

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
    /// Bytes of the object that was read.
    length: usize,
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

    /// What was read of an object that looks like this, and how many bytes that were.
    pub(super) fn get(&self, meta: &ObjectMeta) -> Option<(usize, SnapshotSummary)> {
        let known = self.lock();
        let known = known.get(&meta.key)?;
        let is_same =
            known.size_bytes == meta.size_bytes && known.modified_at_s == meta.modified_at_s;
        is_same.then(|| (known.length, known.summary.clone()))
    }

    /// Keeps what is certain of what was read from so many bytes.
    pub(super) fn put(&self, meta: &ObjectMeta, length: usize, summary: &SnapshotSummary) {
        // What a listing says of its size is not relied on: a server says what it likes.
        let content_bytes = match (&summary.status, &summary.manifest) {
            (Status::Committed, Some(manifest)) => content_bytes(manifest),
            (Status::Deleted, _) => Some(0),
            _ => None,
        };
        let takes_bytes =
            content_bytes.map(|content| content + RECORD_BYTES + 2 * meta.key.len() as u64);
        let mut known = self.lock();
        if let Some(old) = known.remove(&meta.key) {
            self.room.give_back(old.takes_bytes);
        }
        if let Some(takes_bytes) = takes_bytes.filter(|bytes| self.room.take(*bytes)) {
            let new = Known {
                size_bytes: meta.size_bytes,
                modified_at_s: meta.modified_at_s,
                takes_bytes,
                length,
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

/// What the texts of a manifest take, in bytes, with room to spare; `None` if that cannot be said.
fn content_bytes(manifest: &Manifest) -> Option<u64> {
    let mut written = Written(0);
    serde_json::to_writer(&mut written, manifest).ok()?;
    let entries = manifest.metadata.len() + manifest.requires.len();
    Some(2 * written.0 + ENTRY_BYTES * entries as u64)
}

/// Counts what is written, and forgets it.
struct Written(u64);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        let room = Arc::new(RecordRoom(AtomicU64::new(10 * 1100)));
        let caches = [(); 2].map(|()| RecordCache::sharing(room.clone()));
        let all: Vec<_> = (0..20).map(record).collect();
        for (meta, summary) in &all {
            caches[usize::from(meta.key.contains("01"))].put(meta, 7, summary);
            // Again is no more.
            caches[usize::from(meta.key.contains("01"))].put(meta, 7, summary);
        }
        let count = |cache: &RecordCache| {
            let known = all.iter().filter(|(meta, _)| cache.get(meta).is_some());
            known.count()
        };
        let [first, second] = &caches;
        assert!((5..=10).contains(&(count(first) + count(second))));
        assert!(room.left_bytes() < 1100);
        let listed: Vec<ObjectMeta> = all[..2].iter().map(|(meta, _)| meta.clone()).collect();
        caches.iter().for_each(|cache| cache.keep_only(&listed));
        assert_eq!(count(first) + count(second), 2);
        drop(caches);
        assert_eq!(room.left_bytes(), 10 * 1100);
    }

    /// A committed snapshot with about a kilobyte of metadata, as JSON writes it.
    fn committed(number: u64) -> SnapshotSummary {
        let time = "2026-01-02T03:04:05Z";
        let manifest = serde_json::json!({
            "snapshot_id": format!("s{number:08}"), "volume_id": "v", "volume_name": "v", "size_bytes": 0,
            "chunk_size_bytes": 65536, "base": null, "reason": "full", "run": "07".repeat(16),
            "cut_at": time, "started_at": time, "committed_at": time, "map": null, "pack_list": null,
            "data_bytes": 0, "stored_bytes": 0, "chunks": {"total": 0, "mapped": 0, "stored": 0},
            "metadata": {"note": "x".repeat(1000)}, "tool": "t", "requires": [],
        });
        let (_, summary) = record(number);
        SnapshotSummary {
            status: Status::Committed,
            manifest: Some(serde_json::from_value(manifest).unwrap()),
            ..summary
        }
    }

    #[test]
    fn what_a_listing_says_of_sizes_does_not_count() {
        for size_bytes in [0, u64::MAX / 2 + 1, u64::MAX] {
            let room = Arc::new(RecordRoom(AtomicU64::new(64 << 10)));
            let cache = RecordCache::sharing(room.clone());
            let kept = (0..100).filter(|number| {
                let (mut meta, _) = record(*number);
                meta.size_bytes = size_bytes;
                cache.put(&meta, 7, &committed(*number));
                cache.get(&meta).is_some()
            });
            // Each takes at least its text, and no more than a few times that.
            let kept = kept.count();
            assert!((10..=40).contains(&kept), "{kept} of {size_bytes} bytes");
            assert!(room.left_bytes() < 8 << 10);
            drop(cache);
            assert_eq!(room.left_bytes(), 64 << 10);
        }
    }
}
