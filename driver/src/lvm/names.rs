//! Names and tags of our logical volumes.
//!
//! The name is for people and for uniqueness, the tags are what is believed. An id's hyphens become dots in the name:
//! device-mapper doubles hyphens, and an id of 63 characters must fit into its 127 together with the group's name.
//! LVM's reserved words (`snapshot`, `pvmove` in front, `_tmeta` and its like anywhere) cannot appear.

use crate::{SnapshotId, VolumeId, origin::Origin};

const PREFIX: &str = "stockpot";

/// What one of our logical volumes is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Volume,
    Snapshot,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Volume => "volume",
            Kind::Snapshot => "snapshot",
        }
    }
}

/// What the tags of one of our logical volumes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tags {
    Volume {
        id: VolumeId,
        origin: Origin,
        /// The size it was made with; it is grown to that before the call that makes it returns.
        made_bytes: u64,
    },
    Snapshot {
        id: SnapshotId,
        volume: VolumeId,
        created_at_us: i64,
    },
}

impl Tags {
    /// The tags as LVM stores them; LVM allows letters, digits and `_+.-/=!:#&`.
    pub(super) fn to_lvm(&self) -> Vec<String> {
        let pairs = match self {
            Tags::Volume {
                id,
                origin,
                made_bytes,
            } => vec![
                ("kind", Kind::Volume.word().to_owned()),
                ("id", id.to_string()),
                ("from", origin.to_string()),
                ("made_bytes", made_bytes.to_string()),
            ],
            Tags::Snapshot {
                id,
                volume,
                created_at_us,
            } => vec![
                ("kind", Kind::Snapshot.word().to_owned()),
                ("id", id.to_string()),
                ("source", volume.to_string()),
                ("created_at_us", created_at_us.to_string()),
            ],
        };
        pairs
            .into_iter()
            .map(|(key, value)| format!("{PREFIX}.{key}={value}"))
            .collect()
    }

