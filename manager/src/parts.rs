//! What a manager works with, as its configuration names it.

use std::{collections::BTreeMap, sync::Arc};

use stockpot_connector::{Connector, HostConfig, HostConnector};
use stockpot_driver::{
    VolumeDriver,
    file::{FileConfig, FileDriver},
    lvm::{LvmThickConfig, LvmThickDriver, LvmThinConfig, LvmThinDriver},
    remote::RemoteDriver,
};
use stockpot_repository::store::Bandwidth;

use crate::{
    ManagerError,
    cloud::{S3Stores, Stores},
    config::{Config, PoolConfig},
};

/// The sides that a manager works with: storage, this host, buckets.
#[derive(Debug)]
pub struct Parts {
    /// Drivers by the name of their pool.
    pub pools: BTreeMap<String, Arc<dyn VolumeDriver>>,
    /// This host.
    pub connector: Arc<dyn Connector>,
    /// How buckets are reached.
    pub stores: Arc<dyn Stores>,
}

impl Parts {
    /// The parts that a configuration names.
    ///
    /// # Errors
    /// If a pool's settings cannot work. Nothing is touched yet.
    pub fn new(config: &Config) -> Result<Self, ManagerError> {
        Self::within(config, Bandwidth::unlimited())
    }

    /// The same, with a hand on the limits of what goes over the network: they are set as the configuration says, and a
    /// clone of `bandwidth` changes them while transfers run.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn within(config: &Config, bandwidth: Bandwidth) -> Result<Self, ManagerError> {
        config.transfers.limit(&bandwidth);
        let mut pools: BTreeMap<String, Arc<dyn VolumeDriver>> = BTreeMap::new();
        for pool in &config.pools {
            let driver = match config.remote(pool)? {
                Some(remote) => Arc::new(RemoteDriver::new(remote)),
                None => own_driver(pool)?,
            };
            pools.insert(pool.name().to_owned(), driver);
        }
        let host = HostConfig {
            host: Some(config.host.name.clone().unwrap_or(config.node_name.clone())),
            ip: config.host.ip.clone(),
            ..HostConfig::default()
        };
        Ok(Self {
            pools,
            connector: Arc::new(HostConnector::new(host)),
            stores: Arc::new(S3Stores { bandwidth }),
        })
    }
}

/// The driver of a pool of this host's own; nothing is touched yet.
pub(crate) fn own_driver(pool: &PoolConfig) -> Result<Arc<dyn VolumeDriver>, ManagerError> {
    Ok(match pool {
        PoolConfig::LvmThin {
            volume_group,
            thin_pool,
            pool_size_bytes,
            limits,
            ..
        } => {
            let mut thin = LvmThinConfig::new(volume_group, thin_pool);
            thin.pool_size_bytes = *pool_size_bytes;
            thin.overcommit_factor = limits.over_provisioning_ratio;
            thin.data_limit_percent = limits.data_percent;
            thin.metadata_limit_percent = limits.metadata_percent;
            thin.make_room_percent = limits.make_room_percent;
            thin.grow_percent = limits.grow_percent;
            Arc::new(LvmThinDriver::new(thin)?)
        }
        PoolConfig::LvmThick {
            volume_group,
            snapshot_percent,
            snapshot_least_bytes,
            extend_at_percent,
            ..
        } => {
            let usual = LvmThickConfig::new(volume_group);
            Arc::new(LvmThickDriver::new(LvmThickConfig {
                snapshot_percent: snapshot_percent.unwrap_or(usual.snapshot_percent),
                snapshot_least_bytes: snapshot_least_bytes.unwrap_or(usual.snapshot_least_bytes),
                extend_at_percent: extend_at_percent.unwrap_or(usual.extend_at_percent),
                ..usual
            })?)
        }
        PoolConfig::File {
            directory,
            allow_copy,
            ..
        } => {
            let mut file = FileConfig::new(directory);
            file.allow_copy = *allow_copy;
            Arc::new(FileDriver::new(file))
        }
        PoolConfig::Remote { name, .. } => {
            return Err(ManagerError::Internal(format!(
                "pool {name} is another node's"
            )));
        }
    })
}
