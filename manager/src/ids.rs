//! Ids of what is made here, and what they say.
//!
//! `vol-<node>-<ulid>`: the node's short id says whose manager to ask. `snap-<repository>-<ulid>`: any node with a
//! profile for that repository resolves it without a catalog. `snap-<ulid>`: a local copy only. `bak-<node>-<ulid>`: a record
//! of that node's catalog, in the order in which they were made.

use std::fmt;

use stockpot_driver::{SnapshotId, VolumeId};
use ulid::Ulid;

/// Hexadecimal digits of a short id.
const SHORT_ID_LEN: usize = 8;
/// Characters of a ULID.
const ULID_LEN: usize = 26;

/// What the name of a node becomes in ids: 8 hexadecimal digits that follow from the name alone, so that they
/// survive the loss of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShortId(String);

impl NodeShortId {
    /// The short id of a node.
    #[must_use]
    pub fn of(node_name: &str) -> Self {
        let hash = blake3::derive_key("stockpot 2026 node short id", node_name.as_bytes());
        let number = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        Self(format!("{number:08x}"))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A new volume id of this node.
#[must_use]
pub fn new_volume_id(node: &NodeShortId) -> VolumeId {
    format!("vol-{node}-{}", new_ulid())
        .parse()
        .expect("letters, digits and hyphens")
}

/// Whether a node of this short id made the volume.
#[must_use]
pub(crate) fn is_volume_of(id: &VolumeId, node: &NodeShortId) -> bool {
    let rest = id.as_str().strip_prefix("vol-");
    let rest = rest.and_then(|rest| rest.strip_prefix(node.as_str()));
    rest.is_some_and(|rest| rest.starts_with('-'))
}

/// Whether the manager of another node than this one made the volume.
#[must_use]
pub(crate) fn is_volume_of_other(id: &VolumeId, node: &NodeShortId) -> bool {
    let parts = id.as_str().strip_prefix("vol-");
    let parts = parts.and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(short_id, ulid)| {
        let is_short_id =
            short_id.len() == SHORT_ID_LEN && short_id.bytes().all(|b| b.is_ascii_hexdigit());
        is_short_id && ulid.len() == ULID_LEN && short_id != node.as_str()
    })
}

/// When a volume of this id was made, in microseconds since the Unix epoch; `None` where the id does not say.
pub(crate) fn volume_made_at_us(id: &VolumeId) -> Option<i64> {
    let (_, ulid) = id.as_str().strip_prefix("vol-")?.split_once('-')?;
    let ulid: Ulid = ulid.to_ascii_uppercase().parse().ok()?;
    i64::try_from(ulid.timestamp_ms()).ok()?.checked_mul(1000)
}

/// A new snapshot id; with the short id of the repository where its cloud copy will lie.
#[must_use]
pub fn new_snapshot_id(repository: Option<&str>) -> SnapshotId {
    let ulid = new_ulid();
    let text = match repository {
        Some(short_id) => format!("snap-{short_id}-{ulid}"),
        None => format!("snap-{ulid}"),
    };
    text.parse().expect("letters, digits and hyphens")
}

/// A new id of a backup that this node makes.
pub(crate) fn new_backup_id(node: &NodeShortId) -> String {
    format!("bak-{node}-{}", new_ulid())
}

/// A new id of the record of a stream; later ones sort after earlier ones.
pub(crate) fn new_stream_id(node: &NodeShortId) -> String {
    format!("str-{node}-{}", new_ulid())
}

/// Whether some node may have made a backup of this id.
pub(crate) fn is_backup_id(id: &str) -> bool {
    let parts = id
        .strip_prefix("bak-")
        .and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(short_id, ulid)| {
        let is_ours = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        short_id.len() == SHORT_ID_LEN
            && short_id.bytes().all(|b| b.is_ascii_hexdigit())
            && ulid.len() == ULID_LEN
            && ulid.bytes().all(is_ours)
    })
}

/// The short id of the repository that a snapshot's id names, if it names one.
#[must_use]
pub fn repository_of(id: &SnapshotId) -> Option<&str> {
    let (short_id, ulid) = id.as_str().strip_prefix("snap-")?.split_once('-')?;
    let is_short_id =
        short_id.len() == SHORT_ID_LEN && short_id.bytes().all(|b| b.is_ascii_hexdigit());
    (is_short_id && ulid.len() == ULID_LEN).then_some(short_id)
}

fn new_ulid() -> String {
    Ulid::generate().to_string().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_volume_says_when_it_was_made() {
        let before = crate::manager::now_us() / 1000;
        let id = new_volume_id(&NodeShortId::of("worker-1"));
        let made = volume_made_at_us(&id).unwrap() / 1000;
        assert!((before..=before + 60_000).contains(&made), "{made}");
        for other in ["vol-x", "vol-0123abcd-x", "mine"] {
            assert_eq!(volume_made_at_us(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn ids_say_where_they_belong() {
        let node = NodeShortId::of("worker-1");
        assert_eq!(node, NodeShortId::of("worker-1"));
        assert_ne!(node, NodeShortId::of("worker-2"));
        assert!(
            new_volume_id(&node)
                .as_str()
                .starts_with(&format!("vol-{node}-"))
        );
        let own = new_volume_id(&node);
        let other = NodeShortId::of("worker-2");
        assert!(is_volume_of(&own, &node) && !is_volume_of_other(&own, &node));
        assert!(!is_volume_of(&own, &other) && is_volume_of_other(&own, &other));
        // What nobody's manager made is nobody's.
        let odd = "vol-x".parse().unwrap();
        assert!(!is_volume_of_other(&odd, &node));
        let cloud = new_snapshot_id(Some("0123abcd"));
        assert_eq!(repository_of(&cloud), Some("0123abcd"));
        assert_eq!(repository_of(&new_snapshot_id(None)), None);
        assert!(is_backup_id(&new_backup_id(&node)));
        for other in [
            own.as_str(),
            "bak-",
            "bak-0123abcd",
            "bak-0123abcd-x",
            "../x",
        ] {
            assert!(!is_backup_id(other), "{other}");
        }
        assert_eq!(repository_of(&"snap-a-b".parse().unwrap()), None);
        assert_ne!(new_snapshot_id(None), new_snapshot_id(None));
    }
}
