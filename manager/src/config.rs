//! What an administrator says to the manager. Parsed and checked as a whole before anything is touched.
//!
//! The structs are read from YAML by the program (`camelCase` keys, unknown keys refused). No secret stands here:
//! credentials and keys are named by profiles, as files or as AWS profiles.

use std::{
    collections::BTreeSet,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use stockpot_repository::{ReadSettings, UploadSettings, store::Bandwidth};

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
            Self::LvmThin { name, .. } | Self::LvmThick { name, .. } | Self::File { name, .. } => {
                name
            }
        }
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

/// How data is moved. Sizes in bytes; the ranges are those of the repository's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TransferConfig {
    /// Uploads at the same time; the others wait.
    pub uploads_max: usize,
    /// Restores at the same time; the others wait.
    pub restores_max: usize,
    /// How often a transfer is begun, while what stops it may pass, before it is given up.
    pub attempts_max: u32,
    /// First pause between attempts in seconds; it doubles.
    pub pause_first_seconds: u64,
    /// Longest pause between attempts in seconds.
    pub pause_max_seconds: u64,
    /// Keeps the device of the newest cloud copy of a volume when its local copy is deleted, so that the next upload is
    /// told what changed.
    pub keep_base: bool,
    /// Parts sent at the same time by one upload.
    pub parts_in_flight: Option<usize>,
    /// Size of a part.
    pub part_size_bytes: Option<usize>,
    /// Size at which a pack is closed.
    pub pack_size_bytes: Option<u64>,
    /// Threads of one upload or restore.
    pub workers: Option<usize>,
    /// Compression level of zstd.
    pub zstd_level: Option<i32>,
    /// Share of what is said to be unchanged that is read to make sure of it, in parts per million.
    pub guard_share_ppm: Option<u32>,
    /// The least of it, in chunks.
    pub guard_chunks_min: Option<u32>,
    /// Packs of which less than this share is needed, in percent, are given up: what is needed of them is sent anew.
    pub repack_below_percent: Option<u32>,
    /// The most that one upload sends anew for that.
    pub repack_budget_bytes: Option<u64>,
    /// Ranges fetched at the same time by one restore.
    pub gets_in_flight: Option<usize>,
    /// Most that is sent per second, all uploads of this node together.
    pub upload_bytes_per_second_max: Option<NonZeroU64>,
    /// Most that is received per second, all restores of this node together.
    pub download_bytes_per_second_max: Option<NonZeroU64>,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            uploads_max: 2,
            restores_max: 2,
            attempts_max: 12,
            pause_first_seconds: 5,
            pause_max_seconds: 300,
            keep_base: true,
            parts_in_flight: None,
            part_size_bytes: None,
            pack_size_bytes: None,
            workers: None,
            zstd_level: None,
            guard_share_ppm: None,
            guard_chunks_min: None,
            repack_below_percent: None,
            repack_budget_bytes: None,
            gets_in_flight: None,
            upload_bytes_per_second_max: None,
            download_bytes_per_second_max: None,
        }
    }
}

impl TransferConfig {
    /// As the repository takes it.
    #[must_use]
    pub fn upload_settings(&self) -> UploadSettings {
        let usual = UploadSettings::default();
        UploadSettings {
            parts_in_flight: self.parts_in_flight.unwrap_or(usual.parts_in_flight),
            part_size_bytes: self.part_size_bytes.unwrap_or(usual.part_size_bytes),
            pack_size_bytes: self.pack_size_bytes.unwrap_or(usual.pack_size_bytes),
            workers: self.workers.unwrap_or(usual.workers),
            zstd_level: self.zstd_level.unwrap_or(usual.zstd_level),
            guard_share_ppm: self.guard_share_ppm.unwrap_or(usual.guard_share_ppm),
            guard_chunks_min: self.guard_chunks_min.unwrap_or(usual.guard_chunks_min),
            repack_below_percent: self
                .repack_below_percent
                .unwrap_or(usual.repack_below_percent),
            repack_budget_bytes: self
                .repack_budget_bytes
                .unwrap_or(usual.repack_budget_bytes),
            ..usual
        }
    }

    /// As the repository takes it.
    #[must_use]
    pub fn read_settings(&self) -> ReadSettings {
        let usual = ReadSettings::default();
        ReadSettings {
            gets_in_flight: self.gets_in_flight.unwrap_or(usual.gets_in_flight),
            workers: self.workers.unwrap_or(usual.workers),
            ..usual
        }
    }

    /// Sets the limits on what goes over the network, also for transfers that run.
    pub fn limit(&self, bandwidth: &Bandwidth) {
        bandwidth.set_upload(self.upload_bytes_per_second_max);
        bandwidth.set_download(self.download_bytes_per_second_max);
    }

    /// The pause before attempt `next` (2 is the first repetition).
    #[must_use]
    pub fn pause_before(&self, next: u32) -> Duration {
        let doublings = next.saturating_sub(2).min(20);
        let seconds = self.pause_first_seconds.saturating_mul(1 << doublings);
        Duration::from_secs(seconds.min(self.pause_max_seconds))
    }
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

impl TransferConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: String| {
            Err(ConfigError {
                field: format!("transfers.{field}"),
                problem,
            })
        };
        for (field, value, max) in [
            ("uploadsMax", self.uploads_max, 64),
            ("restoresMax", self.restores_max, 64),
            ("attemptsMax", self.attempts_max as usize, 10_000),
        ] {
            if !(1..=max).contains(&value) {
                return wrong(field, format!("{value} is not from 1 to {max}"));
            }
        }
        let settings = self.upload_settings().check();
        settings
            .and_then(|()| self.read_settings().check())
            .or_else(|error| wrong("settings", error.to_string()))
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
