//! What is asked for, checked: everything that comes in from outside passes here before it is used.

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
};

use stockpot_proto::csi::v1::{
    CapacityRange, VolumeCapability,
    volume_capability::{AccessType, access_mode::Mode},
};

use crate::mount::{FileSystem, MountFlags};

/// Longest name or id, in bytes (specification, "Size Limits").
const STRING_BYTES_MAX: usize = 128;

/// Longest id of a volume or snapshot, in bytes.
const ID_BYTES_MAX: usize = 63;

/// What a request has wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// A required field is empty.
    #[error("{field} is missing")]
    Missing { field: &'static str },
    /// A field has a value that it cannot have.
    #[error("{field}: {why}")]
    Invalid { field: &'static str, why: String },
    /// An id that no volume or snapshot can have.
    #[error("there is no {what} {id:?}")]
    NoSuch { what: &'static str, id: String },
    /// A way of using the volume that the driver does not offer.
    #[error("volume capability: {why}")]
    UnsupportedCapability { why: String },
    /// Parameters that the driver does not know, sorted.
    #[error("unknown parameters: {}; known are {known}", .names.join(", "))]
    UnknownParameters {
        names: Vec<String>,
        known: &'static str,
    },
    /// Sizes that no volume can have.
    #[error("capacity range: {why}")]
    CapacityRange { why: String },
    /// Only other nodes were named.
    #[error(
        "volumes of this driver are on node {node_id:?}, which is not among the nodes asked for"
    )]
    Unreachable { node_id: String },
    /// Publishing before staging.
    #[error("volume {volume_id:?} is not staged{}", if .path.is_empty() { ": no staging path was given".to_owned() } else { format!(" at {:?}", .path) })]
    NotStaged { volume_id: String, path: String },
}

