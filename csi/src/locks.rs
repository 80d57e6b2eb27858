//! One operation at a time per volume on a node.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The volumes that something is being done with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Locks(Arc<Mutex<HashSet<String>>>);

impl Locks {
    /// Takes the volume; `None` if it is taken.
    pub(crate) fn take(&self, volume_id: &str) -> Option<Taken> {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set.insert(volume_id.to_owned()).then(|| Taken {
            locks: self.clone(),
            volume_id: volume_id.to_owned(),
        })
    }
}

/// Gives the volume back when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    locks: Locks,
    volume_id: String,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut set = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        set.remove(&self.volume_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let locks = Locks::default();
        let taken = locks.take("a");
        assert!(taken.is_some());
        assert!(locks.take("a").is_none());
        assert!(locks.take("b").is_some());
        drop(taken);
        assert!(locks.take("a").is_some());
    }
}
