//! The manager as a whole: its parts, how it starts, and how it stops.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stockpot_connector::{Connector, HostConfig, HostConnector};
use stockpot_driver::{
    VolumeDriver,
    file::{FileConfig, FileDriver},
    lvm::{LvmThickConfig, LvmThickDriver, LvmThinConfig, LvmThinDriver},
};
use stockpot_repository::store::Bandwidth;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ManagerError,
    catalog::{Catalog, CopyState},
    cloud::{Clouds, S3Stores, Stores},
    config::{Config, PoolConfig},
    ids::NodeShortId,
    locks::Locks,
    profile::Profiles,
    recovery,
    transfers::Transfers,
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
            let driver: Arc<dyn VolumeDriver> = match pool {
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
                        snapshot_least_bytes: snapshot_least_bytes
                            .unwrap_or(usual.snapshot_least_bytes),
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

/// Whether operations are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// What a crash may have left is being put in order.
    Recovering,
    /// All is well.
    Ready,
    /// Recovery failed; the text says why.
    Failed(String),
}

/// The brain. Shared by all calls and all work behind them.
#[derive(Debug)]
pub struct Manager {
    pub(crate) config: Config,
    pub(crate) node: NodeShortId,
    pub(crate) pools: BTreeMap<String, Arc<dyn VolumeDriver>>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) catalog: Catalog,
    pub(crate) clouds: Clouds,
    pub(crate) locks: Locks,
    pub(crate) transfers: Arc<Transfers>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the manager stops.
    pub(crate) stopping: CancellationToken,
    /// Raised whenever a volume or snapshot may have changed its status.
    changed: watch::Sender<()>,
    readiness: Mutex<Readiness>,
}

impl Manager {
    /// Opens the catalog and checks the storage. Nothing is recovered yet, and no operation is taken.
    ///
    /// # Errors
    /// `Config`, `Catalog`, or the driver's check of its host.
    pub async fn open(config: Config, parts: Parts) -> Result<Arc<Self>, ManagerError> {
        config.check()?;
        let catalog = Catalog::open(&config.state_dir)?;
        let in_use = pools_in_use(&catalog).await?;
        for (name, driver) in &parts.pools {
            match in_use.contains(name) {
                true => driver.check_in_use().await?,
                false => driver.check().await?,
            }
            tracing::info!(pool = name, driver = driver.name(), "the pool is usable");
        }
        let profiles = Arc::new(Profiles::new(&config.profiles_dir, &config.credentials_dir));
        let tasks = TaskTracker::new();
        Ok(Arc::new(Self {
            node: NodeShortId::of(&config.node_name),
            pools: parts.pools,
            connector: parts.connector,
            clouds: Clouds::new(profiles, parts.stores, catalog.clone(), tasks.clone()),
            catalog,
            locks: Locks::default(),
            transfers: Transfers::new(&config.transfers),
            tasks,
            stopping: CancellationToken::new(),
            changed: watch::Sender::new(()),
            readiness: Mutex::new(Readiness::Recovering),
            config,
        }))
    }

    /// Puts in order what an earlier run left, then takes operations.
    ///
    /// # Errors
    /// If the catalog or the host cannot be asked. A single volume or snapshot that resists is logged instead.
    pub async fn recover(self: &Arc<Self>) -> Result<(), ManagerError> {
        // Volumes may be written to already.
        self.start_guard();
        let recovered = recovery::run(self).await;
        let readiness = match &recovered {
            Ok(()) => Readiness::Ready,
            Err(error) => Readiness::Failed(crate::error::chain(error)),
        };
        *self
            .readiness
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = readiness;
        recovered
    }

    /// Stops all work: transfers are cancelled cleanly and go on at the next start.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        let grace = Duration::from_secs(self.config.shutdown_grace_seconds);
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                grace_seconds = grace.as_secs(),
                "work was still under way at the end of the grace period; the next start puts it in order"
            );
        }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let readiness = self.readiness.lock();
        readiness.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses operations before recovery has ended and after the stop has begun.
    pub(crate) fn check_ready(&self) -> Result<(), ManagerError> {
        if self.stopping.is_cancelled() {
            return Err(ManagerError::NotReady("the manager is stopping".to_owned()));
        }
        match self.readiness() {
            Readiness::Ready => Ok(()),
            Readiness::Recovering => Err(ManagerError::NotReady(
                "the manager is putting in order what its last run left: ask again".to_owned(),
            )),
            Readiness::Failed(why) => Err(ManagerError::NotReady(why)),
        }
    }

    /// Runs an operation to its end even if the caller goes away meanwhile.
    ///
    /// # Errors
    /// The operation's, or `Internal` if it panicked.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl Future<Output = Result<T, ManagerError>> + Send + 'static,
    ) -> Result<T, ManagerError> {
        use tracing::Instrument;
        let task = self.tasks.spawn(operation.in_current_span());
        match task.await {
            Ok(result) => result,
            Err(error) => Err(ManagerError::Internal(error.to_string())),
        }
    }

    /// The driver of a pool that a row names.
    pub(crate) fn driver(&self, pool: &str) -> Result<&Arc<dyn VolumeDriver>, ManagerError> {
        self.pools.get(pool).ok_or_else(|| {
            ManagerError::FailedPrecondition(format!("pool {pool} is not configured any more"))
        })
    }

    /// The pool that a request names; empty for the default one.
    pub(crate) fn pool_of<'a>(&'a self, name: &'a str) -> Result<&'a str, ManagerError> {
        let name = if name.is_empty() {
            self.config.default_pool()
        } else {
            name
        };
        if self.pools.contains_key(name) {
            return Ok(name);
        }
        let known: Vec<&str> = self.pools.keys().map(String::as_str).collect();
        Err(ManagerError::InvalidArgument(format!(
            "there is no pool {name:?}; there is {}",
            known.join(", ")
        )))
    }

    pub(crate) fn notify(&self) {
        self.changed.send_replace(());
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// The pools in which something is on record.
async fn pools_in_use(catalog: &Catalog) -> Result<BTreeSet<String>, ManagerError> {
    let volumes = catalog.volumes().await?.into_iter().map(|row| row.pool);
    let snapshots = catalog.snapshots().await?.into_iter();
    // The row of a snapshot may outlive its local copy.
    let snapshots = snapshots.filter(|row| row.local == CopyState::Present);
    Ok(volumes.chain(snapshots.map(|row| row.pool)).collect())
}

/// Now, in microseconds since the Unix epoch.
pub(crate) fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
