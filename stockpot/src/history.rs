//! What a bucket with versions still has of what is missing or wrong in it.
//!
//! Stockpot never overwrites a pack, and takes no record away: where an older version lies below, somebody deleted or
//! overwrote the object, and `--first-versions` reads what was there before. Where versions cannot be listed, only a choice that hangs on it says so.

use std::collections::BTreeMap;

use stockpot_repository::{
    RepositoryError,
    format::ids::{MARKER_KEY, SLOTS_PREFIX, SNAPSHOTS_PREFIX, VolumeId, parse_snapshot_key},
    prune::PruneError,
    store::{ObjectStore, StoreError, versions::ObjectVersion},
};

use crate::printable;

/// What to do about it.
const READ_FIRST: &str =
    "with --first-versions `snapshots`, `verify` and `restore` read what was written first";

/// Objects by key, of which older versions are there, as far as the bucket tells.
#[derive(Debug, Default)]
pub(crate) struct Covered {
    /// Deleted: only older versions are left.
    hidden: Vec<String>,
    /// With something on top of them.
    overwritten: Vec<String>,
    /// The credentials may not look.
    is_denied: bool,
}

impl Covered {
    /// Looks at all objects whose keys start with `prefix`.
    pub(crate) async fn below(store: &dyn ObjectStore, prefix: &str) -> Self {
        match store.versions() {
            Some(versions) => Self::among(versions.versions(prefix).await),
            None => Self::default(),
        }
    }

    /// Looks at one object.
    async fn at(store: &dyn ObjectStore, key: &str) -> Self {
        match store.versions() {
            Some(versions) => Self::among(versions.versions_of(key).await),
            None => Self::default(),
        }
    }

    fn among(versions: Result<Vec<ObjectVersion>, StoreError>) -> Self {
        let found = match versions {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "whether there are older versions cannot be seen");
                return Self {
                    is_denied: matches!(error, StoreError::AccessDenied { .. }),
                    ..Self::default()
                };
            }
        };
        // How many have content, and whether one of these is what is in sight.
        let mut by_key: BTreeMap<String, (usize, bool)> = BTreeMap::new();
        for version in found
            .into_iter()
            .filter(|version| !version.is_delete_marker)
        {
            let (count, is_seen) = by_key.entry(version.key).or_default();
            *count += 1;
            *is_seen |= version.is_latest;
        }
        let mut covered = Self::default();
        for (key, (count, is_seen)) in by_key {
            match (count, is_seen) {
                (_, false) => covered.hidden.push(key),
                (1, true) => {}
                (_, true) => covered.overwritten.push(key),
            }
        }
        covered
    }

    /// Whether this object was deleted or overwritten.
    fn has(&self, key: &str) -> bool {
        self.hidden
            .iter()
            .chain(&self.overwritten)
            .any(|known| known == key)
    }

    fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.overwritten.is_empty()
    }
}

/// Records that were deleted, by their volumes: manifests and tombstones are never taken away by Stockpot.
#[derive(Debug)]
pub(crate) struct Records(Covered);

impl Records {
    pub(crate) async fn look(store: &dyn ObjectStore) -> Self {
        Self(Covered::below(store, SNAPSHOTS_PREFIX).await)
    }

