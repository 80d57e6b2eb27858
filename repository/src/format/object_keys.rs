//! Which object keys a repository gives: what else lies below its prefix is somebody else's.

use super::ids::{
    CONDEMNED_PREFIX, INTENTS_PREFIX, MARKER_KEY, MARKS_PREFIX, ObjectId, PACKS_PREFIX, PackName,
    SEEN_PREFIX, SLOTS_PREFIX, SNAPSHOTS_PREFIX, parse_intent_key, parse_snapshot_key,
};

/// Whether a repository of this format gives this key to any of its objects. Nothing is said of what lies there.
#[must_use]
pub fn is_ours(object_key: &str) -> bool {
    if object_key == MARKER_KEY {
        return true;
    }
    let Some(slash) = object_key.find('/') else {
        return false;
    };
    let (folder, rest) = object_key.split_at(slash + 1);
    match folder {
        PACKS_PREFIX => PackName::parse(object_key).is_ok(),
        SNAPSHOTS_PREFIX => parse_snapshot_key(object_key).is_ok(),
        INTENTS_PREFIX => parse_intent_key(object_key).is_ok(),
        SLOTS_PREFIX | CONDEMNED_PREFIX | MARKS_PREFIX | SEEN_PREFIX => rest
            .strip_suffix(".json")
            .is_some_and(|id| ObjectId::new(id).is_ok()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ids::{
        Run, SnapshotId, VolumeId, condemned_key, intent_key, marks_key, seen_key, slot_key,
        snapshot_key,
    };

    #[test]
    fn what_a_repository_names_is_ours_and_nothing_else() {
        let id = ObjectId::generate("x").unwrap();
        let (volume, snapshot) = (VolumeId::new("v").unwrap(), SnapshotId::new("s").unwrap());
        let pack = PackName {
            volume: volume.clone(),
            snapshot: snapshot.clone(),
            run: Run([7; 16]),
            number: 0,
        };
        for ours in [
            MARKER_KEY.to_owned(),
            pack.object_key(),
            snapshot_key(&volume, &snapshot),
            intent_key(&snapshot, Run([7; 16])),
            slot_key(&id),
            condemned_key(&id),
            marks_key(&id),
            seen_key(&id),
        ] {
            assert!(is_ours(&ours), "{ours}");
            let (longer, below, above) =
                (format!("{ours}x"), format!("{ours}/x"), format!("x/{ours}"));
            for bad in [&ours[1..], &ours[..ours.len() - 1], &longer, &below, &above] {
                assert!(!is_ours(bad), "{bad}");
            }
        }
        let long = "a".repeat(64);
        for bad in [
            String::new(),
            "/".to_owned(),
            "snapshots/v/s".to_owned(),
            "snapshots/v/s/t.json".to_owned(),
            format!("snapshots/v/{long}.json"),
            format!("keys/{long}.json"),
            "probe/x.json".to_owned(),
        ] {
            assert!(!is_ours(&bad), "{bad}");
        }
    }
}