    /// Reads a report's comma-separated tags; `None` if they are not ours or not whole.
    pub(super) fn parse(lv_tags: &str) -> Option<Self> {
        let value = |key| value(lv_tags, key);
        match value("kind")? {
            "volume" => Some(Tags::Volume {
                id: value("id")?.parse().ok()?,
                origin: value("from")?.parse().ok()?,
                made_bytes: value("made_bytes")?.parse().ok()?,
            }),
            "snapshot" => Some(Tags::Snapshot {
                id: value("id")?.parse().ok()?,
                volume: value("source")?.parse().ok()?,
                created_at_us: value("created_at_us")?.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// What is noted on a logical volume besides what it is; it comes and goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Its content is being made: it is nobody's yet.
    pub(super) creating: bool,
    /// It is prepared to be connected to.
    pub(super) exported: bool,
    /// It helps to make this volume, and is nothing by itself.
    pub(super) helps: Option<VolumeId>,
    /// What people call it.
    pub(super) name: Option<String>,
    /// The name of the logical volume before it became a volume of ours.
    pub(super) former: Option<String>,
    /// It has taken the place of this volume, whatever it was made as.
    pub(super) becomes: Option<VolumeId>,
    /// It was made as this volume, and has taken the place of another one.
    pub(super) replaced: Option<VolumeId>,
    /// Another one has taken the place of this volume, which it was: it is to be removed.
    pub(super) superseded: Option<VolumeId>,
}

impl Marks {
    /// The tag while its content is made.
    pub(super) const CREATING: &str = "stockpot.state=creating";
    /// The tag while it is exported.
    pub(super) const EXPORTED: &str = "stockpot.exported=yes";

    /// The tag of what helps to make a volume.
    pub(super) fn helps(volume: &VolumeId) -> String {
        format!("{PREFIX}.helps={volume}")
    }

    /// The tag that makes a logical volume this volume.
    pub(super) fn becomes(volume: &VolumeId) -> String {
        format!("{PREFIX}.becomes={volume}")
    }

    /// The tag that says as which volume it was made that is now another one.
    pub(super) fn replaced(made_as: &VolumeId) -> String {
        format!("{PREFIX}.replaced={made_as}")
    }

    /// Reads a report's comma-separated tags.
    pub(super) fn parse(lv_tags: &str) -> Self {
        let has = |mark: &str| lv_tags.split(',').any(|tag| tag == mark);
        Self {
            creating: has(Self::CREATING),
            exported: has(Self::EXPORTED),
            helps: value(lv_tags, "helps").and_then(|id| id.parse().ok()),
            name: value(lv_tags, "name").and_then(plain),
            former: value(lv_tags, "former").map(str::to_owned),
            becomes: value(lv_tags, "becomes").and_then(|id| id.parse().ok()),
            replaced: value(lv_tags, "replaced").and_then(|id| id.parse().ok()),
            // What the others of the group say.
            superseded: None,
        }
    }
}

/// The tag with what people call it.
pub(super) fn name_tag(name: &str) -> String {
    let mut tag = format!("{PREFIX}.name=");
    for byte in name.bytes() {
        // LVM takes some more; '#' is what the others are written with.
        if byte.is_ascii_alphanumeric() || b"_.-+/:".contains(&byte) {
            tag.push(char::from(byte));
        } else {
            tag.push_str(&format!("#{byte:02x}"));
        }
    }
    tag
}

/// What a tag was made from; `None` if it was not made here.
fn plain(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut parts = value.split('#');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// The tag with the name that a logical volume had before; what LVM takes as a name it takes in a tag.
pub(super) fn former_tag(lv: &str) -> String {
    format!("{PREFIX}.former={lv}")
}

/// Whether a tag is one of ours.
pub(super) fn is_ours(tag: &str) -> bool {
    tag.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// The tag with a volume's or snapshot's id.
pub(super) fn id_tag(id: &VolumeId) -> String {
    format!("{PREFIX}.id={id}")
}

/// The value of one of our tags.
fn value<'a>(lv_tags: &'a str, key: &str) -> Option<&'a str> {
    lv_tags.split(',').find_map(|tag| {
        tag.strip_prefix(PREFIX)?
            .strip_prefix('.')?
            .strip_prefix(key)?
            .strip_prefix('=')
    })
}

/// The name of a volume's logical volume.
pub(super) fn volume_lv(id: &VolumeId) -> String {
    lv_name("v", id.as_str())
}

/// The name of a snapshot's logical volume.
pub(super) fn snapshot_lv(id: &SnapshotId) -> String {
    lv_name("s", id.as_str())
}

/// The name of the snapshot that a volume is copied from.
pub(super) fn copied_lv(id: &VolumeId) -> String {
    lv_name("c", id.as_str())
}

/// The name of the room that a volume is going to grow by.
pub(super) fn wiped_lv(id: &VolumeId) -> String {
    lv_name("w", id.as_str())
}

fn lv_name(letter: &str, id: &str) -> String {
    format!("{PREFIX}.{letter}.{}", id.replace('-', "."))
}

/// Whether a logical volume of this name is a snapshot of ours: one that was asked for, or that a copy is made from.
pub(super) fn is_snapshot_lv(name: &str) -> bool {
    ["s", "c"].iter().any(|letter| {
        let rest = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('.'));
        rest.and_then(|rest| rest.strip_prefix(letter))
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Whether this can be the name of a volume group or a pool; it becomes an argument and a part of a path.
pub(super) fn is_lvm_name(text: &str) -> bool {
    // With the group's hyphens doubled, `-`, and `stockpot.v.` and an id, device-mapper's 127 must not be exceeded.
    let escaped = text.len() + text.matches('-').count();
    !text.is_empty()
        && escaped <= 52
        && !text.starts_with(['-', '.'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_lvm() {
        let volume = |origin| Tags::Volume {
            id: "vol-1".parse().unwrap(),
            origin,
            made_bytes: 4 << 20,
        };
        for tags in [
            volume(Origin::Empty),
            volume(Origin::Snapshot("s-1".parse().unwrap())),
            volume(Origin::Volume("vol-0".parse().unwrap())),
            Tags::Snapshot {
                id: "tmeta".parse().unwrap(),
                volume: "vol-1".parse().unwrap(),
                created_at_us: 1_700_000_000_123_456,
            },
        ] {
            let mut lvm = tags.to_lvm();
            lvm.insert(0, "somebody.else".into());
            assert_eq!(Tags::parse(&lvm.join(",")), Some(tags));
        }
    }

    #[test]
    fn any_name_fits_into_a_tag() {
        for name in [
            "db",
            "pvc-1:a/b",
            "näme, with #23 = \u{1f980}",
            &"ü".repeat(64),
        ] {
            let tag = name_tag(name);
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+.-/=!:#&".contains(&b);
            assert!(tag.bytes().all(allowed) && tag.len() < 1024, "{tag}");
            let marks = Marks::parse(&format!("x,{tag},{}", former_tag("old+1")));
            assert_eq!(marks.name.as_deref(), Some(name));
            assert_eq!(marks.former.as_deref(), Some("old+1"));
            assert!(is_ours(&tag) && !is_ours("stockpotx") && !is_ours("x"));
        }
        for bad in ["a#", "a#1", "a#zz", "#ff"] {
            assert_eq!(plain(bad), None, "{bad}");
        }
    }

    #[test]
    fn half_or_foreign_tags_are_not_ours() {
        for text in [
            "",
            "x",
            "stockpot",
            "stockpot.kind=volume",
            "stockpot.kind=volume,stockpot.id=UP,stockpot.from=empty,stockpot.made_bytes=1",
            "stockpot.kind=volume,stockpot.id=a,stockpot.from=disk/x,stockpot.made_bytes=1",
            "stockpot.kind=pool,stockpot.id=a",
            "stockpot.kind=snapshot,stockpot.id=a,stockpot.source=b,stockpot.created_at_us=soon",
        ] {
            assert_eq!(Tags::parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_fit_and_differ() {
        let id = format!("a{}", "-".repeat(62));
        let name = volume_lv(&id.parse().unwrap());
        assert!(name.len() + 1 + 52 <= 127 && !name.contains('-'));
        assert_ne!(
            volume_lv(&"pvmove0".parse().unwrap()),
            snapshot_lv(&"pvmove0".parse().unwrap())
        );
        assert!(is_lvm_name("vg0") && is_lvm_name("a_b+c.d-e"));
        for bad in ["", "-a", ".", "..", "a/b", "a b", "ä", &"v".repeat(53)] {
            assert!(!is_lvm_name(bad), "{bad}");
        }
    }
}