/// Whether it has the form of an id: `[a-z][a-z0-9-]{0,62}`.
pub(crate) fn is_id(id: &str) -> bool {
    let bytes = id.as_bytes();
    bytes.len() <= ID_BYTES_MAX
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// A required id that must belong to something.
pub(crate) fn existing_id(
    field: &'static str,
    what: &'static str,
    id: &str,
) -> Result<(), RequestError> {
    if id.is_empty() {
        return Err(RequestError::Missing { field });
    }
    if !is_id(id) {
        return Err(RequestError::NoSuch {
            what,
            id: id.chars().take(STRING_BYTES_MAX).collect(),
        });
    }
    Ok(())
}

/// A name that the caller chose (specification, field `name` of `CreateVolume` and `CreateSnapshot`).
pub(crate) fn name(name: &str) -> Result<(), RequestError> {
    if name.is_empty() {
        return Err(RequestError::Missing { field: "name" });
    }
    if name.len() > STRING_BYTES_MAX {
        return Err(RequestError::Invalid {
            field: "name",
            why: format!("longer than {STRING_BYTES_MAX} bytes"),
        });
    }
    if name
        .chars()
        .any(|c| c.is_control() && !"\t\n\r".contains(c))
    {
        return Err(RequestError::Invalid {
            field: "name",
            why: "has a control character".to_owned(),
        });
    }
    Ok(())
}

/// A required absolute path without `..`.
pub(crate) fn path(field: &'static str, text: &str) -> Result<PathBuf, RequestError> {
    if text.is_empty() {
        return Err(RequestError::Missing { field });
    }
    let path = Path::new(text);
    let is_plain = path.is_absolute()
        && path.file_name().is_some()
        && !text.contains('\0')
        && path.components().all(|c| c != Component::ParentDir);
    if is_plain {
        Ok(path.components().collect())
    } else {
        Err(RequestError::Invalid {
            field,
            why: format!("{text:?} is not an absolute path without \"..\""),
        })
    }
}

/// A required path at which a volume may or may not be; `None` is a path where none can be.
pub(crate) fn volume_path(text: &str) -> Result<Option<PathBuf>, RequestError> {
    match path("volume_path", text) {
        Ok(path) => Ok(Some(path)),
        // The specification has a code for a volume that is not at the path, and none for an odd path.
        Err(RequestError::Invalid { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How large a volume shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Capacity {
    /// 0: not said.
    pub(crate) required_bytes: u64,
    /// 0: no limit.
    pub(crate) limit_bytes: u64,
}

/// What the interface counts sizes in ends here.
const SIZE_MAX: u64 = i64::MAX.unsigned_abs();

impl Capacity {
    /// From an optional range.
    pub(crate) fn parse(range: Option<&CapacityRange>) -> Result<Self, RequestError> {
        let Some(range) = range else {
            return Ok(Self::default());
        };
        let negative = |_| RequestError::Invalid {
            field: "capacity_range",
            why: "a size is negative".to_owned(),
        };
        let required_bytes = u64::try_from(range.required_bytes).map_err(negative)?;
        let limit_bytes = u64::try_from(range.limit_bytes).map_err(negative)?;
        if limit_bytes != 0 && limit_bytes < required_bytes {
            return Err(RequestError::CapacityRange {
                why: format!(
                    "the limit ({limit_bytes} bytes) is below what is required ({required_bytes} bytes)"
                ),
            });
        }
        Ok(Self {
            required_bytes,
            limit_bytes,
        })
    }

    /// The limit in the manager's words: for it none means exactly what is required, and here larger is as good.
    pub(crate) fn limit(self) -> u64 {
        match self.limit_bytes {
            0 => SIZE_MAX,
            limit => limit,
        }
    }
}

/// How a volume is seen by who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// As a block device.
    Block,
    /// As a directory.
    Mount {
        /// `None`: what is on it, or ext4 on an empty one.
        fs: Option<FileSystem>,
        flags: MountFlags,
    },
}

/// A way of using a volume that the driver offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capability {
    pub(crate) access: Access,
    /// Nothing is ever written.
    pub(crate) reader_only: bool,
    /// At most one target on the node.
    pub(crate) single_target: bool,
}

impl Capability {
    /// From a capability; `None` is a missing one.
    pub(crate) fn parse(capability: Option<&VolumeCapability>) -> Result<Self, RequestError> {
        let capability = capability.ok_or(RequestError::Missing {
            field: "volume_capability",
        })?;
        let mode = capability.access_mode.map_or(Mode::Unknown, |m| m.mode());
        let (reader_only, single_target) = match mode {
            Mode::SingleNodeWriter | Mode::SingleNodeMultiWriter => (false, false),
            Mode::SingleNodeReaderOnly => (true, false),
            Mode::SingleNodeSingleWriter => (false, true),
            Mode::Unknown => {
                return Err(RequestError::Missing {
                    field: "volume_capability.access_mode",
                });
            }
            Mode::MultiNodeReaderOnly
            | Mode::MultiNodeSingleWriter
            | Mode::MultiNodeMultiWriter => {
                return Err(RequestError::UnsupportedCapability {
                    why: format!(
                        "{} is not offered: a volume is used on one node at a time",
                        mode.as_str_name()
                    ),
                });
            }
        };
        let access = match &capability.access_type {
            None => {
                return Err(RequestError::Missing {
                    field: "volume_capability.access_type",
                });
            }
            Some(AccessType::Block(_)) => Access::Block,
            Some(AccessType::Mount(mount)) => Access::Mount {
                fs: parse_file_system(&mount.fs_type)?,
                flags: MountFlags::parse(&mount.mount_flags).map_err(|e| {
                    RequestError::Invalid {
                        field: "mount_flags",
                        why: e.to_string(),
                    }
                })?,
            },
        };
        Ok(Self {
            access,
            reader_only,
            single_target,
        })
    }

    /// From the required, non-empty list of a controller's request.
    pub(crate) fn parse_all(list: &[VolumeCapability]) -> Result<Vec<Self>, RequestError> {
        if list.is_empty() {
            return Err(RequestError::Missing {
                field: "volume_capabilities",
            });
        }
        list.iter().map(|c| Self::parse(Some(c))).collect()
    }
}

fn parse_file_system(text: &str) -> Result<Option<FileSystem>, RequestError> {
    if text.is_empty() {
        return Ok(None);
    }
    match FileSystem::parse(text) {
        Some(fs) => Ok(Some(fs)),
        None => Err(RequestError::UnsupportedCapability {
            why: format!("file system {text:?} is not offered: ext4 and xfs are"),
        }),
    }
}

/// Names of parameters that are not in `known`. What the orchestrator adds of its own (`csi.storage.k8s.io/…`) is known.
pub(crate) fn only_known(
    parameters: &HashMap<String, String>,
    known: &[&str],
    known_text: &'static str,
) -> Result<(), RequestError> {
    let mut names: Vec<String> = parameters
        .keys()
        .filter(|key| !key.starts_with(ORCHESTRATOR_PREFIX) && !known.contains(&key.as_str()))
        .map(|key| key.chars().take(STRING_BYTES_MAX).collect())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    Err(RequestError::UnknownParameters {
        names,
        known: known_text,
    })
}

/// Prefix of the parameters that Kubernetes' side-cars add.
pub(crate) const ORCHESTRATOR_PREFIX: &str = "csi.storage.k8s.io/";

/// Those parameters that say which object of the orchestrator this is for; not those that name secrets.
pub(crate) fn orchestrator_names(parameters: &HashMap<String, String>) -> HashMap<String, String> {
    const KEPT: [&str; 6] = [
        "pvc/name",
        "pvc/namespace",
        "pv/name",
        "volumesnapshot/name",
        "volumesnapshot/namespace",
        "volumesnapshotcontent/name",
    ];
    parameters
        .iter()
        .filter(|(key, _)| {
            key.strip_prefix(ORCHESTRATOR_PREFIX)
                .is_some_and(|key| KEPT.contains(&key))
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
