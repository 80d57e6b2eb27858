//! Pools that cannot be used as they are: another node refuses, a volume group is away, its settings are unsafe. They keep no other
//! pool from being served. What is asked of them is refused with the reason, and they are looked at again and again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Manager, ManagerError,
    catalog::{Catalog, VolumeRow},
    config::Config,
    error::chain,
    ids::{self, NodeShortId},
    manager::check_pool,
};

/// Pause between the first looks at a pool that cannot be used: its disks may come a moment after the daemon.
pub(crate) const LOOK_SOON: Duration = Duration::from_secs(1);
/// Longest pause between looks; it doubles.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Volumes that are named at most where there are many.
const NAMED_MAX: usize = 5;

/// Which pools cannot be used, and why.
#[derive(Debug, Default)]
pub(crate) struct Unusable(Mutex<BTreeMap<String, Reason>>);

#[derive(Debug, Clone)]
struct Reason {
    why: String,
    /// Something was on record when it was checked: then its storage must not be made anew.
    is_in_use: bool,
}

impl Unusable {
    /// Notes, and says, that a pool cannot be used.
    pub(crate) fn put(&self, pool: &str, is_in_use: bool, error: &ManagerError) {
        let why = chain(error);
        tracing::error!(
            pool,
            error = why,
            "the pool cannot be used until that is mended; the other pools go on"
        );
        let reason = Reason { why, is_in_use };
        self.all().insert(pool.to_owned(), reason);
    }

    pub(crate) fn count(&self) -> usize {
        self.all().len()
    }

    pub(crate) fn has(&self, pool: &str) -> bool {
        self.all().contains_key(pool)
    }

    /// Refuses what is asked of such a pool.
    pub(crate) fn check(&self, pool: &str) -> Result<(), ManagerError> {
        match self.all().get(pool) {
            None => Ok(()),
            Some(reason) => Err(ManagerError::PoolUnusable {
                pool: pool.to_owned(),
                why: reason.why.clone(),
            }),
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Reason>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manager {
    /// Whether a pool can be used; one that could not is looked at again.
    pub(crate) async fn is_usable_again(&self, pool: &str) -> bool {
        let Some(reason) = self.unusable.all().get(pool).cloned() else {
            return true;
        };
        let Some(driver) = self.pools.get(pool) else {
            return false;
        };
        match check_pool(pool, driver, reason.is_in_use).await {
            Ok(()) => {
                self.unusable.all().remove(pool);
                tracing::info!(
                    pool,
                    "the pool can be used again, and is put in order; other nodes are served from it from the next start on"
                );
                self.notify();
                true
            }
            Err(error) => {
                let why = chain(&error);
                if why != reason.why {
                    self.unusable.put(pool, reason.is_in_use, &error);
                }
                false
            }
        }
    }
}

/// Says what is on record and belongs to a pool or a node that the configuration does not name: somebody gave it another
/// name.
pub(crate) async fn tell_of_strays(config: &Config, catalog: &Catalog) -> Result<(), ManagerError> {
    let volumes = catalog.volumes().await?;
    let mut astray: BTreeMap<&str, Vec<&VolumeRow>> = BTreeMap::new();
    for row in &volumes {
        if !config.pools.iter().any(|pool| pool.name() == row.pool) {
            astray.entry(&row.pool).or_default().push(row);
        }
    }
    for (pool, rows) in astray {
        tracing::warn!(
            pool,
            count = rows.len(),
            volumes = named(&rows),
            "there are volumes on record in a pool that the configuration does not name: nothing can be done with them until it \
             does, by that name"
        );
    }
    let node = NodeShortId::of(&config.node_name);
    let others: Vec<_> = volumes
        .iter()
        .filter(|row| !ids::is_volume_of(&row.id, &node))
        .collect();
    if !others.is_empty() {
        tracing::error!(
            node_name = config.node_name,
            count = others.len(),
            volumes = named(&others),
            "there are volumes on record that a node of another name made: nodeName was changed. Give it the name that it had; \
             storage nodes and the orchestrator know it by that"
        );
    }
    Ok(())
}

fn named(rows: &[&VolumeRow]) -> String {
    let names = rows.iter().take(NAMED_MAX).map(|row| row.id.as_str());
    let mut text = names.collect::<Vec<_>>().join(", ");
    if rows.len() > NAMED_MAX {
        text.push_str(", …");
    }
    text
}
