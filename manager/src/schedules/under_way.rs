//! What this process is doing for schedules at the moment: nothing is begun twice, and nothing stays taken.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Things that are taken, each by one task.
#[derive(Debug)]
pub(super) struct UnderWay<K, V>(Arc<Mutex<BTreeMap<K, V>>>);

/// One that was taken. Dropping this leaves it, also when its task panics.
#[derive(Debug)]
pub(super) struct Turn<K: Ord, V> {
    all: UnderWay<K, V>,
    key: K,
}

impl<K, V> Default for UnderWay<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> UnderWay<K, V> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone, V: Clone> UnderWay<K, V> {
    /// `None` when it is taken already.
    pub(super) fn take(&self, key: K, value: V) -> Option<Turn<K, V>> {
        let mut all = self.lock();
        if all.contains_key(&key) {
            return None;
        }
        all.insert(key.clone(), value);
        Some(Turn {
            all: Self(self.0.clone()),
            key,
        })
    }

    /// All that are taken now.
    pub(super) fn all(&self) -> BTreeMap<K, V> {
        self.lock().clone()
    }
}

impl<K: Ord, V> Drop for Turn<K, V> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_left_also_by_a_panic() {
        let all = UnderWay::<i64, ()>::default();
        let turn = all.take(1, ()).unwrap();
        assert!(all.take(1, ()).is_none());
        let task = tokio::spawn(async move {
            let _turn = turn;
            panic!("as a bug would");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(all.all().is_empty());
        assert!(all.take(1, ()).is_some());
    }
}
