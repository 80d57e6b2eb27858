//! The manager as a whole: its parts, how it starts, and how it stops.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stockpot_connector::Connector;
use stockpot_driver::{DriverError, VolumeDriver};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ManagerError,
    catalog::{Catalog, CopyState},
    claims::Claims,
    cloud::Clouds,
    config::Config,
    exports::Exports,
    ids::NodeShortId,
    joined::joined,
    locks::Locks,
    parts::Parts,
    pools::{self, Unusable},
    profile::Profiles,
    recovery,
    schedules::{Clock, Schedules, SystemClock},
    transfers::Transfers,
};

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
    /// Those of them that their drivers do not want to be used as they are now.
    pub(crate) unusable: Unusable,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) catalog: Catalog,
    pub(crate) clouds: Clouds,
    /// What other hosts get from this one, if anything.
    pub(crate) exports: Option<Exports>,
    pub(crate) locks: Locks,
    /// Held while it is decided whose a target is.
    pub(crate) owners: tokio::sync::Mutex<()>,
    pub(crate) transfers: Arc<Transfers>,
    /// The time as schedules see it.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) schedules: Schedules,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the manager stops.
    pub(crate) stopping: CancellationToken,
    /// Raised whenever a volume or snapshot may have changed its status.
    changed: watch::Sender<()>,
    readiness: Mutex<Readiness>,
    /// Held as long as anything works here.
    _claims: Claims,
}

impl Manager {
    /// Opens the catalog and checks the storage. Nothing is recovered yet, and no operation is taken. A pool that cannot be used
    /// is an ERROR in the log, and the others go on.
    ///
    /// # Errors
    /// `Config`, `Catalog`, `PoolUnusable` if another process uses one, or a driver's check of its host if no pool can be used.
    pub async fn open(config: Config, parts: Parts) -> Result<Arc<Self>, ManagerError> {
        Self::open_by(config, parts, Arc::new(SystemClock)).await
    }

    /// The same, with another clock for its schedules than this host's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_by(
        config: Config,
        mut parts: Parts,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, ManagerError> {
        config.check()?;
        let catalog = Catalog::open(&config.state_dir)?;
        // Before anything is looked at that another daemon may be making.
        let claims = Claims::of(&config).await?;
        let connector = parts.connector.as_ref();
        let exports = Exports::open(&config, &mut parts.pools, &catalog, connector).await?;
        pools::tell_of_strays(&config, &catalog).await?;
        if !config.profiles_dir.is_dir() {
            tracing::warn!(
                profiles_dir = %config.profiles_dir.display(),
                "the directory of the profiles is not there: no snapshot gets a cloud copy before it is"
            );
        }
        let in_use = pools_in_use(&catalog).await?;
        let unusable = check_pools(&parts.pools, &in_use).await?;
        let profiles = Arc::new(Profiles::new(&config.profiles_dir, &config.credentials_dir));
        let tasks = TaskTracker::new();
        Ok(Arc::new(Self {
            node: NodeShortId::of(&config.node_name),
            pools: parts.pools,
            unusable,
            connector: parts.connector,
            clouds: Clouds::new(profiles, parts.stores, catalog.clone(), tasks.clone()),
            catalog,
            exports,
            locks: Locks::default(),
            owners: tokio::sync::Mutex::default(),
            transfers: Transfers::new(&config.transfers, &config.streams),
            clock,
            schedules: Schedules::default(),
            tasks,
            stopping: CancellationToken::new(),
            changed: watch::Sender::new(()),
            readiness: Mutex::new(Readiness::Recovering),
            _claims: claims,
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
        if recovered.is_ok() {
            self.start_schedules();
        }
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
        joined(task).await?
    }

    /// The driver of a pool that a row names.
    pub(crate) fn driver(&self, pool: &str) -> Result<&Arc<dyn VolumeDriver>, ManagerError> {
        let driver = self.pools.get(pool).ok_or_else(|| {
            ManagerError::FailedPrecondition(format!("pool {pool} is not configured any more"))
        })?;
        self.unusable.check(pool)?;
        Ok(driver)
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

/// Checks all pools at the same time: storage nodes that are down are waited for together. Those that cannot be used keep nobody
/// from using the others.
///
/// # Errors
/// When none can be used.
async fn check_pools(
    pools: &BTreeMap<String, Arc<dyn VolumeDriver>>,
    in_use: &BTreeSet<String>,
) -> Result<Unusable, ManagerError> {
    let mut checks = JoinSet::new();
    for (name, driver) in pools {
        let (name, driver, is_in_use) = (name.clone(), driver.clone(), in_use.contains(name));
        checks.spawn(async move {
            let checked = check_pool(&name, &driver, is_in_use).await;
            (name, is_in_use, checked)
        });
    }
    let unusable = Unusable::default();
    let mut first = None;
    while let Some(done) = checks.join_next().await {
        let (name, is_in_use, checked) =
            done.map_err(|error| ManagerError::Internal(error.to_string()))?;
        if let Err(error) = checked {
            unusable.put(&name, is_in_use, &error);
            first = first.or(Some(error));
        }
    }
    match first {
        Some(error) if unusable.count() == pools.len() => Err(error),
        _ => Ok(unusable),
    }
}

/// Checks a pool at the start. One of a storage node that is down keeps nobody from starting: its calls fail until it
/// is back.
pub(crate) async fn check_pool(
    name: &str,
    driver: &Arc<dyn VolumeDriver>,
    is_in_use: bool,
) -> Result<(), ManagerError> {
    let checked = match is_in_use {
        true => driver.check_in_use().await,
        false => driver.check().await,
    };
    match checked {
        Ok(()) => {
            tracing::info!(pool = name, driver = driver.name(), "the pool is usable");
            Ok(())
        }
        Err(DriverError::Node(error)) if error.is_passing() => {
            tracing::error!(pool = name, %error, "the pool is not usable now");
            Ok(())
        }
        Err(error) => Err(error.into()),
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
