//! What is said about pools. A section that is not for its driver, or cannot work, is refused with the pool's name and the key.

use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf};

use serde::Deserialize;

use super::ConfigError;
use crate::{error::chain, parts};

/// The least room of a classic snapshot, in bytes.
const SNAPSHOT_BYTES_MIN: u64 = 4 << 20;

/// One pool of storage.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Section")]
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
        pool_size_bytes: Option<u64>,
        /// How far it may be filled.
        limits: ThinLimits,
    },
    /// Plain logical volumes of an LVM volume group, with classic snapshots.
    LvmThick {
        /// The pool's name in requests.
        name: String,
        /// The volume group; it must exist.
        volume_group: String,
        /// Room for changes of a new snapshot, in percent of its volume (20 unless given).
        snapshot_percent: Option<u64>,
        /// The least of it, in bytes (64 MiB unless given).
        snapshot_least_bytes: Option<u64>,
        /// A snapshot this full, in percent, is extended (50 unless given).
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
        pool: Option<String>,
    },
    /// Image files in a folder.
    File {
        /// The pool's name in requests.
        name: String,
        /// The folder, on a file system with shared blocks (XFS with reflink, Btrfs).
        directory: PathBuf,
        /// Copy the data of snapshots where the file system cannot share blocks.
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

    /// The volume group, where it is LVM of this host.
    #[must_use]
    pub fn volume_group(&self) -> Option<&str> {
        match self {
            Self::LvmThin { volume_group, .. } | Self::LvmThick { volume_group, .. } => {
                Some(volume_group)
            }
            Self::Remote { .. } | Self::File { .. } => None,
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

/// A pool as it stands in the file. One form for all drivers, so that each mistake is found where it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Section {
    name: String,
    driver: Driver,
    volume_group: Option<String>,
    thin_pool: Option<String>,
    pool_size_bytes: Option<u64>,
    limits: Option<ThinLimits>,
    snapshot_percent: Option<u64>,
    snapshot_least_bytes: Option<u64>,
    extend_at_percent: Option<u64>,
    node: Option<String>,
    address: Option<String>,
    pool: Option<String>,
    directory: Option<PathBuf>,
    allow_copy: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Driver {
    LvmThin,
    LvmThick,
    Remote,
    File,
}

impl Driver {
    fn word(self) -> &'static str {
        match self {
            Self::LvmThin => "lvm-thin",
            Self::LvmThick => "lvm-thick",
            Self::Remote => "remote",
            Self::File => "file",
        }
    }
}

impl Section {
    /// The keys that are there, but for those of every pool.
    fn given(&self) -> impl Iterator<Item = (&'static str, &'static [Driver])> {
        use Driver::{File, LvmThick, LvmThin, Remote};
        let all: [(_, bool, &[Driver]); 12] = [
            (
                "volumeGroup",
                self.volume_group.is_some(),
                &[LvmThin, LvmThick],
            ),
            ("thinPool", self.thin_pool.is_some(), &[LvmThin]),
            ("poolSizeBytes", self.pool_size_bytes.is_some(), &[LvmThin]),
            ("limits", self.limits.is_some(), &[LvmThin]),
            (
                "snapshotPercent",
                self.snapshot_percent.is_some(),
                &[LvmThick],
            ),
            (
                "snapshotLeastBytes",
                self.snapshot_least_bytes.is_some(),
                &[LvmThick],
            ),
            (
                "extendAtPercent",
                self.extend_at_percent.is_some(),
                &[LvmThick],
            ),
            ("node", self.node.is_some(), &[Remote]),
            ("address", self.address.is_some(), &[Remote]),
            ("pool", self.pool.is_some(), &[Remote]),
            ("directory", self.directory.is_some(), &[File]),
            ("allowCopy", self.allow_copy.is_some(), &[File]),
        ];
        all.into_iter()
            .filter_map(|(key, is_there, of)| is_there.then_some((key, of)))
    }
}

impl TryFrom<Section> for PoolConfig {
    type Error = String;

    fn try_from(section: Section) -> Result<Self, String> {
        let (name, driver) = (section.name.clone(), section.driver.word());
        for (key, of) in section.given() {
            if !of.contains(&section.driver) {
                return Err(format!("pool {name}: `{key}` is not for driver {driver}"));
            }
        }
        let missing = |key: &str| format!("pool {name}: `{key}` is missing (driver {driver})");
        Ok(match section.driver {
            Driver::LvmThin => Self::LvmThin {
                volume_group: section.volume_group.ok_or_else(|| missing("volumeGroup"))?,
                thin_pool: section.thin_pool.ok_or_else(|| missing("thinPool"))?,
                pool_size_bytes: section.pool_size_bytes,
                limits: section.limits.unwrap_or_default(),
                name,
            },
            Driver::LvmThick => Self::LvmThick {
                volume_group: section.volume_group.ok_or_else(|| missing("volumeGroup"))?,
                snapshot_percent: section.snapshot_percent,
                snapshot_least_bytes: section.snapshot_least_bytes,
                extend_at_percent: section.extend_at_percent,
                name,
            },
            Driver::Remote => Self::Remote {
                node: section.node.ok_or_else(|| missing("node"))?,
                address: section.address.ok_or_else(|| missing("address"))?,
                pool: section.pool,
                name,
            },
            Driver::File => Self::File {
                directory: section.directory.ok_or_else(|| missing("directory"))?,
                allow_copy: section.allow_copy.unwrap_or_default(),
                name,
            },
        })
    }
}

/// Refuses pools that cannot work, each by itself or together.
pub(super) fn check(pools: &[PoolConfig]) -> Result<(), ConfigError> {
    let mut places: BTreeMap<String, &str> = BTreeMap::new();
    for (at, pool) in pools.iter().enumerate() {
        let name = pool.name();
        check_pool(pool)?;
        if pools[..at].iter().any(|other| other.name() == name) {
            return Err(ConfigError {
                field: "pools".to_owned(),
                problem: format!("{name} is there twice"),
            });
        }
        let place = pool.place();
        if let Some(other) = places.get(&place) {
            return Err(ConfigError {
                field: format!("pools.{name}"),
                problem: format!("is on {place} like pool {other}: each has to have its own"),
            });
        }
        places.insert(place, name);
    }
    Ok(())
}

impl PoolConfig {
    /// What it keeps its volumes in, in words: no two pools share that.
    fn place(&self) -> String {
        match self {
            Self::LvmThin {
                volume_group,
                thin_pool,
                ..
            } => format!("thin pool {volume_group}/{thin_pool}"),
            Self::LvmThick { volume_group, .. } => format!("volume group {volume_group}"),
            Self::Remote { node, pool, .. } => match pool {
                Some(pool) => format!("pool {pool} of node {node}"),
                None => format!("the only pool of node {node}"),
            },
            Self::File { directory, .. } => {
                let directory: PathBuf = directory.components().collect();
                format!("directory {}", directory.display())
            }
        }
    }

    /// Numbers with what they may be.
    fn numbers(&self) -> Vec<(&'static str, u64, RangeInclusive<u64>)> {
        let share = 1..=100;
        match self {
            Self::LvmThin {
                pool_size_bytes,
                limits,
                ..
            } => vec![
                ("poolSizeBytes", pool_size_bytes.unwrap_or(1), 1..=u64::MAX),
                (
                    "limits.overProvisioningRatio",
                    limits.over_provisioning_ratio,
                    1..=u64::MAX,
                ),
                ("limits.dataPercent", limits.data_percent, share.clone()),
                (
                    "limits.metadataPercent",
                    limits.metadata_percent,
                    share.clone(),
                ),
                ("limits.makeRoomPercent", limits.make_room_percent, share),
                ("limits.growPercent", limits.grow_percent, 0..=1000),
            ],
            Self::LvmThick {
                snapshot_percent,
                snapshot_least_bytes,
                extend_at_percent,
                ..
            } => vec![
                (
                    "snapshotPercent",
                    snapshot_percent.unwrap_or(1),
                    share.clone(),
                ),
                (
                    "snapshotLeastBytes",
                    snapshot_least_bytes.unwrap_or(SNAPSHOT_BYTES_MIN),
                    SNAPSHOT_BYTES_MIN..=u64::MAX,
                ),
                ("extendAtPercent", extend_at_percent.unwrap_or(1), share),
            ],
            Self::Remote { .. } | Self::File { .. } => Vec::new(),
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
    for (key, value, range) in pool.numbers() {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            let problem = match most {
                u64::MAX => format!("{value} is too little: {least} is the least"),
                most => format!("{value} is not from {least} to {most}"),
            };
            return Err(ConfigError {
                field: format!("pools.{name}.{key}"),
                problem,
            });
        }
    }
    match pool {
        PoolConfig::File { directory, .. } if !directory.is_absolute() => Err(ConfigError {
            field: format!("pools.{name}.directory"),
            problem: format!("{} is not absolute", directory.display()),
        }),
        PoolConfig::Remote { .. } => Ok(()),
        // Whatever else its driver refuses at the start.
        own => parts::own_driver(own)
            .map(drop)
            .map_err(|error| ConfigError {
                field: format!("pools.{name}"),
                problem: chain(&error),
            }),
    }
}

#[cfg(test)]
mod tests;
