//! Devices that another host exports over iSCSI, attached by open-iscsi.
//!
//! Everything that is made here is bound to an interface record of its own, named `stockpot`: so sessions and node
//! records of ours can be told from everybody else's without anything being written down, also after a crash. There
//! is no discovery: a connection says where its target is.
//!
//! Attaching: node record with its secrets (a file with mode 0600, never an argument) → login at each portal → the one
//! logical unit is scanned → its serial number and size are checked → only then is the device handed out.
//! Detaching: flushed → multipath map removed → SCSI devices removed → logout of exactly these sessions → records removed.
//!
//! | module | what it is |
//! | --- | --- |
//! | `attach`, `detach` | the two directions |
//! | `recover` | what a crash left |
//! | `foreign` | whether a target's disks are taken for others |
//! | `iscsiadm` | every command of open-iscsi's |
//! | `record` | a node record's settings and secrets |
//! | `sysfs` | what the kernel knows of sessions and their devices |
//! | `multipath` | one device out of several paths |
//! | `ready` | whether this host can do it at all, and what is missing |

mod attach;
mod detach;
mod foreign;
mod iscsiadm;
mod multipath;
mod ready;
mod record;
mod recover;
mod sysfs;

use std::{
    collections::HashMap,
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stockpot_driver::IscsiConnection;
use tokio::sync::{Mutex as Turns, OwnedMutexGuard};

use crate::{AttachedDevice, ConnectorError, Recovered, error::ended};

/// The interface record that everything of ours is bound to.
const INTERFACE: &str = "stockpot";

/// How long another call about the same target may take.
const TURN_PATIENCE: Duration = Duration::from_secs(600);

/// How a host attaches over iSCSI.
#[derive(Debug, Clone)]
pub struct IscsiConfig {
    /// Where the initiator's name is kept.
    pub initiator_file: PathBuf,
    /// open-iscsi's node databases: the first that exists is used.
    pub node_databases: Vec<PathBuf>,
    /// How long a login may take at one portal, in two tries of half of it.
    ///
    /// A try should outlast 15 s: so long the kernel's target (`TA_LOGIN_TIMEOUT`) listens to an initiator that has connected and says
    /// nothing, such as one that crashed, and takes no other login at that portal meanwhile.
    pub login_timeout: Duration,
    /// How long a device may take to appear after the login, and to go at the end.
    pub device_timeout: Duration,
    /// How long what was written may take to reach the device when it is detached.
    pub flush_timeout: Duration,
    /// How long reads and writes wait for a lost target before they fail.
    pub replacement_timeout: Duration,
}

impl Default for IscsiConfig {
    fn default() -> Self {
        Self {
            initiator_file: "/etc/iscsi/initiatorname.iscsi".into(),
            node_databases: vec!["/etc/iscsi/nodes".into(), "/var/lib/iscsi/nodes".into()],
            login_timeout: Duration::from_secs(40),
            device_timeout: Duration::from_secs(15),
            flush_timeout: Duration::from_secs(60),
            replacement_timeout: Duration::from_secs(120),
        }
    }
}

/// Attaches [`IscsiConnection`]s.
#[derive(Debug, Clone, Default)]
pub struct IscsiConnector {
    config: Arc<IscsiConfig>,
    turns: Arc<Mutex<HashMap<String, Arc<Turns<()>>>>>,
}

impl IscsiConnector {
    /// A connector with this configuration.
    #[must_use]
    pub fn new(config: IscsiConfig) -> Self {
        Self {
            config: Arc::new(config),
            turns: Arc::default(),
        }
    }

    /// Whether this host makes one device out of several paths.
    pub async fn has_multipath(&self) -> bool {
        multipath::is_running().await
    }

    /// Attaches a connection, or makes sure of it and of its size.
    ///
    /// # Errors
    /// `Host`, `Refused`, `Unreachable`, `Missing`, `WrongSerial`, and as [`Connector::connect`](crate::Connector::connect).
    pub async fn connect(
        &self,
        connection: &IscsiConnection,
    ) -> Result<AttachedDevice, ConnectorError> {
        let connection = connection.clone();
        self.turn(&connection.target_iqn.clone(), |config| async move {
            attach::connect(&config, &connection, attach::Again::Afresh).await
        })
        .await
    }

    /// The same for one that may be in use: a device that was made read-only since stays so.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn confirm(
        &self,
        connection: &IscsiConnection,
    ) -> Result<AttachedDevice, ConnectorError> {
        let connection = connection.clone();
        self.turn(&connection.target_iqn.clone(), |config| async move {
            attach::connect(&config, &connection, attach::Again::Confirmed).await
        })
        .await
    }

    /// Detaches a connection: nothing of it is left on this host. One that is not attached is success.
    ///
    /// # Errors
    /// `InUse` if the device is mounted or held, in which case nothing was done; `Stuck`.
    pub async fn disconnect(&self, connection: &IscsiConnection) -> Result<(), ConnectorError> {
        connection.check().map_err(ConnectorError::Odd)?;
        let target = connection.target_iqn.clone();
        self.turn(&target.clone(), |config| async move {
            detach::disconnect(&config, &target).await
        })
        .await
    }

    /// The targets that this host is logged in to for us.
    pub(crate) fn sessions(&self) -> Result<Vec<String>, ConnectorError> {
        let mut targets: Vec<String> = sysfs::sessions()?.into_iter().map(|s| s.target).collect();
        targets.sort();
        targets.dedup();
        Ok(targets)
    }

    /// Keeps the wanted connections that have a session; removes all other sessions and records of ours.
    pub(crate) async fn recover(
        &self,
        wanted: &[IscsiConnection],
    ) -> Result<(Vec<IscsiConnection>, Recovered), ConnectorError> {
        recover::recover(&self.config, wanted).await
    }

    /// One call per target at a time, and each to its end, even if its caller goes away.
    async fn turn<T, F>(
        &self,
        target: &str,
        work: impl FnOnce(Arc<IscsiConfig>) -> F,
    ) -> Result<T, ConnectorError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ConnectorError>> + Send + 'static,
    {
        let turn = self.turn_of(target).lock_owned();
        let turn = tokio::time::timeout(TURN_PATIENCE, turn).await;
        let turn = turn.map_err(|_| ConnectorError::Stuck {
            doing: "waiting for another call about",
            path: PathBuf::from(target),
            waited_seconds: TURN_PATIENCE.as_secs(),
        })?;
        let work = work(self.config.clone());
        let task = tokio::spawn(async move {
            let _turn: OwnedMutexGuard<()> = turn;
            work.await
        });
        task.await.unwrap_or_else(ended)
    }

    fn turn_of(&self, target: &str) -> Arc<Turns<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for are dropped, so that the map does not grow for ever.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(target.to_owned()).or_default().clone()
    }
}

/// Runs something that blocks, for so long at most; it goes on behind if it takes longer.
async fn blocking<T: Send + 'static>(
    limit: Duration,
    doing: &'static str,
    path: &std::path::Path,
    work: impl FnOnce() -> Result<T, ConnectorError> + Send + 'static,
) -> Result<T, ConnectorError> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => ended(error),
        Err(_) => Err(ConnectorError::Stuck {
            doing,
            path: path.to_owned(),
            waited_seconds: limit.as_secs(),
        }),
    }
}
