//! What an administrator says to the manager. Parsed and checked as a whole before anything is touched.
//!
//! The structs are read from YAML by the program (`camelCase` keys, unknown keys refused). No secret stands here:
//! credentials and keys are named by profiles, as files or as AWS profiles.

mod nodes;
mod transfers;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::{
    nodes::{CertificateConfig, ExportsConfig, StorageNodeConfig},
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
    /// How often pools are looked at, in seconds, 1 to 30: one that is full fails writes after a minute.
    #[serde(default = "default_guard")]
    pub pool_guard_seconds: u64,
    /// How long uploads and restores may take to end cleanly when the manager stops, in seconds.
    #[serde(default = "default_grace")]
    pub shutdown_grace_seconds: u64,
}

/// One pool of storage.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    tag = "driver",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum PoolConfig {
    /// A thin pool of an LVM volume group.
    LvmThin {
        /// The pool's name in requests.
        name: String,
        /// The volume group; it must exist.
        volume_group: String,
        /// The thin pool in it.
        thin_pool: String,
        /// Size in bytes of the thin pool that is made where there is none; without it, it must exist.
        #[serde(default)]
        pool_size_bytes: Option<u64>,
        /// How far it may be filled.
        #[serde(default)]
        limits: ThinLimits,
    },
    /// Plain logical volumes of an LVM volume group, with classic snapshots.
    LvmThick {
        /// The pool's name in requests.
        name: String,
        /// The volume group; it must exist.
        volume_group: String,
        /// Room for changes of a new snapshot, in percent of its volume (20 unless given).
        #[serde(default)]
        snapshot_percent: Option<u64>,
        /// The least of it, in bytes (64 MiB unless given).
        #[serde(default)]
        snapshot_least_bytes: Option<u64>,
        /// A snapshot this full, in percent, is extended (50 unless given).
        #[serde(default)]
        extend_at_percent: Option<u64>,
    },
    /// A pool of another node's.
    Remote {
        /// The pool's name in requests.
        name: String,
        /// The storage node's name, as its certificate says it.
        node: String,
        /// Where it is: `HOST:PORT`, or `unix:///PATH` for one on this host.
        address: String,
        /// The pool's name there; its only pool otherwise.
        #[serde(default)]
        pool: Option<String>,
    },
    /// Image files in a folder.
    File {
        /// The pool's name in requests.
        name: String,
        /// The folder, on a file system with shared blocks (XFS with reflink, Btrfs).
        directory: PathBuf,
        /// Copy the data of snapshots where the file system cannot share blocks.
        #[serde(default)]
        allow_copy: bool,
    },
}

impl PoolConfig {
    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::LvmThin { name, .. }
            | Self::LvmThick { name, .. }
            | Self::Remote { name, .. }
            | Self::File { name, .. } => name,
        }
    }

    /// Whether the storage is another node's.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }
}

/// How far a thin pool may be filled, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ThinLimits {
    /// Bytes promised to volumes, in all, as a multiple of the pool's size.
    pub over_provisioning_ratio: u64,
    /// Nothing new is made while the data is this full, in percent.
    pub data_percent: u64,
    /// Nothing new is made while the metadata is this full, in percent.
    pub metadata_percent: u64,
    /// From here on room is made, in percent of either.
    pub make_room_percent: u64,
    /// How much larger the pool is made at a time, in percent; 0: never.
    pub grow_percent: u64,
}

impl Default for ThinLimits {
    fn default() -> Self {
        Self {
            over_provisioning_ratio: 20,
            data_percent: 95,
            metadata_percent: 90,
            make_room_percent: 80,
            grow_percent: 20,
        }
    }
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
        if !(1..=30).contains(&self.pool_guard_seconds) {
            let problem = format!("{} is not from 1 to 30", self.pool_guard_seconds);
            return wrong("poolGuardSeconds", problem);
        }
        if self.pools.is_empty() {
            return wrong("pools", "there is none; name at least one".to_owned());
        }
        let mut names = BTreeSet::new();
        for pool in &self.pools {
            check_pool(pool)?;
            if !names.insert(pool.name()) {
                return wrong("pools", format!("{} is there twice", pool.name()));
            }
        }
        self.check_nodes()?;
        match &self.default_pool {
            Some(name) if !names.contains(name.as_str()) => {
                wrong("defaultPool", format!("there is no pool {name}"))
            }
            None if self.pools.len() > 1 => wrong(
                "defaultPool",
                "is needed where there are several pools".to_owned(),
            ),
            _ => self.transfers.check(),
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

fn check_pool(pool: &PoolConfig) -> Result<(), ConfigError> {
    let name = pool.name();
    let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 63 || !name.chars().all(is_sound) {
        return Err(ConfigError {
            field: "pools".to_owned(),
            problem: format!(
                "{name:?} is no name of a pool: 1 to 63 letters, digits, '-', '_', '.'"
            ),
        });
    }
    match pool {
        PoolConfig::File { directory, .. } if !directory.is_absolute() => Err(ConfigError {
            field: format!("pools.{name}.directory"),
            problem: format!("{} is not absolute", directory.display()),
        }),
        _ => Ok(()),
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
