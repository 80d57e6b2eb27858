//! What listings have read. A record is replaced as a whole or stays, so one that a listing shows with the size and time of before is
//! not read again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{SnapshotSummary, Status};
use crate::store::ObjectMeta;

/// Records that are kept at most; their manifests have a few KiB each.
const RECORDS_MAX: usize = 8192;

/// The records of one repository, as they were read.
#[derive(Debug, Default)]
pub struct RecordCache(Mutex<HashMap<String, Known>>);

#[derive(Debug)]
struct Known {
    size_bytes: u64,
    modified_at_s: i64,
    summary: SnapshotSummary,
}

impl RecordCache {
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
        let is_certain = match summary.status {
            Status::Committed => summary.manifest.is_some(),
            Status::Deleted => true,
            Status::Uploading | Status::Unreadable(_) => false,
        };
        let mut known = self.lock();
        if is_certain && (known.len() < RECORDS_MAX || known.contains_key(&meta.key)) {
            let new = Known {
                size_bytes: meta.size_bytes,
                modified_at_s: meta.modified_at_s,
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
            known.retain(|key, _| listed.contains(key.as_str()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
