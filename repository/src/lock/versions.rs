//! Which versions of an object are locked: those that a restore may need.
//!
//! Every name but that of a manifest is written once, so in most cases an object has one version, and that is the one. But whoever
//! has our credentials can write under a name before and after we do, and a prefix may have held another repository before.
//! So place and size alone prove nothing: of what an upload put itself the store told the version, and that one is locked or nothing is committed; of
//! what others put, versions are read, and what the repository's key vouches for is locked. What nobody can tell from ours (all in a repository that is not sealed, slots) is locked up to a bound.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    future::{BoxFuture, join_all},
    stream,
};

use super::Needed;
use crate::{
    Progress, Repository, RepositoryError,
    format::{
        crypto::Sealer,
        ids::{MARKER_KEY, PackName, SLOTS_PREFIX},
        limits::{PACK_SIZE_MAX, SMALL_OBJECT_MAX},
        slot::Slot,
    },
    indexes::read_index_with,
    store::{
        StoreError,
        versions::{ObjectVersion, Retention, Versions},
    },
    upload::send::Made,
};

/// Versions of one object that are looked at, at most: to read costs little, and what is not looked at may be ours.
const LOOKED_AT_MAX: usize = 1000;

/// Versions of one object that are locked at most, where nobody can tell which one is ours.
const LOCKED_MAX: usize = 16;

/// Versions looked at at the same time.
const LOOKS_IN_FLIGHT: usize = 8;

/// Key slots that are locked at most: a repository has no more than 16 of its own, the others are somebody's.
const SLOTS_LOCKED_MAX: usize = 64;

/// Locks asked for at the same time.
const LOCKS_IN_FLIGHT: usize = 8;

/// Versions of one object, the newest first, without delete markers.
type History<'a> = Vec<&'a ObjectVersion>;

/// Packs of one folder by their keys, with their sizes where they are known.
type Folder<'a> = BTreeMap<String, (&'a Arc<PackName>, Option<u64>)>;

/// Asking for locks.
pub(super) struct Locking<'a> {
    pub(super) repository: &'a Repository,
    pub(super) versions: &'a dyn Versions,
    pub(super) retention: Retention,
    /// The versions of this upload's own packs.
    pub(super) made: &'a Made,
    pub(super) progress: &'a Progress,
}

