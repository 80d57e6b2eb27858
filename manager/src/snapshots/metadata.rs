//! What is kept with a cloud copy besides the data: the caller's words, and what the manager notes so that a bucket alone tells it.

use stockpot_repository::format::manifest::{
    CONSISTENCY_KEY, CONSISTENCY_TEXT_KEY, Manifest, check_metadata,
};

use crate::{
    catalog::{Consistency, Metadata, SnapshotRow},
    request,
};

const NAME_KEY: &str = "snapshot_name";
const PROFILE_KEY: &str = "profile";
const BACKUP_NAME_KEY: &str = "stockpot.backup_name";

/// What the manager itself keeps with each cloud copy. Of callers these keys are not taken.
const OURS: [&str; 5] = [
    NAME_KEY,
    PROFILE_KEY,
    BACKUP_NAME_KEY,
    CONSISTENCY_KEY,
    CONSISTENCY_TEXT_KEY,
];

/// The metadata of a snapshot's manifest, with what its backup is called if it has one.
pub(super) fn cloud_metadata(row: &SnapshotRow, backup_name: Option<&str>) -> Metadata {
    let mut metadata = without_ours(row.metadata.clone());
    let mut insert = |key: &str, value: &str| metadata.insert(key.to_owned(), value.to_owned());
    insert(NAME_KEY, &row.name);
    insert(PROFILE_KEY, &row.profile);
    // The snapshot of a backup is called by the backup's id.
    if let Some(name) = backup_name.filter(|name| *name != row.name) {
        insert(BACKUP_NAME_KEY, name);
    }
    if let Some((consistency, text)) = &row.consistency {
        insert(CONSISTENCY_KEY, consistency.as_str());
        insert(CONSISTENCY_TEXT_KEY, text);
    }
    // The caller's words come first: there was room for them before it was known what is to be told of the cut.
    if check_metadata(&metadata).is_err() {
        metadata.insert(CONSISTENCY_TEXT_KEY.to_owned(), String::new());
    }
    metadata.retain(|key, value| key != CONSISTENCY_TEXT_KEY || !value.is_empty());
    metadata
}

/// What the caller noted with a snapshot, without what was noted for him.
pub(crate) fn callers_words(manifest: &Manifest) -> Metadata {
    without_ours(manifest.metadata.clone())
}

/// What a cloud copy is called.
pub(crate) fn name_of(manifest: &Manifest) -> Option<String> {
    manifest.metadata.get(NAME_KEY).cloned()
}

/// What the backup of a cloud copy is called, where that is not its id.
pub(crate) fn backup_name_of(manifest: &Manifest) -> Option<String> {
    let name = manifest.metadata.get(BACKUP_NAME_KEY)?;
    // Whoever may write to the bucket may have written it.
    request::check_name(name).ok()?;
    Some(name.clone())
}

/// What a restore of a cloud copy shows, and why, where its manifest says that in words that are known.
pub(crate) fn consistency_of(manifest: &Manifest) -> Option<(Consistency, String)> {
    let word = manifest.metadata.get(CONSISTENCY_KEY)?.parse().ok()?;
    let text = manifest.metadata.get(CONSISTENCY_TEXT_KEY).cloned();
    Some((word, text.unwrap_or_default()))
}

fn without_ours(mut metadata: Metadata) -> Metadata {
    metadata.retain(|key, _| !OURS.contains(&key.as_str()));
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::snapshots::tests::snapshot;

    fn row(note: &str, text: &str) -> SnapshotRow {
        let noted = [("note", note), (CONSISTENCY_KEY, "perfect")];
        SnapshotRow {
            name: "n".to_owned(),
            consistency: Some((Consistency::Crash, text.to_owned())),
            metadata: noted
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..snapshot("1")
        }
    }

    #[test]
    fn what_is_shown_is_ours_to_say_and_a_long_text_gives_way() {
        let metadata = cloud_metadata(&row("x", "why"), Some("nightly"));
        assert_eq!(metadata[BACKUP_NAME_KEY], "nightly");
        assert_eq!(metadata[CONSISTENCY_KEY], "crash");
        assert_eq!(metadata[CONSISTENCY_TEXT_KEY], "why");
        let long = row(&"\u{1}".repeat(2600), &"x".repeat(1000));
        let long = cloud_metadata(&long, None);
        assert_eq!(long[CONSISTENCY_KEY], "crash");
        assert!(!long.contains_key(CONSISTENCY_TEXT_KEY));
        check_metadata(&long).unwrap();
        let mut unknown = row("x", "");
        unknown.consistency = None;
        let unknown = cloud_metadata(&unknown, Some("n"));
        assert!(!unknown.contains_key(CONSISTENCY_KEY) && !unknown.contains_key(BACKUP_NAME_KEY));
    }
}
