//! Object Lock: what a snapshot needs cannot be deleted or overwritten for a time, not even by whoever has our credentials.
//!
//! Before a manifest is put, every pack that it reaches is locked, whoever wrote it, and so are the marker and the key slots;
//! the manifest is locked as it is put. A lock ends at a multiple of a period (a quarter of the lock's days, from 1 to 30) of the
//! store's own clock, so what an upload shares with its base is asked for once per period, not once per upload: the base's
//! manifest says until when its packs are locked, and is locked so itself. Intents, condemned lists and marks are never locked, nor are tombstones.
//!
//! The marker and the slots are few and are what everything hangs on: they are asked for each time, also where a base covers
//! the packs. Which versions of an object are locked, and why not just the newest, stands in `lock::versions`.

pub(crate) mod versions;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

pub use crate::store::versions::{LockMode, LockSupport, Purged, Retention};
use crate::{
    Progress, Repository, RepositoryError,
    fetch::Fetcher,
    format::{
        ids::PackName,
        manifest::{Manifest, ManifestLock, SnapshotRecord, now},
    },
    pages::{Pages, broken_list_page},
    snapshots::{chain, read_record},
    store::{
        ObjectStore, PutMode, StoreError,
        versions::{ObjectVersion, Versions},
    },
    upload::send::Made,
};
use versions::Locking;

/// The packs of a snapshot, with their sizes where its pack list tells them.
pub(crate) type Needed = BTreeMap<Arc<PackName>, Option<u64>>;

/// Longest lock, in days: a hundred years.
pub const LOCK_DAYS_MAX: u32 = 36_500;

const DAY_S: i64 = 86_400;

/// How far the store's clock and our own may be apart, in seconds.
const CLOCKS_APART_S_MAX: u64 = DAY_S.unsigned_abs();

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

/// Makes sure that the bucket can lock, and that it knows the time, before anything is written to it.
///
/// # Errors
/// [`RepositoryError::NoObjectLock`], [`RepositoryError::Clocks`].
pub async fn require(store: &dyn ObjectStore) -> Result<(), RepositoryError> {
    let support = versions_of(store)?.lock_support().await?;
    if matches!(support, LockSupport::Enabled { .. }) {
        agreed_now_s(store).await?;
    }
    match support {
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

/// Deletes an object in a bucket that does not lock, and tells whether the bucket keeps old versions of it.
///
/// # Errors
/// As the store answers.
pub(crate) async fn delete(store: &dyn ObjectStore, key: &str) -> Result<Purged, StoreError> {
    match store.versions() {
        Some(versions) => versions.hide(key).await,
        None => store.delete(key).await.map(|()| Purged::Gone),
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

/// The store's time, by which locks end, in seconds since the Unix epoch. Only one that our own clock bears out: a lock that ends
/// years too late can be undone by nobody, and one that has ended already keeps nothing.
async fn agreed_now_s(store: &dyn ObjectStore) -> Result<i64, RepositoryError> {
    let server_s = store.now_s().await?;
    let own = now();
    if server_s.abs_diff(own.as_second()) <= CLOCKS_APART_S_MAX {
        return Ok(server_s);
    }
    Err(RepositoryError::Clocks {
        location: store.location(),
        server: Timestamp::from_second(server_s)
            .map_or_else(|_| format!("{server_s} s after 1970"), |at| at.to_string()),
        own: own.to_string(),
    })
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
/// [`RepositoryError::PacksGone`], [`StoreError::NotFound`] for a pack that is not there: then there is nothing to commit;
/// [`RepositoryError::Clocks`].
pub(crate) async fn extend(
    repository: &Repository,
    policy: LockPolicy,
    manifest: &Manifest,
    made: &Made,
    progress: &Arc<Progress>,
) -> Result<ManifestLock, RepositoryError> {
    let store = &**repository.store();
    let versions = versions_of(store)?;
    progress.requested(1);
    let retention = Retention {
        mode: policy.mode,
        until_s: policy.until_s(agreed_now_s(store).await?),
    };
    let job = Locking {
        repository,
        versions,
        retention,
        made,
        progress,
    };
    job.roots().await?;
    let mut packs = needed_packs(repository, manifest, progress).await?;
    let base = locked_base(repository, versions, manifest, retention);
    if let Some(base) = base.await? {
        for pack in needed_packs(repository, &base, progress).await?.keys() {
            packs.remove(pack);
        }
    }
    job.packs(&packs).await?;
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
) -> Result<Needed, RepositoryError> {
    let fetcher = Fetcher {
        store: repository.store().clone(),
        progress: progress.clone(),
    };
    let pages = Pages::new(fetcher, repository.sealer()?.clone());
    let mut packs = Needed::new();
    let mut list = pages.pack_list(manifest.pack_list.as_ref());
    while let Some(entries) = list.next().await {
        for entry in entries.map_err(broken_list_page)? {
            packs.insert(entry.pack, Some(entry.size_bytes));
        }
    }
    for pack in list.page_packs() {
        packs.entry(pack.clone()).or_default();
    }
    Ok(packs)
}

/// The base, if its manifest says that its packs are locked as long and as well already, and is so itself: packs are locked before their manifest
/// is, and a repository that was copied has no locks.
async fn locked_base(
    repository: &Repository,
    versions: &dyn Versions,
    manifest: &Manifest,
    retention: Retention,
) -> Result<Option<Manifest>, RepositoryError> {
    let Some(base) = &manifest.base else {
        return Ok(None);
    };
    let found = match read_record(repository, &base.volume_id, &base.snapshot_id).await {
        Ok(Some(SnapshotRecord::Manifest(found, nonce))) if nonce == base.nonce => found,
        Ok(_) => return Ok(None),
        Err(error) if error.is_of_one_object() => return Ok(None),
        Err(error) => return Err(error),
    };
    let covers = |lock: &ManifestLock| lock.retention().covers(&retention);
    if !found.lock.as_ref().is_some_and(covers) {
        return Ok(None);
    }
    match is_locked(versions, &found.object_key(), retention).await {
        Ok(true) => Ok(Some(*found)),
        Ok(false) => {
            tracing::warn!(
                base = %base.snapshot_id,
                "the base's manifest says that it is locked, and it is not: the repository was copied, perhaps. What is shared with it is \
                 locked anew"
            );
            Ok(None)
        }
        Err(
            error @ (StoreError::AccessDenied { .. }
            | StoreError::Refused { .. }
            | StoreError::Unsupported { .. }),
        ) => {
            tracing::warn!(
                error = chain(&error),
                "whether the base is locked cannot be seen (s3:GetObjectRetention): what is shared with it is locked anew"
            );
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether what is in sight under a key is locked as long and as well.
async fn is_locked(
    versions: &dyn Versions,
    key: &str,
    retention: Retention,
) -> Result<bool, StoreError> {
    let history = versions.versions_of(key).await?;
    let in_sight = |version: &&ObjectVersion| version.is_latest && !version.is_delete_marker;
    let Some(newest) = history.iter().find(in_sight) else {
        return Ok(false);
    };
    let lock = versions.retention(key, &newest.version_id).await?;
    Ok(lock.is_some_and(|lock| lock.covers(&retention)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
