//! One operation at a time for each volume, snapshot and name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::ManagerError;

/// How long an operation waits for the one before it. Longer than storage takes for one step, well within what callers
/// wait for an answer.
const WAIT: Duration = Duration::from_secs(8);

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A volume, by id.
    Volume(String),
    /// A snapshot, by id.
    Snapshot(String),
    /// The name of a volume that is being made.
    VolumeName(String),
    /// The name of a snapshot that is being made.
    SnapshotName(String),
    /// A backup, by id.
    Backup(String),
    /// The name of a backup that is being made.
    BackupName(String),
}

impl Subject {
    fn words(&self) -> String {
        match self {
            Self::Volume(id) => format!("volume {id}"),
            Self::Snapshot(id) => format!("snapshot {id}"),
            Self::VolumeName(name) => format!("the volume named {name:?}"),
            Self::SnapshotName(name) => format!("the snapshot named {name:?}"),
            Self::Backup(id) => format!("backup {id}"),
            Self::BackupName(name) => format!("the backup named {name:?}"),
        }
    }
}

/// Held while an operation runs.
#[derive(Debug)]
pub(crate) struct Held {
    _guard: OwnedMutexGuard<()>,
}

/// The locks in use. A lock nobody holds or waits for takes no memory for long.
#[derive(Debug)]
pub(crate) struct Locks {
    wait: Duration,
    locks: Mutex<HashMap<Subject, Weak<AsyncMutex<()>>>>,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            wait: WAIT,
            locks: Mutex::default(),
        }
    }
}

impl Locks {
    /// Waits for its turn, not for ever.
    ///
    /// # Errors
    /// `Busy` when another operation takes longer.
    pub(crate) async fn hold(&self, subject: Subject) -> Result<Held, ManagerError> {
        let lock = self.lock_of(&subject);
        match tokio::time::timeout(self.wait, lock.lock_owned()).await {
            Ok(guard) => Ok(Held { _guard: guard }),
            Err(_) => Err(ManagerError::Busy(format!(
                "another operation on {} is under way: ask again",
                subject.words()
            ))),
        }
    }

    fn lock_of(&self, subject: &Subject) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(subject).and_then(Weak::upgrade) {
            return lock;
        }
        // New ones are rare enough to sweep at each.
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(subject.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_and_then_gives_up() {
        let locks = Locks {
            wait: Duration::from_millis(20),
            ..Locks::default()
        };
        let subject = Subject::Volume("vol-1".to_owned());
        let held = locks.hold(subject.clone()).await.unwrap();
        let refused = locks.hold(subject.clone()).await.unwrap_err();
        assert!(refused.to_string().contains("vol-1"), "{refused}");
        let other = Subject::Snapshot("vol-1".to_owned());
        locks.hold(other).await.unwrap();
        drop(held);
        drop(locks.hold(subject).await.unwrap());
        locks
            .hold(Subject::Volume("vol-2".to_owned()))
            .await
            .unwrap();
        assert_eq!(locks.locks.lock().unwrap().len(), 1);
    }
}
