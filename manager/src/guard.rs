//! Pools that run full while their volumes are written to: looked at every few seconds, and before anything new is made.
//!
//! When less is left than the floor that was set, local snapshots that are kept only as bases are given back, oldest
//! first; then the pool is made larger, if there is room for that. What then is still low is an ERROR for somebody
//! to look at, and the driver refuses new volumes and snapshots from its own limits on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{Manager, ManagerError, error::chain};

/// How often one pool is made larger in one go; more is left to the next look.
const STEPS_MAX: u32 = 4;

impl Manager {
    /// Looks after the pools until the manager stops.
    pub(crate) fn start_guard(self: &Arc<Self>) {
        let manager = self.clone();
        self.tasks.spawn(async move {
            let every = Duration::from_secs(manager.config.pool_guard_seconds);
            let mut said: BTreeMap<String, String> = BTreeMap::new();
            loop {
                for pool in manager.pools.keys() {
                    match manager.make_room_in(pool).await {
                        Ok(None) => {
                            if said.remove(pool).is_some() {
                                tracing::info!(pool, "the pool has room again");
                            }
                        }
                        // Figures change at each look; what matters is said once.
                        Ok(Some(text)) if said.contains_key(pool) => {
                            tracing::warn!(pool, "still nearly full: {text}");
                        }
                        Ok(Some(text)) => {
                            tracing::error!(
                                pool,
                                "the pool is nearly full, and no room can be made: {text}"
                            );
                            said.insert(pool.clone(), text);
                        }
                        Err(error) => {
                            tracing::error!(
                                pool,
                                error = chain(&error),
                                "the pool cannot be looked after"
                            );
                        }
                    }
                }
                tokio::select! {
                    () = manager.stopping.cancelled() => return,
                    () = tokio::time::sleep(every) => {}
                }
            }
        });
    }

    /// Makes room before something new is made. What fails here is not in the way: the driver judges by itself.
    pub(crate) async fn make_room(&self, pool: &str) {
        if let Err(error) = self.make_room_in(pool).await {
            tracing::warn!(pool, error = chain(&error), "no room could be made");
        }
    }

    /// Makes room in a pool that is low; `Some` with the figures if it stays low.
    async fn make_room_in(&self, pool: &str) -> Result<Option<String>, ManagerError> {
        let driver = self.driver(pool)?;
        let low = async || -> Result<Option<String>, ManagerError> {
            let headroom = driver.headroom().await?;
            Ok(headroom.filter(|room| room.is_low).map(|room| room.text))
        };
        let Some(mut text) = low().await? else {
            return Ok(None);
        };
        tracing::warn!(pool, "{text}");
        for base in self.kept_bases(pool).await? {
            self.give_back_base(&base, "the pool is nearly full").await;
            match low().await? {
                None => return Ok(None),
                Some(still) => text = still,
            }
        }
        for _ in 0..STEPS_MAX {
            let Some(done) = driver.grow_pool().await? else {
                break;
            };
            tracing::warn!(pool, "{done}");
            match low().await? {
                None => return Ok(None),
                Some(still) => text = still,
            }
        }
        Ok(Some(text))
    }
}
