//! Pools that run full while their volumes are written to: looked at every few seconds, and before anything new is made.
//!
//! When less is left than the floor that was set, local snapshots that are kept only as bases are given back, oldest
//! first; then the pool is made larger, if there is room for that. Where writes wait already it is the other way round. What
//! then is still low is an ERROR for somebody to look at, and the driver refuses new volumes and snapshots from its own
//! limits on.

use std::{future::Future, sync::Arc, time::Duration};

use stockpot_driver::{DriverError, Headroom, VolumeDriver};

use crate::{
    Manager, ManagerError,
    error::chain,
    pools::{LOOK_AGAIN, LOOK_SOON},
};

/// How often one pool is made larger in one go; more is left to the next look.
const STEPS_MAX: u32 = 4;
/// How long giving one base back may take: the kernel fails what has waited for a minute, and the pool may have to grow, too.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(15);

impl Manager {
    /// Looks after the pools until the manager stops, each for itself: one whose storage does not answer keeps no other one
    /// from being looked after in time.
    pub(crate) fn start_guard(self: &Arc<Self>) {
        for pool in self.pools.keys() {
            let (manager, pool) = (self.clone(), pool.clone());
            self.tasks
                .spawn(async move { manager.look_after(&pool).await });
        }
    }

    async fn look_after(&self, pool: &str) {
        let every = Duration::from_secs(self.config.pool_guard_seconds);
        let mut was_said = false;
        let mut pause = LOOK_SOON;
        loop {
            if !self.is_usable_again(pool).await {
                tokio::select! {
                    () = self.stopping.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (2 * pause).min(LOOK_AGAIN);
                continue;
            }
            match self.make_room_in(pool).await {
                Ok(None) if was_said => {
                    was_said = false;
                    tracing::info!(pool, "the pool has room again");
                }
                Ok(None) => {}
                // Figures change at each look; what matters is said once.
                Ok(Some(text)) if was_said => {
                    tracing::warn!(pool, "still nearly full: {text}");
                }
                Ok(Some(text)) => {
                    was_said = true;
                    tracing::error!(
                        pool,
                        "the pool is nearly full, and no room can be made: {text}"
                    );
                }
                // Its storage node looks after it as well.
                Err(error) if error.is_passing() => {
                    tracing::warn!(
                        pool,
                        error = chain(&error),
                        "the pool cannot be looked after now"
                    );
                }
                Err(error) => {
                    tracing::error!(
                        pool,
                        error = chain(&error),
                        "the pool cannot be looked after"
                    );
                }
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Makes room before something new is made. What fails here is not in the way: the driver judges by itself.
    pub(crate) async fn make_room(&self, pool: &str) {
        if let Err(error) = self.make_room_in(pool).await {
            tracing::warn!(pool, error = chain(&error), "no room could be made");
        }
    }

    /// Makes something that may find no room: then what is kept only as a base is given back, oldest first, and it is tried
    /// again.
    pub(crate) async fn with_room<T, F>(
        &self,
        pool: &str,
        make: impl Fn() -> F,
    ) -> Result<T, DriverError>
    where
        F: Future<Output = Result<T, DriverError>>,
    {
        let mut made = make().await;
        if !matches!(made, Err(DriverError::ResourceExhausted(_))) {
            return made;
        }
        let (Ok(driver), Ok(bases)) = (self.driver(pool), self.kept_bases(pool).await) else {
            return made;
        };
        for base in bases {
            let before = driver.capacity().await?.maximum_volume_bytes;
            self.give_back_base(&base, "there is no room for something new")
                .await;
            // Where it takes no room that volumes could have, nothing is won by more of that.
            if driver.capacity().await?.maximum_volume_bytes <= before {
                break;
            }
            made = make().await;
            if !matches!(made, Err(DriverError::ResourceExhausted(_))) {
                break;
            }
        }
        made
    }

    /// Makes room in a pool that is low; `Some` with the figures if it stays low.
    async fn make_room_in(&self, pool: &str) -> Result<Option<String>, ManagerError> {
        let driver = self.driver(pool)?;
        let Some(room) = low(driver).await? else {
            return Ok(None);
        };
        tracing::warn!(pool, "{}", room.text);
        // One command makes a pool larger; what is given back takes a while each.
        let mut grown = Ok(());
        if room.is_urgent() {
            grown = grow(driver, pool).await;
            if low(driver).await?.is_none() {
                return Ok(None);
            }
        }
        for base in self.kept_bases(pool).await? {
            let giving = self.give_back_base(&base, "the pool is nearly full");
            if tokio::time::timeout(GIVE_BACK_WITHIN, giving)
                .await
                .is_err()
            {
                tracing::warn!(pool, snapshot_id = %base, "giving a base back takes too long: it is asked for again at the next look");
            }
            if low(driver).await?.is_none() {
                return Ok(None);
            }
        }
        // One that could not grow before might now, and what is wrong with it is said either way.
        if !room.is_urgent() || grown.is_err() {
            grow(driver, pool).await?;
        }
        Ok(low(driver).await?.map(|room| room.text))
    }
}

/// What is left of a pool, if that is little.
async fn low(driver: &Arc<dyn VolumeDriver>) -> Result<Option<Headroom>, DriverError> {
    Ok(driver.headroom().await?.filter(|room| room.is_low))
}

/// Makes a pool larger until it has room, or there is none for that.
async fn grow(driver: &Arc<dyn VolumeDriver>, pool: &str) -> Result<(), DriverError> {
    for _ in 0..STEPS_MAX {
        if low(driver).await?.is_none() {
            break;
        }
        let Some(done) = driver.grow_pool().await? else {
            break;
        };
        tracing::warn!(pool, "{done}");
    }
    Ok(())
}
