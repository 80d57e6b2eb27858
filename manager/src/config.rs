//! What an administrator says to the manager. Parsed and checked as a whole before anything is touched.
//!
//! The structs are read from YAML by the program (`camelCase` keys, unknown keys refused). No secret stands here:
//! credentials and keys are named by profiles, as files or as AWS profiles.

mod names;
mod nodes;
mod pools;
mod quiesce;
mod schedules;
mod streams;
mod transfers;

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::IgnoredAny};

pub(crate) use self::streams::{is_host_name, split};
pub use self::{
    names::{SOCKET_PATH_BYTES_MAX, is_node_name, is_socket_path},
    nodes::{CertificateConfig, ExportsConfig, StorageNodeConfig},
    pools::{PoolConfig, ThinLimits},
    quiesce::QuiesceConfig,
    schedules::ScheduleConfig,
    streams::{AllowedAddress, StreamsConfig},
    transfers::TransferConfig,
};

/// The configuration of a manager.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The node's name, as the orchestrator knows it; it must stay the same for ever.
    pub node_name: String,
    /// Folder of the catalog; made if it is not there.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The unix socket that is served.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// Folder of the profiles.
    #[serde(default = "default_profiles_dir")]
    pub profiles_dir: PathBuf,
    /// Folder that relative file names in profiles (credentials, keys, CAs) start from.
    #[serde(default = "default_credentials_dir")]
    pub credentials_dir: PathBuf,
    /// The pool of volumes that ask for none; the only pool if there is one.
    #[serde(default)]
    pub default_pool: Option<String>,
    /// The pools.
    pub pools: Vec<PoolConfig>,
    /// How this host presents itself to storage.
    #[serde(default)]
    pub host: HostConfig,
    /// How volumes and snapshots are handed to other hosts, if they are.
    #[serde(default)]
    pub exports: Option<ExportsConfig>,
    /// How managers on other nodes are served, if they are.
    #[serde(default)]
    pub storage_node: Option<StorageNodeConfig>,
    /// By which this node proves itself to other nodes.
    #[serde(default)]
    pub certificate: Option<CertificateConfig>,
    /// How data is moved.
    #[serde(default)]
    pub transfers: TransferConfig,
    /// To and from whom contents of snapshots may be sent as they are.
    #[serde(default)]
    pub streams: StreamsConfig,
    /// How file systems are frozen around a cut.
    #[serde(default)]
    pub quiesce: QuiesceConfig,
    /// How much schedules do at the same time.
    #[serde(default)]
    pub schedules: ScheduleConfig,
    /// How often pools are looked at, in seconds, 1 to 30: one that is full fails writes after a minute.
    #[serde(default = "default_guard")]
    pub pool_guard_seconds: u64,
    /// How long uploads and restores may take to end cleanly when the manager stops, in seconds.
    #[serde(default = "default_grace")]
    pub shutdown_grace_seconds: u64,
    /// The CSI frontend that the program serves beside the manager, if any; the manager itself does not heed it.
    #[serde(default)]
    pub csi: Option<FrontendConfig>,
    /// The REST frontends that the program serves beside the manager, if any: it reads their settings itself.
    #[serde(default)]
    pub gateway: Option<IgnoredAny>,
}

/// The CSI frontend beside the manager.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FrontendConfig {
    /// Its socket, `unix:///path`.
    pub endpoint: String,
    /// What storage classes call the provisioner.
    #[serde(default)]
    pub driver_name: Option<String>,
}

/// How this host presents itself to storage.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostConfig {
    /// Its name among the hosts; the node's name otherwise.
    #[serde(default)]
    pub name: Option<String>,
    /// Its address as storage nodes see it.
    #[serde(default)]
    pub ip: Option<String>,
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// The setting.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl Config {
    /// Refuses what cannot work, before anything is touched.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: String| {
            Err(ConfigError {
                field: field.to_owned(),
                problem,
            })
        };
        if self.node_name.is_empty() || self.node_name.len() > 192 {
            return wrong("nodeName", "has to have 1 to 192 characters".to_owned());
        }
        for (field, path) in [
            ("stateDir", &self.state_dir),
            ("socket", &self.socket),
            ("profilesDir", &self.profiles_dir),
            ("credentialsDir", &self.credentials_dir),
        ] {
            if !path.is_absolute() {
                return wrong(field, format!("{} is not absolute", path.display()));
            }
        }
        if !is_socket_path(&self.socket) {
            let problem = format!(
                "{} is longer than a socket's name may be, {SOCKET_PATH_BYTES_MAX} bytes",
                self.socket.display()
            );
            return wrong("socket", problem);
        }
        if !(1..=30).contains(&self.pool_guard_seconds) {
            let problem = format!("{} is not from 1 to 30", self.pool_guard_seconds);
            return wrong("poolGuardSeconds", problem);
        }
        if self.pools.is_empty() {
            return wrong("pools", "there is none; name at least one".to_owned());
        }
        pools::check(&self.pools)?;
        self.check_nodes()?;
        self.streams.check()?;
        self.quiesce.check()?;
        let is_there = |name: &str| self.pools.iter().any(|pool| pool.name() == name);
        match &self.default_pool {
            Some(name) if !is_there(name) => {
                wrong("defaultPool", format!("there is no pool {name}"))
            }
            None if self.pools.len() > 1 => wrong(
                "defaultPool",
                "is needed where there are several pools".to_owned(),
            ),
            _ => self.transfers.check().and_then(|()| self.schedules.check()),
        }
    }

    /// The name of the pool of volumes that ask for none.
    #[must_use]
    pub fn default_pool(&self) -> &str {
        match (&self.default_pool, self.pools.first()) {
            (Some(name), _) => name,
            (None, Some(pool)) => pool.name(),
            (None, None) => "",
        }
    }
}

fn default_state_dir() -> PathBuf {
    Path::new("/var/lib/stockpot").to_owned()
}

fn default_socket() -> PathBuf {
    Path::new("/run/stockpot/manager.sock").to_owned()
}

fn default_profiles_dir() -> PathBuf {
    Path::new("/etc/stockpot/profiles").to_owned()
}

fn default_credentials_dir() -> PathBuf {
    Path::new("/etc/stockpot").to_owned()
}

fn default_guard() -> u64 {
    10
}

fn default_grace() -> u64 {
    30
}

#[cfg(test)]
mod tests;
