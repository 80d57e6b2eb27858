//! What people call volumes and snapshots, for the command that makes them: it becomes a tag beside the others.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::names::{Tags, name_tag};

/// Names that are kept for what is not made yet, at most: whoever gives one is about to make it.
const KEPT_MAX: usize = 1024;

/// Names by id, until they are used.
#[derive(Debug, Default)]
pub(super) struct Hints(Mutex<BTreeMap<String, String>>);

impl Hints {
    /// Keeps a name for what is about to be made.
    pub(super) fn put(&self, id: &str, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= KEPT_MAX {
            // What was never made after all. A name is a convenience.
            names.clear();
        }
        names.insert(id.to_owned(), name.to_owned());
    }

    /// All tags of something that is made now.
    pub(super) fn tags_of(&self, id: &str, tags: &Tags) -> Vec<String> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = tags.to_lvm();
        all.extend(names.remove(id).map(|name| name_tag(&name)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    #[test]
    fn a_name_is_used_once() {
        let hints = Hints::default();
        let tags = Tags::Volume {
            id: "a".parse().unwrap(),
            origin: Origin::Empty,
            made_bytes: 1,
        };
        hints.put("a", "db");
        let named = hints.tags_of("a", &tags);
        assert!(named.contains(&"stockpot.name=db".to_owned()), "{named:?}");
        assert_eq!(hints.tags_of("a", &tags), tags.to_lvm());
        for number in 0..2 * KEPT_MAX {
            hints.put(&format!("v{number}"), "x");
        }
        assert!(hints.0.lock().unwrap().len() <= KEPT_MAX);
    }
}
