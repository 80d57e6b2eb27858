//! What listings of the repositories have read, within one bound for all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stockpot_repository::{
    Repository,
    snapshots::{RecordCache, RecordRoom},
};

/// The records by place, each with the repository that they are of: a place may be made anew.
type ByPlace = HashMap<String, (String, Arc<RecordCache>)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Records {
    known: Mutex<ByPlace>,
    room: Arc<RecordRoom>,
}

impl Records {
    /// Those of the repository at a place.
    pub(super) fn of(&self, place: &str, repository: &Repository) -> Arc<RecordCache> {
        let id = repository.id().to_string();
        let mut known = self.lock();
        match known.get(place) {
            Some((of, records)) if *of == id => records.clone(),
            _ => {
                let records = Arc::new(RecordCache::sharing(self.room.clone()));
                known.insert(place.to_owned(), (id, records.clone()));
                records
            }
        }
    }

    /// Forgets all other places.
    pub(super) fn keep_only(&self, is_named: impl Fn(&str) -> bool) {
        self.lock().retain(|place, _| is_named(place));
    }

    fn lock(&self) -> MutexGuard<'_, ByPlace> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory that is not taken, in bytes.
    #[cfg(test)]
    pub(super) fn left_bytes(&self) -> u64 {
        self.room.left_bytes()
    }
}
