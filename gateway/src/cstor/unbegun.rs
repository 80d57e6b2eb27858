//! Backups that had no healthy volume to begin with: nothing of them stands at the manager, and whoever asks for them is to be told that
//! they have failed, also when the volume is whole again meanwhile.
//!
//! The last ones are remembered, and only as long as this process lives. One that is forgotten is `Invalid` where its volume is whole,
//! which is no success, either.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::records::Key;

/// How many are remembered; each has three names.
const KEPT: usize = 1000;

/// Namespace, volume, backup.
type Names = (String, String, String);

/// Those that are remembered, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unbegun(Arc<Mutex<VecDeque<Names>>>);

impl Unbegun {
    pub(super) fn note(&self, key: Key<'_>) {
        self.forget(key);
        let mut all = self.lock();
        if all.len() == KEPT {
            all.pop_front();
        }
        all.push_back(names(key));
    }

    pub(super) fn has(&self, key: Key<'_>) -> bool {
        self.lock().contains(&names(key))
    }

    pub(super) fn forget(&self, key: Key<'_>) {
        let gone = names(key);
        self.lock().retain(|names| *names != gone);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Names>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(key: Key<'_>) -> Names {
    (
        key.namespace.to_owned(),
        key.volume.to_owned(),
        key.snapshot.to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered() {
        let unbegun = Unbegun::default();
        let numbers: Vec<String> = (0..=KEPT).map(|number| number.to_string()).collect();
        let key = |number: usize| Key {
            namespace: "shop",
            volume: "pvc-1",
            snapshot: &numbers[number],
        };
        for number in 0..=KEPT {
            unbegun.note(key(number));
            unbegun.note(key(number));
        }
        assert!(!unbegun.has(key(0)));
        assert!(unbegun.has(key(1)) && unbegun.has(key(KEPT)));
        unbegun.forget(key(1));
        assert!(!unbegun.has(key(1)) && unbegun.has(key(2)));
    }
}
