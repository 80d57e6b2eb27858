//! Which earlier attempts left something, and what of it may be used.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{
    super::{BaseChoice, basis::Basis, commit::Attempt},
    Adopted, Cache, READS_IN_FLIGHT,
    contents::are_sound,
};
use crate::{
    RepositoryError,
    fetch::Fetcher,
    format::{
        crypto::Sealer,
        frame::FrameKind,
        ids::{INTENTS_PREFIX, PackName, packs_of, parse_intent_key},
        limits::ADOPTS_MAX,
        manifest::SnapshotRecord,
        pack_index::PackIndex,
        protocol::{AdoptedRun, Intent},
        record::Record,
    },
    indexes::read_index,
    repository::{list_keys, read_object},
    snapshots::read_record,
};

/// Intents of other snapshots that are looked at, the newest first.
const INTENTS_MAX: usize = 256;

/// Packs that are adopted at most: 16 TiB in packs of the usual size.
const PACKS_MAX: usize = 1 << 16;

impl Attempt<'_> {
    /// Attempts whose packs may be of use. `since` is when the base's upload began: what was left before that was of use to
    /// the base.
    pub(in crate::upload) async fn adoptable(
        &self,
        since: Option<Timestamp>,
    ) -> Result<Vec<AdoptedRun>, RepositoryError> {
        let store = self.repository.store();
        self.progress.requested(1);
        let mut keys = list_keys(&**store, INTENTS_PREFIX).await?;
        keys.sort_by_key(|meta| std::cmp::Reverse(meta.modified_at_s));
        let own = &self.request.snapshot_id;
        let is_own = |key: &str| parse_intent_key(key).is_ok_and(|(id, _)| id == *own);
        let (same, mut others): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|meta| is_own(&meta.key));
        others.truncate(if self.alone() { 0 } else { INTENTS_MAX });
        let keys = same.into_iter().chain(others).map(|meta| meta.key);
        let runs: Vec<AdoptedRun> = stream::iter(keys)
            .map(|key| self.adoptable_run(key, since))
            .buffered(READS_IN_FLIGHT)
            .try_filter_map(|run| async { Ok(run) })
            .try_collect()
            .await?;
        Ok(runs.into_iter().take(ADOPTS_MAX).collect())
    }

    async fn adoptable_run(
        &self,
        key: String,
        since: Option<Timestamp>,
    ) -> Result<Option<AdoptedRun>, RepositoryError> {
        self.progress.requested(1);
        let store = self.repository.store();
        let object = match read_object(&**store, &key, Intent::OBJECT_MAX).await {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(None),
            Err(error) if error.is_of_one_object() => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whose intent cannot be read is of no use, and no harm.
        let Ok((intent, _)) = self.sealer.open_record::<Intent>(&key, &object) else {
            return Ok(None);
        };
        if intent.void {
            return Ok(None);
        }
        let run = AdoptedRun {
            volume_id: intent.volume_id,
            snapshot_id: intent.snapshot_id,
            run: intent.run,
        };
        if run.volume_id != self.request.volume_id || run.run == self.run {
            return Ok(None);
        }
        if run.snapshot_id == self.request.snapshot_id {
            // A copy that is to stand alone may go on with one that was to.
            let fits = !self.alone() || (intent.base.is_none() && intent.adopts.is_empty());
            return Ok(fits.then_some(run));
        }
        if since.is_some_and(|since| intent.started_at < since) {
            return Ok(None);
        }
        Ok(self.is_open(&run).await?.then_some(run))
    }

    /// Whether nothing decides the run's snapshot: then no prune deletes its packs without having listed the intents after that.
    async fn is_open(&self, run: &AdoptedRun) -> Result<bool, RepositoryError> {
        self.progress.requested(1);
        match read_record(self.repository, &run.volume_id, &run.snapshot_id).await {
            Ok(None) => Ok(true),
            Ok(Some(SnapshotRecord::Manifest(..) | SnapshotRecord::Tombstone(..))) => Ok(false),
            Err(error) if error.is_of_one_object() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens the packs of the runs that the intent names, but for those that a prune is after.
    pub(in crate::upload) async fn adopt(
        &self,
        runs: &[AdoptedRun],
        condemned: Option<&HashSet<PackName>>,
        basis: &Basis,
        size_bytes: u64,
    ) -> Result<Option<Adopted>, RepositoryError> {
        let Some(condemned) = condemned.filter(|_| !runs.is_empty()) else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for run in runs {
            // Asked before the intent was there as well, but a prune that gave the run up since then may have taken its list
            // away again. Its tombstone stays.
            if run.snapshot_id != self.request.snapshot_id && !self.is_open(run).await? {
                tracing::warn!(run = %run.run, "what an earlier attempt left was given up meanwhile: it is sent again");
                continue;
            }
            let packs = self.packs_of_run(run).await?;
            if packs.iter().any(|(pack, _)| condemned.contains(&**pack)) {
                tracing::warn!(run = %run.run, "a prune is about to delete what an earlier attempt left: it is sent again");
                continue;
            }
            if names.len() + packs.len() > PACKS_MAX {
                tracing::warn!(run = %run.run, "earlier attempts left more packs than can be looked at: some is sent again");
                break;
            }
            names.extend(packs);
        }
        let (bad, all_known) = self.bad_frames().await?;
        let mut adopted = Adopted {
            fetcher: self.fetcher(),
            sealer: self.sealer.clone(),
            chunk_size_bytes: self.repository.chunk_size_bytes(),
            bad,
            packs: Vec::new(),
            by_name: HashMap::new(),
            cache: Mutex::new(Cache::of(self.request.settings.adopted_cache_bytes())),
        };
        let base = basis.base.as_ref().map(|base| &base.base);
        let (fetcher, sealer) = (self.fetcher(), self.sealer);
        let is_locked = self.request.settings.lock.is_some();
        let mut indexes = stream::iter(names)
            .map(|(name, size)| index_of_chunks(&fetcher, sealer, name, size, is_locked))
            .buffered(READS_IN_FLIGHT);
        while let Some(found) = indexes.try_next().await? {
            let Some((name, size, index)) = found else {
                continue;
            };
            // The same content on the same base: else what was looked at then says nothing now.
            let same_source = self.request.source_is_fixed
                && all_known
                && name.snapshot == self.request.snapshot_id
                && index.volume_size_bytes == size_bytes
                && index.base.as_ref() == base;
            let is_sound = index.entries.len() == adopted.places(&name, &index).len();
            adopted.add(name, size, &index, same_source && is_sound);
        }
        if adopted.packs.is_empty() {
            return Ok(None);
        }
        tracing::info!(
            packs = adopted.packs.len(),
            "going on with what earlier attempts left"
        );
        Ok(Some(adopted))
    }

    async fn packs_of_run(
        &self,
        run: &AdoptedRun,
    ) -> Result<Vec<(Arc<PackName>, u64)>, RepositoryError> {
        let prefix = packs_of(&run.volume_id, &run.snapshot_id);
        let prefix = format!("{prefix}{}-", run.run);
        self.progress.requested(1);
        let keys = list_keys(&**self.repository.store(), &prefix).await?;
        let pack = |key: &str| PackName::parse(key).ok().filter(|pack| pack.run == run.run);
        Ok(keys
            .into_iter()
            .filter_map(|meta| Some((Arc::new(pack(&meta.key)?), meta.size_bytes)))
            .collect())
    }

    /// Whether the snapshot is to share no pack with any other.
    fn alone(&self) -> bool {
        self.request.base == BaseChoice::Nothing
    }
}

/// A pack of chunks with its index; `None` for other packs, and for one that cannot be read. One that is to be locked is read through.
async fn index_of_chunks(
    fetcher: &Fetcher,
    sealer: &Sealer,
    name: Arc<PackName>,
    size_bytes: u64,
    is_locked: bool,
) -> Result<Option<(Arc<PackName>, u64, PackIndex)>, RepositoryError> {
    match read_index(fetcher, sealer, &name, size_bytes).await {
        Ok(index) => {
            let first = index.entries.first();
            let of_chunks = first.is_some_and(|entry| entry.kind == FrameKind::Chunk);
            if of_chunks && is_locked && !are_sound(fetcher, sealer, &name, &index).await? {
                tracing::warn!(
                    pack = %name,
                    "a pack of an earlier attempt does not hold what its index says: it is not locked, and what was in it is sent again"
                );
                return Ok(None);
            }
            Ok(of_chunks.then_some((name, size_bytes, index)))
        }
        Err(error) if error.is_of_one_object() => {
            tracing::warn!(
                pack = %name,
                error = &error as &dyn std::error::Error,
                "a pack of an earlier attempt cannot be read: it is sent again"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
