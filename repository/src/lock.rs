//! Object Lock: what a snapshot needs cannot be deleted or overwritten for a time, not even by whoever has our credentials.
//!
//! Before a manifest is put, every pack that it reaches is locked, whoever wrote it, and so are the marker and the key slots;
//! the manifest is locked as it is put. A lock ends at a multiple of a period (a quarter of the lock's days, from 1 to 30) of the
//! store's own clock, so what an upload shares with its base is asked for once per period, not once per upload: the base's
//! manifest says until when its packs are locked. Intents, condemned lists and marks are never locked, nor are tombstones.
//!
//! What is locked is the first version of each object, since every name but that of a manifest is written once. That first version is
//! also what [`Repository::open_first`] reads, whatever was written or deleted under the name since.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};

pub use crate::store::versions::{LockMode, LockSupport, Purged, Retention};
use crate::{
    Progress, Repository, RepositoryError,
    fetch::Fetcher,
    format::{
        ids::{MARKER_KEY, PackName, SLOTS_PREFIX},
        manifest::{Manifest, ManifestLock, SnapshotRecord},
    },
    pages::{Pages, broken_list_page},
    snapshots::read_record,
    store::{
        ObjectStore, PutMode, StoreError,
        versions::{ObjectVersion, Versions},
    },
};

/// Longest lock, in days: a hundred years.
pub const LOCK_DAYS_MAX: u32 = 36_500;

const DAY_S: i64 = 86_400;
/// Locks asked for at the same time.
const LOCKS_IN_FLIGHT: usize = 8;

/// How long, at least, and how well what is uploaded is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockPolicy {
    /// Days from the commit on; 1 to [`LOCK_DAYS_MAX`].
    pub days: u32,
    /// How strong the locks are.
    pub mode: LockMode,
}

