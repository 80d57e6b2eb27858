//! What Cinder keeps with a thing and the manager has no place for. It stands in the thing's metadata, under keys of its own,
//! and goes with a backup into the bucket.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::asked::Asked;

/// What our keys begin with.
const OURS: &str = "cinder.";
const NAME: &str = "cinder.name";
const DESCRIPTION: &str = "cinder.description";
const PROJECT: &str = "cinder.project";
const USER: &str = "cinder.user";
const CONTAINER: &str = "cinder.container";
const SNAPSHOT: &str = "cinder.snapshot";
const BACKUP: &str = "cinder.backup";
/// The caller's own pairs, as JSON: their keys may be longer than the manager's, and be named like any of these.
const METADATA: &str = "cinder.metadata";

/// The words kept with one thing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) project: Option<String>,
    pub(super) user: Option<String>,
    /// Of a backup: what was asked for as its container.
    pub(super) container: Option<String>,
    /// Of a backup: the snapshot it was made from.
    pub(super) snapshot: Option<String>,
    /// Of a volume: the backup it was restored from.
    pub(super) backup: Option<String>,
    /// The caller's own.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Whether a volume of this metadata was made to be filled from a backup.
pub(super) fn is_restored(metadata: &HashMap<String, String>) -> bool {
    metadata.contains_key(BACKUP)
}

impl Words {
    /// Those of something that this call makes.
    pub(super) fn new(asked: &Asked, name: Option<String>, description: Option<String>) -> Self {
        Self {
            name,
            description,
            project: Some(asked.project.clone()),
            user: asked.user.clone(),
            ..Self::default()
        }
    }

    /// From the metadata of anything, whoever made it. `own_name` is what it is called where Cinder did not name it.
    pub(super) fn read(metadata: &HashMap<String, String>, own_name: &str) -> Self {
        let word = |key: &str| metadata.get(key).cloned();
        let others = metadata.iter().filter(|(key, _)| !key.starts_with(OURS));
        let mut own: BTreeMap<String, String> =
            others.map(|(k, v)| (k.clone(), v.clone())).collect();
        if let Some(kept) = metadata.get(METADATA) {
            own.extend(serde_json::from_str::<BTreeMap<String, String>>(kept).unwrap_or_default());
        }
        let is_cinders = metadata.contains_key(PROJECT);
        let own_name = (!is_cinders).then(|| own_name.to_owned());
        Self {
            name: word(NAME).or(own_name),
            description: word(DESCRIPTION),
            project: word(PROJECT),
            user: word(USER),
            container: word(CONTAINER),
            snapshot: word(SNAPSHOT),
            backup: word(BACKUP),
            metadata: own,
        }
    }

    /// As metadata.
    pub(super) fn write(&self) -> HashMap<String, String> {
        let pairs = [
            (NAME, &self.name),
            (DESCRIPTION, &self.description),
            (PROJECT, &self.project),
            (USER, &self.user),
            (CONTAINER, &self.container),
            (SNAPSHOT, &self.snapshot),
            (BACKUP, &self.backup),
        ];
        let said = pairs.into_iter().filter_map(|(key, value)| {
            let value = value.clone()?;
            Some((key.to_owned(), value))
        });
        let mut written: HashMap<String, String> = said.collect();
        if !self.metadata.is_empty() {
            written.insert(METADATA.to_owned(), json_of(&self.metadata));
        }
        written
    }

    /// What has to be written and removed so that `before`, a thing's metadata, says what is new here.
    pub(super) fn changes(
        before: &HashMap<String, String>,
        name: Option<Option<String>>,
        description: Option<Option<String>>,
        metadata: Option<BTreeMap<String, String>>,
    ) -> (HashMap<String, String>, Vec<String>) {
        let (mut set, mut remove) = (HashMap::new(), Vec::new());
        for (key, value) in [(NAME, name), (DESCRIPTION, description)] {
            match value {
                None => {}
                Some(Some(text)) => {
                    set.insert(key.to_owned(), text);
                }
                Some(None) => remove.push(key.to_owned()),
            }
        }
        if let Some(metadata) = metadata {
            // It replaces all that a caller sees as metadata, by whomever that was written.
            let others = before.keys().filter(|key| !key.starts_with(OURS));
            remove.extend(others.cloned());
            set.insert(METADATA.to_owned(), json_of(&metadata));
        }
        (set, remove)
    }
}

fn json_of(metadata: &BTreeMap<String, String>) -> String {
    let pairs = metadata.iter();
    let object = pairs.map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    Value::Object(object.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let words = Words {
            name: Some("nightly001".to_owned()),
            project: Some("p".to_owned()),
            container: Some("nightlybackups".to_owned()),
            metadata: [("cinder.name".to_owned(), "mine".to_owned())].into(),
            ..Words::default()
        };
        assert_eq!(Words::read(&words.write(), "cinder-x"), words);
    }

    #[test]
    fn what_others_made_has_their_name_and_their_pairs() {
        let metadata = [("fs_type".to_owned(), "ext4".to_owned())].into();
        let words = Words::read(&metadata, "pvc-1");
        assert_eq!(words.name.as_deref(), Some("pvc-1"));
        assert_eq!(
            words.metadata.get("fs_type").map(String::as_str),
            Some("ext4")
        );
        assert_eq!(words.project, None);
        // Ours without a name has none.
        let ours = [(PROJECT.to_owned(), "p".to_owned())].into();
        assert_eq!(Words::read(&ours, "volume-1").name, None);
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let before = [("k", "v"), (NAME, "a"), (DESCRIPTION, "b")];
        let before: HashMap<String, String> =
            before.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let (set, remove) = Words::changes(&before, Some(None), None, None);
        assert!(set.is_empty());
        assert_eq!(remove, [NAME]);
        let (set, remove) = Words::changes(&before, None, None, Some(BTreeMap::new()));
        assert_eq!(set.get(METADATA).map(String::as_str), Some("{}"));
        assert_eq!(remove, ["k"]);
    }
}