impl Locking<'_> {
    /// The marker, the slot that the repository was opened through, and those that were not removed.
    pub(super) async fn roots(&self) -> Result<(), RepositoryError> {
        self.progress.requested(1);
        let listed = self.versions.versions_of(MARKER_KEY).await?;
        let histories = histories(&listed);
        let history = histories.get(MARKER_KEY).cloned().unwrap_or_default();
        let opened = self.repository.marker_object();
        let mut wanted = self
            .small(MARKER_KEY, &history, |body| body == opened)
            .await?;
        if wanted.is_empty() {
            return Err(RepositoryError::Inconsistent {
                object: MARKER_KEY.to_owned(),
                problem: "none of its versions is the one that this repository was opened with"
                    .to_owned(),
            });
        }
        let slots = self.list(SLOTS_PREFIX).await?;
        let own = self.own_slot(&slots).await?;
        wanted.extend(own);
        for (key, history) in self.slots(&slots) {
            let id = self.repository.id();
            let is_slot = |body: &Bytes| Slot::parse(key, id, body).is_ok();
            let found = self.small(key, &history, is_slot).await?;
            if found.is_empty() {
                tracing::warn!(
                    object = key,
                    "this is no key slot of the repository: it is not locked"
                );
            }
            wanted.extend(found.into_iter().filter(|found| Some(*found) != own));
        }
        self.retain(wanted).await
    }

    /// The slot that the repository was opened through, as it was then, whatever lies on top of it: with nothing else a restore opens it by the same
    /// passphrase. `None` where it was opened without one.
    ///
    /// # Errors
    /// [`RepositoryError::Inconsistent`] if no version is it.
    async fn own_slot<'v>(
        &self,
        listed: &'v [ObjectVersion],
    ) -> Result<Option<&'v ObjectVersion>, RepositoryError> {
        let Some((key, opened)) = self.repository.slot_object() else {
            return Ok(None);
        };
        let histories = histories(listed);
        let history = histories.get(key.as_str()).cloned().unwrap_or_default();
        let found = self.small(&key, &history, |body| body == opened).await?;
        if found.is_empty() {
            return Err(RepositoryError::Inconsistent {
                object: key,
                problem: "none of its versions is the key slot that this repository was opened through: somebody removed or replaced it. \
                          Open the repository by another slot, or add one with an exported key"
                    .to_owned(),
            });
        }
        Ok(found.first().copied())
    }

    /// The packs, whatever was put under their names besides.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for one of which no version is there.
    pub(super) async fn packs(&self, packs: &Needed) -> Result<(), RepositoryError> {
        let mut folders: BTreeMap<String, Folder<'_>> = BTreeMap::new();
        for (pack, size_bytes) in packs {
            let key = pack.object_key();
            let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
            let folder = folders.entry(format!("{folder}/")).or_default();
            folder.insert(key, (pack, *size_bytes));
        }
        for (folder, keys) in folders {
            let listed = self.list(&folder).await?;
            let histories = histories(&listed);
            let asked: Vec<BoxFuture<'_, Result<History<'_>, RepositoryError>>> = keys
                .into_iter()
                .map(|(key, (pack, size_bytes))| {
                    let history = histories.get(key.as_str()).cloned().unwrap_or_default();
                    let found: BoxFuture<'_, _> =
                        Box::pin(self.of_pack(key, pack, size_bytes, history));
                    found
                })
                .collect();
            let wanted: Vec<History<'_>> = stream::iter(asked)
                .buffered(LOOKS_IN_FLIGHT)
                .try_collect()
                .await?;
            self.retain(wanted.concat()).await?;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectVersion>, RepositoryError> {
        self.progress.requested(1);
        Ok(self.versions.versions(prefix).await?)
    }

    /// The slots that can be seen, and the one that opened the repository: the oldest first, since whoever adds some to
    /// hide ours comes later.
    fn slots<'v>(&self, listed: &'v [ObjectVersion]) -> Vec<(&'v str, History<'v>)> {
        let visible: BTreeSet<&str> = listed
            .iter()
            .filter(|version| version.is_latest && !version.is_delete_marker)
            .map(|version| version.key.as_str())
            .collect();
        let (mut slots, hidden): (Vec<_>, Vec<_>) = histories(listed)
            .into_iter()
            .partition(|(key, _)| visible.contains(key));
        if !hidden.is_empty() {
            tracing::warn!(
                slots = hidden.len(),
                "there are key slots of which only old versions are left: they were removed, by their owner or by somebody else, and are \
                 not locked"
            );
        }
        let age = |history: &History<'_>| history.last().map(|version| version.modified_at_s);
        slots.sort_by(|(a_key, a), (b_key, b)| (age(a), a_key).cmp(&(age(b), b_key)));
        if slots.len() > SLOTS_LOCKED_MAX {
            tracing::warn!(
                slots = slots.len(),
                locked = SLOTS_LOCKED_MAX,
                "there are more key slots than a repository has: only the oldest are locked"
            );
            slots.truncate(SLOTS_LOCKED_MAX);
        }
        slots
    }

    /// Of a small object the versions that differ from each other and are ours, as far as that can be told; the newest first,
    /// since it is what this was opened with, then the oldest ones.
    async fn small<'v>(
        &self,
        key: &str,
        history: &[&'v ObjectVersion],
        is_ours: impl Fn(&Bytes) -> bool,
    ) -> Result<Vec<&'v ObjectVersion>, RepositoryError> {
        warn_if_covered(history);
        let (mut bodies, mut wanted) = (Vec::<Bytes>::new(), Vec::new());
        let mut candidates = looked_at(history);
        candidates.retain(|version| version.size_bytes <= SMALL_OBJECT_MAX as u64);
        let newest = candidates.pop();
        candidates.splice(..0, newest);
        for some in candidates.chunks(LOOKS_IN_FLIGHT) {
            self.progress.requested(some.len() as u64);
            let reads = some.iter().map(|version| {
                let id = &version.version_id;
                self.versions.get_version(key, id, SMALL_OBJECT_MAX)
            });
            for (version, read) in some.iter().zip(join_all(reads).await) {
                match read {
                    Ok(body) if is_ours(&body) && !bodies.contains(&body) => {
                        bodies.push(body);
                        wanted.push(*version);
                    }
                    Ok(_) => {}
                    Err(error) if error.is_of_one_object() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if wanted.len() >= LOCKED_MAX {
                tracing::warn!(
                    object = key,
                    locked = LOCKED_MAX,
                    "somebody has put many versions of this object that could be ours: only the newest and the oldest are locked"
                );
                wanted.truncate(LOCKED_MAX);
                break;
            }
        }
        Ok(wanted)
    }

    /// Of a pack that this upload put exactly what it put. Of another one the version that the key vouches for; all that could be it where
    /// nothing can.
    ///
    /// # Errors
    /// [`RepositoryError::PacksGone`], [`StoreError::NotFound`] for one of which no such version is there.
    async fn of_pack<'v>(
        &self,
        key: String,
        pack: &Arc<PackName>,
        size_bytes: Option<u64>,
        mut history: History<'v>,
    ) -> Result<History<'v>, RepositoryError> {
        warn_if_covered(&history);
        if let Some(made) = self.made.get(&key) {
            history.retain(|version| version.version_id == *made);
            return match history.is_empty() {
                true => Err(RepositoryError::PacksGone {
                    first: key,
                    others: 0,
                }),
                false => Ok(history),
            };
        }
        history.retain(|version| match size_bytes {
            Some(size_bytes) => version.size_bytes == size_bytes,
            None => version.size_bytes <= PACK_SIZE_MAX,
        });
        let wanted = if self.repository.is_sealed() {
            1
        } else {
            LOCKED_MAX
        };
        let sealer = self.repository.sealer()?;
        self.progress.requested(2);
        let found = genuine_packs(self.versions, sealer, pack, looked_at(&history), wanted);
        match found.await? {
            found if found.is_empty() => Err(StoreError::NotFound { key }.into()),
            found => Ok(found),
        }
    }

    async fn retain(&self, wanted: Vec<&ObjectVersion>) -> Result<(), RepositoryError> {
        let asked: Vec<BoxFuture<'_, Result<(), StoreError>>> = wanted
            .into_iter()
            .map(|version| {
                self.progress.requested(1);
                self.versions
                    .retain(&version.key, &version.version_id, self.retention)
            })
            .collect();
        stream::iter(asked)
            .buffer_unordered(LOCKS_IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        Ok(())
    }
}