impl LockPolicy {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`].
    pub fn check(&self) -> Result<(), RepositoryError> {
        if (1..=LOCK_DAYS_MAX).contains(&self.days) {
            return Ok(());
        }
        Err(RepositoryError::Settings(format!(
            "days of the lock: {}; it has to be from 1 to {LOCK_DAYS_MAX}",
            self.days
        )))
    }

    /// When a lock that is asked for now ends: after the days, rounded up to the period; in seconds since the Unix epoch.
    #[must_use]
    pub fn until_s(&self, now_s: i64) -> i64 {
        let period_s = i64::from(self.days.div_ceil(4).clamp(1, 30)) * DAY_S;
        let least_s = now_s.saturating_add(i64::from(self.days) * DAY_S);
        least_s.saturating_add(period_s - 1).div_euclid(period_s) * period_s
    }
}

/// Makes sure that the bucket can lock, before anything is written to it.
///
/// # Errors
/// [`RepositoryError::NoObjectLock`].
pub async fn require(store: &dyn ObjectStore) -> Result<(), RepositoryError> {
    match versions_of(store)?.lock_support().await? {
        LockSupport::Missing => Err(no_object_lock(store)),
        LockSupport::Enabled { has_default } => {
            if has_default {
                tracing::warn!(
                    bucket = store.location(),
                    "the bucket locks all that is written by itself: also what has to be deleted soon, which piles up \
                     as versions that cost money"
                );
            }
            Ok(())
        }
    }
}

/// Deletes an object with all its versions, or tells until when it is locked; it stays visible then.
///
/// # Errors
/// As the store answers.
pub async fn purge(store: &dyn ObjectStore, key: &str) -> Result<Purged, StoreError> {
    match store.versions() {
        Some(versions) => versions.purge(key).await,
        None => {
            store.delete(key).await?;
            Ok(Purged::Gone)
        }
    }
}

fn versions_of(store: &dyn ObjectStore) -> Result<&dyn Versions, RepositoryError> {
    store.versions().ok_or_else(|| no_object_lock(store))
}

fn no_object_lock(store: &dyn ObjectStore) -> RepositoryError {
    RepositoryError::NoObjectLock {
        location: store.location(),
    }
}

/// Locks all that a manifest needs, and tells what to put into it. To be called right before the commit.
///
/// # Errors
/// [`StoreError::NotFound`] for a pack that is not there: then there is nothing to commit.
pub(crate) async fn extend(
    repository: &Repository,
    policy: LockPolicy,
    manifest: &Manifest,
    progress: &Arc<Progress>,
) -> Result<ManifestLock, RepositoryError> {
    let store = &**repository.store();
    let versions = versions_of(store)?;
    progress.requested(1);
    let retention = Retention {
        mode: policy.mode,
        until_s: policy.until_s(versions.now_s().await?),
    };
    let mut packs = needed_packs(repository, manifest, progress).await?;
    let job = Locking {
        versions,
        retention,
        progress,
    };
    match locked_base(repository, manifest, retention).await? {
        Some(base) => {
            for pack in needed_packs(repository, &base, progress).await? {
                packs.remove(&pack);
            }
        }
        None => job.roots().await?,
    }
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pack in packs {
        let key = pack.object_key();
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        folders.entry(format!("{folder}/")).or_default().insert(key);
    }
    for (folder, keys) in folders {
        job.packs(&folder, &keys).await?;
    }
    ManifestLock::new(retention)
        .map_err(|problem| RepositoryError::Internal(format!("the store's date: {problem}")))
}

/// Puts a manifest where nothing is yet, locked if it says so.
pub(crate) async fn put_manifest(
    store: &dyn ObjectStore,
    key: &str,
    body: Bytes,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    match (&manifest.lock, store.versions()) {
        (Some(lock), Some(versions)) => {
            let retention = lock.retention();
            versions
                .put_retained(key, body, PutMode::IfAbsent, retention)
                .await
        }
        _ => store.put(key, body, PutMode::IfAbsent).await,
    }
}

/// The packs of a snapshot, and those that hold its list of them.
async fn needed_packs(
    repository: &Repository,
    manifest: &Manifest,
    progress: &Arc<Progress>,
) -> Result<BTreeSet<Arc<PackName>>, RepositoryError> {
    let fetcher = Fetcher {
        store: repository.store().clone(),
        progress: progress.clone(),
    };
    let pages = Pages::new(fetcher, repository.sealer()?.clone());
    let mut packs = BTreeSet::new();
    let mut list = pages.pack_list(manifest.pack_list.as_ref());
    while let Some(entries) = list.next().await {
        let entries = entries.map_err(broken_list_page)?;
        packs.extend(entries.into_iter().map(|entry| entry.pack));
    }
    packs.extend(list.page_packs().iter().cloned());
    Ok(packs)
}

/// The base, if its manifest says that its packs are locked as long and as well already.
async fn locked_base(
    repository: &Repository,
    manifest: &Manifest,
    retention: Retention,
) -> Result<Option<Manifest>, RepositoryError> {
    let Some(base) = &manifest.base else {
        return Ok(None);
    };
    match read_record(repository, &base.volume_id, &base.snapshot_id).await {
        Ok(Some(SnapshotRecord::Manifest(found, nonce))) if nonce == base.nonce => {
            let covers = |lock: &ManifestLock| lock.retention().covers(&retention);
            Ok(found.lock.as_ref().is_some_and(covers).then_some(*found))
        }
        Ok(_) => Ok(None),
        Err(error) if error.is_of_one_object() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asking for locks.
struct Locking<'a> {
    versions: &'a dyn Versions,
    retention: Retention,
    progress: &'a Progress,
}

impl Locking<'_> {
    /// The marker, and the slots that were not removed.
    async fn roots(&self) -> Result<(), RepositoryError> {
        let marker = BTreeSet::from([MARKER_KEY.to_owned()]);
        self.packs(MARKER_KEY, &marker).await?;
        self.progress.requested(1);
        let listed = self.versions.versions(SLOTS_PREFIX).await?;
        let visible = listed
            .iter()
            .filter(|version| version.is_latest && !version.is_delete_marker);
        let slots: BTreeSet<String> = visible.map(|version| version.key.clone()).collect();
        self.lock(&listed, &slots).await
    }

    async fn packs(&self, prefix: &str, keys: &BTreeSet<String>) -> Result<(), RepositoryError> {
        self.progress.requested(1);
        let listed = self.versions.versions(prefix).await?;
        self.lock(&listed, keys).await
    }

    async fn lock(
        &self,
        listed: &[ObjectVersion],
        keys: &BTreeSet<String>,
    ) -> Result<(), RepositoryError> {
        let first = first_versions(listed);
        let mut locks = Vec::with_capacity(keys.len());
        for key in keys {
            let version = first
                .get(key.as_str())
                .ok_or_else(|| StoreError::NotFound { key: key.clone() })?;
            if !version.is_latest {
                tracing::warn!(
                    object = key,
                    "this object was overwritten or deleted after it was written: its first version is locked, and \
                     reading it needs --first-versions"
                );
            }
            locks.push(*version);
        }
        let asked: Vec<BoxFuture<'_, Result<(), StoreError>>> = locks
            .into_iter()
            .map(|version| Box::pin(self.retain(version)) as BoxFuture<'_, _>)
            .collect();
        stream::iter(asked)
            .buffer_unordered(LOCKS_IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    async fn retain(&self, version: &ObjectVersion) -> Result<(), StoreError> {
        self.progress.requested(1);
        self.versions
            .retain(&version.key, &version.version_id, self.retention)
            .await
    }
}

/// Of each key the version that was written first, from a listing that has the newest first.
pub(crate) fn first_versions(listed: &[ObjectVersion]) -> HashMap<&str, &ObjectVersion> {
    let bodies = listed.iter().filter(|version| !version.is_delete_marker);
    bodies
        .map(|version| (version.key.as_str(), version))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_at_a_multiple_of_its_period_and_not_before_its_days() {
        for (days, period_days) in [
            (1, 1),
            (4, 1),
            (5, 2),
            (30, 8),
            (90, 23),
            (365, 30),
            (36_500, 30),
        ] {
            let policy = LockPolicy {
                days,
                mode: LockMode::Compliance,
            };
            policy.check().unwrap();
            let mut ends = BTreeSet::new();
            for hour in 0..24 * period_days {
                let now_s = 1_800_000_000 + hour * 3600;
                let until_s = policy.until_s(now_s);
                assert_eq!(until_s % (period_days * DAY_S), 0);
                let kept_s = until_s - now_s;
                let least_s = i64::from(days) * DAY_S;
                assert!((least_s..least_s + period_days * DAY_S).contains(&kept_s));
                ends.insert(until_s);
            }
            assert!(ends.len() <= 2, "one end for a period: {ends:?}");
        }
        for days in [0, LOCK_DAYS_MAX + 1] {
            let mode = LockMode::Governance;
            assert!(LockPolicy { days, mode }.check().is_err());
        }
    }
}
