//! Where a listing has been. A server that leads back there, or on and on past any number of pages that can be, would be followed
//! for ever.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, Hash, RandomState},
};

use crate::store::StoreError;

/// Markers that a listing was led on by. A server chooses how long they are, so only a hash of each is kept, under a key that nobody
/// knows.
#[derive(Debug)]
pub(super) struct Trail {
    seen: HashSet<u64>,
    hasher: RandomState,
    pages_max: usize,
}

impl Trail {
    /// A listing of so many pages at most.
    pub(super) fn new(pages_max: usize) -> Self {
        Self {
            seen: HashSet::new(),
            hasher: RandomState::new(),
            pages_max,
        }
    }

    /// The marker of the next page.
    ///
    /// # Errors
    /// [`StoreError::Integrity`] if there is none though the listing goes on, if it was followed before, or after too many.
    pub(super) fn follow<T: Hash>(
        &mut self,
        prefix: &str,
        next: Option<T>,
    ) -> Result<T, StoreError> {
        let wrong = |problem: &str| StoreError::Integrity {
            key: prefix.to_owned(),
            problem: format!("the listing cannot be used: {problem}"),
        };
        let Some(next) = next else {
            return Err(wrong("it goes on, but does not say where"));
        };
        if self.seen.len() >= self.pages_max {
            return Err(wrong("it has more pages than a repository can fill"));
        }
        if !self.seen.insert(self.hasher.hash_one(&next)) {
            return Err(wrong("it goes round in a circle"));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_leads_nowhere_is_refused() {
        let mut trail = Trail::new(3);
        assert_eq!(trail.follow("p", Some(1)).unwrap(), 1);
        assert_eq!(trail.follow("p", Some(2)).unwrap(), 2);
        let circle = trail.follow("p", Some(1)).unwrap_err();
        assert!(circle.to_string().contains("circle"), "{circle}");
        assert!(trail.follow::<u8>("p", None).is_err());
        trail.follow("p", Some(3)).unwrap();
        let long = trail.follow("p", Some(4)).unwrap_err();
        assert!(long.to_string().contains("more pages"), "{long}");
    }
}