    /// A remark where the credentials may not see versions: who cannot look does not know that nothing was deleted.
    pub(crate) fn unseen(&self) -> Option<&'static str> {
        self.0.is_denied.then_some(
            "the credentials may not list versions (s3:ListBucketVersions), so whether somebody deleted a newer snapshot, which the bucket \
             would still have if it keeps versions, cannot be seen",
        )
    }

    /// How many records of the volumes were deleted.
    pub(crate) fn hidden_of(&self, is_meant: impl Fn(&VolumeId) -> bool) -> usize {
        let places = self
            .0
            .hidden
            .iter()
            .filter_map(|key| parse_snapshot_key(key).ok());
        places.filter(|(volume, _)| is_meant(volume)).count()
    }

    /// A remark about deleted records, and about those of `unreadable` that were overwritten.
    pub(crate) fn remark(&self, unreadable: &[String]) -> Option<String> {
        let hidden = self.hidden_of(|_| true);
        let overwritten = unreadable.iter().filter(|key| self.0.has(key)).count();
        let mut parts = Vec::new();
        if hidden > 0 {
            parts.push(format!("{} deleted", snapshots_were(hidden)));
        }
        if overwritten > 0 {
            parts.push(format!("{} overwritten", snapshots_were(overwritten)));
        }
        (!parts.is_empty()).then(|| {
            format!(
                "the records of {} by somebody, and the bucket still has older versions of them: {READ_FIRST}",
                parts.join(", and of ")
            )
        })
    }
}

fn snapshots_were(count: usize) -> String {
    match count {
        1 => "1 snapshot were".to_owned(),
        count => format!("{count} snapshots were"),
    }
}

/// A remark about objects of which older versions are there.
pub(crate) async fn remark_on(store: &dyn ObjectStore, objects: &[&str]) -> Option<String> {
    // One folder has the packs of one snapshot; a bucket that was ransacked has many, and one example is enough.
    for object in objects.iter().take(8) {
        if Covered::at(store, object).await.has(object) {
            return Some(format!(
                "{} was deleted or overwritten by somebody, and the bucket still has an older version of it: {READ_FIRST}",
                printable::line(object)
            ));
        }
    }
    None
}

/// Says on standard error what older versions there are of what an error is about.
async fn explain(store: &dyn ObjectStore, error: &anyhow::Error) {
    let Some(error) = repository_error(error) else {
        return;
    };
    let remark = match error {
        RepositoryError::NoRepository { .. }
        | RepositoryError::Foreign { .. }
        | RepositoryError::NotSealed { .. } => remark_on(store, &[MARKER_KEY]).await,
        RepositoryError::WrongKey { .. } => {
            let slots = Covered::below(store, SLOTS_PREFIX).await;
            (!slots.is_empty()).then(|| {
                format!("key slots were deleted or overwritten, and the bucket still has older versions of them: {READ_FIRST}")
            })
        }
        RepositoryError::UnknownSnapshot { .. } => Records::look(store).await.remark(&[]),
        error => match object_of(error) {
            Some(key) => remark_on(store, &[key]).await,
            None => None,
        },
    };
    if let Some(remark) = remark {
        say(&remark);
    }
}

/// Passes a result on; of an error it says what older versions there are of what it is about.
pub(crate) async fn explained<T>(
    store: &dyn ObjectStore,
    outcome: Result<T, impl Into<anyhow::Error>>,
) -> anyhow::Result<T> {
    match outcome {
        Ok(done) => Ok(done),
        Err(error) => {
            let error = error.into();
            explain(store, &error).await;
            Err(error)
        }
    }
}

/// Says a remark that has to be heard also where only errors are.
pub(crate) fn say(remark: &str) {
    remark!("stockpot: {remark}");
}

/// The first of the errors that is a repository's.
fn repository_error(error: &anyhow::Error) -> Option<&RepositoryError> {
    error
        .chain()
        .find_map(|source| match source.downcast_ref() {
            // This one shows the other as itself.
            Some(PruneError::Repository(error)) => Some(error),
            _ => source.downcast_ref(),
        })
}

/// The object that an error is about.
fn object_of(error: &RepositoryError) -> Option<&str> {
    match error {
        RepositoryError::Damaged { object, .. }
        | RepositoryError::Newer { object, .. }
        | RepositoryError::Inconsistent { object, .. } => Some(object),
        RepositoryError::Store(
            StoreError::NotFound { key }
            | StoreError::Integrity { key, .. }
            | StoreError::TooLarge { key, .. },
        ) => Some(key),
        _ => None,
    }
}