/// The first of the versions whose index opens, as many as are wanted: only the owner of the key can have made one, and whatever
/// copies it came later. Without a key anybody can.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn genuine_packs<'v>(
    versions: &dyn Versions,
    sealer: &Sealer,
    pack: &Arc<PackName>,
    oldest_first: Vec<&'v ObjectVersion>,
    wanted: usize,
) -> Result<Vec<&'v ObjectVersion>, RepositoryError> {
    let mut found = Vec::new();
    for some in oldest_first.chunks(LOOKS_IN_FLIGHT) {
        let looks = some
            .iter()
            .map(|version| opens(versions, sealer, pack, version));
        for (version, opens) in some.iter().zip(join_all(looks).await) {
            if opens? {
                found.push(*version);
            }
        }
        if found.len() >= wanted {
            found.truncate(wanted);
            break;
        }
    }
    Ok(found)
}

/// Whether this version ends like a pack of that name.
async fn opens(
    versions: &dyn Versions,
    sealer: &Sealer,
    pack: &Arc<PackName>,
    version: &ObjectVersion,
) -> Result<bool, RepositoryError> {
    let get = |range| -> BoxFuture<'_, _> {
        Box::pin(async move {
            let read = versions.get_version_range(&version.key, &version.version_id, range);
            Ok(read.await?)
        })
    };
    match read_index_with(get, sealer, pack, version.size_bytes).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_of_one_object() => Ok(false),
        Err(error) => Err(error),
    }
}

/// By key, without delete markers. A listing has the newest first.
fn histories(listed: &[ObjectVersion]) -> HashMap<&str, History<'_>> {
    let mut histories: HashMap<&str, History<'_>> = HashMap::new();
    for version in listed.iter().filter(|version| !version.is_delete_marker) {
        histories.entry(&version.key).or_default().push(version);
    }
    histories
}

/// The oldest first, as many as are looked at: the last of them is the newest.
pub(crate) fn looked_at<'v>(history: &[&'v ObjectVersion]) -> Vec<&'v ObjectVersion> {
    let mut oldest_first: History<'v> = history.iter().rev().copied().collect();
    if let Some(newest) = oldest_first.last().copied()
        && oldest_first.len() > LOOKED_AT_MAX
    {
        tracing::warn!(
            object = newest.key,
            versions = oldest_first.len(),
            looked_at = LOOKED_AT_MAX,
            "somebody has put many versions of this object: only the oldest and the newest are looked at"
        );
        oldest_first.truncate(LOOKED_AT_MAX - 1);
        oldest_first.push(newest);
    }
    oldest_first
}

fn warn_if_covered(history: &[&ObjectVersion]) {
    let Some(first) = history.last() else {
        return;
    };
    if !first.is_latest {
        tracing::warn!(
            object = first.key,
            "this object was overwritten or deleted after it was written: what is below is locked as well, and reading it \
             may need --first-versions"
        );
    }
}
