//! One call at a time for each export: a host that arrives and one that leaves must not see half of each other.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::timeout,
};

use crate::{
    DriverError,
    target::{ExportName, TargetError},
};

/// How long a call waits for an earlier one: that one takes down a session, or brings up a device.
const PATIENCE: Duration = Duration::from_secs(60);

/// The turns of all exports.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<BTreeMap<ExportName, Weak<AsyncMutex<()>>>>>);

impl Turns {
    /// Waits until no other call is at work on the export.
    pub(super) async fn of(&self, name: &ExportName) -> Result<OwnedMutexGuard<()>, DriverError> {
        let turn = self.turn(name);
        timeout(PATIENCE, turn.lock_owned()).await.map_err(|_| {
            DriverError::from(TargetError::Stuck {
                doing: "waiting for an earlier call of the same export",
                waited_seconds: PATIENCE.as_secs(),
            })
        })
    }

    fn turn(&self, name: &ExportName) -> Arc<AsyncMutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        all.insert(name.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_each_export_for_itself() {
        let turns = Turns::default();
        let (one, other): (ExportName, ExportName) =
            ("v.a".parse().unwrap(), "v.b".parse().unwrap());
        let held = turns.of(&one).await.unwrap();
        turns.of(&other).await.unwrap();
        let soon = Duration::from_millis(20);
        assert!(timeout(soon, turns.of(&one)).await.is_err());
        drop(held);
        turns.of(&one).await.unwrap();
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
