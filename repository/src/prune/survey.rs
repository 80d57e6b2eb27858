//! What is in the repository, as far as a prune has to know: packs by name, uploads by their intents, snapshots by their
//! records, and which packs the committed ones reach.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{
    PruneError,
    packs::{PackTable, RunKey},
    seen::{self, LastSeen, Lists},
};
use crate::{
    Progress, Repository, RepositoryError,
    fetch::Fetcher,
    format::{
        ids::{
            INTENTS_PREFIX, PACKS_PREFIX, PackName, SNAPSHOTS_PREFIX, SnapshotId, VolumeId,
            parse_intent_key, parse_snapshot_key, snapshot_key,
        },
        manifest::{RootRef, SnapshotRecord},
        protocol::Intent,
        record::Record as _,
    },
    pages::{Pages, broken_list_page},
    repository::{each_key, list_keys, read_object, too_many},
    snapshots::record_at,
    store::ObjectMeta,
};

/// Records, and pack lists, read at the same time.
const READS_IN_FLIGHT: usize = 8;

/// Packs of one repository: 4 PiB in packs of the usual size, and 256 MiB of memory.
const PACKS_MAX: usize = 1 << 24;

/// Upload attempts that left packs, about 250 bytes of memory each.
const RUNS_MAX: usize = 1 << 20;

/// A snapshot by its place.
pub(super) type Place = (VolumeId, SnapshotId);

/// An intent that is in the bucket.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its object key.
    pub(super) key: String,
    pub(super) intent: Intent,
    /// When it was put, by the store's clock.
    pub(super) put_at_s: i64,
}

impl Found {
    pub(super) fn place(&self) -> Place {
        (
            self.intent.volume_id.clone(),
            self.intent.snapshot_id.clone(),
        )
    }

    pub(super) fn run(&self) -> RunKey {
        RunKey {
            volume: self.intent.volume_id.clone(),
            snapshot: self.intent.snapshot_id.clone(),
            run: self.intent.run,
        }
    }
}

/// What a prune has learnt so far.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) repository: Repository,
    pub(super) cancel: CancellationToken,
    pages: Pages,
    table: Arc<Mutex<PackTable>>,
    /// Every snapshot with a record. Those that were found committed are taken for needed from then on.
    pub(super) snapshots: BTreeMap<Place, LastSeen>,
    /// The tombstones as they were listed. One may be taken away again, and a manifest be in sight instead.
    tombstones: BTreeMap<Place, ObjectMeta>,
    /// The intents that were read, as they were listed. One is put again only to say that its source was void: then it is longer,
    /// also where the store's clock shows the same second, and is read again.
    intents: BTreeMap<String, (ObjectMeta, Found)>,
    /// What earlier prunes saw.
    pub(super) lists: Lists,
    /// Objects below `packs/` that are none.
    pub(super) foreign: u64,
    /// The credentials may not list versions, and that was said.
    pub(super) is_denied_versions: bool,
}

impl Survey {
    /// Nothing is known yet but what earlier prunes saw.
    pub(super) async fn new(
        repository: &Repository,
        cancel: &CancellationToken,
    ) -> Result<Self, PruneError> {
        let fetcher = Fetcher {
            store: repository.store().clone(),
            progress: Arc::new(Progress::new()),
        };
        let lists = seen::read(repository).await.map_err(PruneError::doubt)?;
        Ok(Self {
            pages: Pages::new(fetcher, repository.sealer()?.clone()),
            repository: repository.clone(),
            cancel: cancel.clone(),
            table: Arc::default(),
            snapshots: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            intents: BTreeMap::new(),
            lists,
            foreign: 0,
            is_denied_versions: false,
        })
    }

    pub(super) fn check_cancelled(&self) -> Result<(), RepositoryError> {
        if self.cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        Ok(())
    }

    /// The packs.
    pub(super) fn table(&self) -> MutexGuard<'_, PackTable> {
        lock(&self.table)
    }

    /// Lists all packs, page by page: names are kept only in the table.
    pub(super) async fn read_packs(&mut self) -> Result<(), PruneError> {
        let store = self.repository.store().clone();
        let (mut packs, mut foreign) = (0, 0);
        each_key(&*store, PACKS_PREFIX, |meta| {
            self.check_cancelled()?;
            match PackName::parse(&meta.key) {
                Ok(name) => {
                    packs += 1;
                    too_many(PACKS_PREFIX, "packs", packs, PACKS_MAX)?;
                    let mut table = self.table();
                    table.insert(&name, meta.size_bytes, meta.modified_at_s);
                    too_many(PACKS_PREFIX, "uploads with packs", table.runs(), RUNS_MAX)?;
                }
                Err(_) => foreign += 1,
            }
            Ok(())
        })
        .await?;
        self.foreign = foreign;
        if self.foreign > 0 {
            tracing::warn!(
                objects = self.foreign,
                "below packs/ there are objects that are no packs; they stay"
            );
        }
        self.table().settle();
        Ok(())
    }

    /// Lists the intents, and reads those that are new. One that cannot be read could spare anything.
    pub(super) async fn read_intents(&mut self) -> Result<Vec<Found>, PruneError> {
        let store = self.repository.store().clone();
        let sealer = self.repository.sealer()?.clone();
        let mut found = Vec::new();
        for meta in list_keys(&*store, INTENTS_PREFIX).await? {
            self.check_cancelled()?;
            if parse_intent_key(&meta.key).is_err() {
                tracing::warn!(
                    object = meta.key,
                    "this object does not belong to the repository"
                );
                continue;
            }
            if let Some((as_listed, known)) = self.intents.get(&meta.key)
                && *as_listed == meta
            {
                found.push(known.clone());
                continue;
            }
            let object = match read_object(&*store, &meta.key, Intent::OBJECT_MAX).await {
                // Removed since the listing: its snapshot is decided, and the record is listed after this.
                Ok(None) => continue,
                Ok(Some(object)) => object,
                Err(error) => return Err(PruneError::doubt(error)),
            };
            let (intent, _) = sealer
                .open_record::<Intent>(&meta.key, &object)
                .map_err(|source| RepositoryError::object(&meta.key, None, source))
                .map_err(PruneError::doubt)?;
            let new = Found {
                key: meta.key.clone(),
                intent,
                put_at_s: meta.modified_at_s,
            };
            self.intents.insert(meta.key.clone(), (meta, new.clone()));
            found.push(new);
        }
        Ok(found)
    }

    /// Lists the snapshots, reads the records that are new, and marks what they reach. Whatever was known before has to
    /// be in the listing. What earlier prunes saw spares no reading: a manifest that is in sight counts.
    pub(super) async fn read_snapshots(&mut self) -> Result<(), PruneError> {
        let store = self.repository.store().clone();
        let mut listed: BTreeMap<String, (Place, ObjectMeta)> = BTreeMap::new();
        for meta in list_keys(&*store, SNAPSHOTS_PREFIX).await? {
            match parse_snapshot_key(&meta.key) {
                Ok(place) => drop(listed.insert(meta.key.clone(), (place, meta))),
                Err(_) => tracing::warn!(
                    object = meta.key,
                    "this object does not belong to the repository"
                ),
            }
        }
        let known = self
            .snapshots
            .keys()
            .map(|(volume, snapshot)| snapshot_key(volume, snapshot));
        for key in known.chain(self.lists.snapshots.keys().cloned()) {
            if !listed.contains_key(&key) {
                return Err(self.vanished(&key).await);
            }
        }
        let mut new = Vec::new();
        for (key, (place, meta)) in listed {
            let is_known = match self.snapshots.get(&place) {
                Some(LastSeen::Committed) => true,
                Some(LastSeen::Ended) => self.tombstones.get(&place) == Some(&meta),
                None => false,
            };
            if !is_known {
                let was_ended = self.snapshots.contains_key(&place)
                    || self.lists.snapshots.get(&key) == Some(&LastSeen::Ended);
                new.push((meta, place, was_ended));
            }
        }
        let read = stream::iter(new)
            .map(|(meta, place, was_ended)| {
                let (repository, cancel) = (self.repository.clone(), self.cancel.clone());
                let (pages, table) = (self.pages.clone(), self.table.clone());
                async move {
                    if cancel.is_cancelled() {
                        return Err(RepositoryError::Cancelled.into());
                    }
                    let read = read_snapshot(&repository, &pages, &table, &place, was_ended);
                    let last = read.await?;
                    Ok::<_, PruneError>((place, meta, last))
                }
            })
            .buffer_unordered(READS_IN_FLIGHT)
            .try_collect::<Vec<_>>()
            .await?;
        for (place, meta, last) in read {
            if last == LastSeen::Ended {
                self.tombstones.insert(place.clone(), meta);
            }
            self.snapshots.insert(place, last);
        }
        Ok(())
    }

    /// A record that is not in the listing: is it gone, or does the listing leave it out?
    async fn vanished(&self, key: &str) -> PruneError {
        let Ok((volume, snapshot)) = parse_snapshot_key(key) else {
            return PruneError::ListingIncomplete {
                object: key.to_owned(),
            };
        };
        match record_at(&self.repository, key).await {
            Ok(None) => PruneError::Vanished {
                volume: volume.to_string(),
                snapshot,
            },
            Ok(Some(_)) => PruneError::ListingIncomplete {
                object: key.to_owned(),
            },
            Err(error) => PruneError::doubt(error),
        }
    }

    /// Spares what a snapshot with a tombstone reached: an upload may build on it still. Where that is not known,
    /// everything is spared.
    pub(super) async fn spare_ended(&self, place: &Place) -> Result<(), PruneError> {
        let key = snapshot_key(&place.0, &place.1);
        let root = match record_at(&self.repository, &key).await {
            Ok(Some(SnapshotRecord::Tombstone(tombstone, _))) => tombstone.pack_list,
            Ok(_) => None,
            Err(error) if error.is_of_one_object() => None,
            Err(error) => return Err(error.into()),
        };
        let spare = |name: &PackName, _| self.table().spare(name);
        let spared = match root {
            Some(root) => walk_list(&self.pages, Some(&root), spare).await,
            None => Err(RepositoryError::Deleted {
                snapshot: place.1.to_string(),
            }),
        };
        match spared {
            Ok(()) => Ok(()),
            Err(error)
                if error.is_of_one_object() || matches!(error, RepositoryError::Deleted { .. }) =>
            {
                tracing::warn!(
                    snapshot = %place.1,
                    "an upload builds on this snapshot, which was deleted, and what it needed is not known: nothing is \
                     deleted before that upload has ended"
                );
                self.table().spare_all();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn lock(table: &Mutex<PackTable>) -> MutexGuard<'_, PackTable> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a record, and marks what a manifest reaches: also that of a snapshot which is known to have ended.
async fn read_snapshot(
    repository: &Repository,
    pages: &Pages,
    table: &Mutex<PackTable>,
    place: &Place,
    was_ended: bool,
) -> Result<LastSeen, PruneError> {
    let key = &snapshot_key(&place.0, &place.1);
    let manifest = match record_at(repository, key).await {
        Ok(Some(SnapshotRecord::Manifest(manifest, _))) => manifest,
        Ok(Some(SnapshotRecord::Tombstone(..))) => return Ok(LastSeen::Ended),
        // It was in the listing a moment ago.
        Ok(None) => {
            return Err(PruneError::Vanished {
                volume: place.0.to_string(),
                snapshot: place.1.clone(),
            });
        }
        Err(error) => return Err(PruneError::doubt(error)),
    };
    if was_ended {
        tracing::warn!(
            snapshot = %place.1,
            volume = %place.0,
            "this snapshot was deleted and is committed again: somebody took its tombstone away. What it needs is kept, as far as \
             it is there still; verify it, or delete it again"
        );
    }
    let reach = |name: &PackName, live| lock(table).reach(name, live);
    let Err(error) = walk_list(pages, manifest.pack_list.as_ref(), reach).await else {
        return Ok(LastSeen::Committed);
    };
    // It may have been deleted since, and another prune may have done its work on it.
    match record_at(repository, key).await {
        Ok(Some(SnapshotRecord::Tombstone(..))) => Ok(LastSeen::Ended),
        _ if was_ended && error.is_of_one_object() => Err(PruneError::Returned {
            volume: place.0.to_string(),
            snapshot: place.1.clone(),
            source: Box::new(error),
        }),
        _ => Err(PruneError::doubt(error)),
    }
}

/// Tells every pack that a snapshot needs: with the bytes that it reaches, and those of the list itself without.
async fn walk_list(
    pages: &Pages,
    root: Option<&RootRef>,
    tell: impl Fn(&PackName, Option<u64>),
) -> Result<(), RepositoryError> {
    let mut list = pages.pack_list(root);
    while let Some(entries) = list.next().await {
        for entry in entries.map_err(broken_list_page)? {
            tell(&entry.pack, Some(entry.live_bytes));
        }
    }
    for pack in list.page_packs() {
        tell(pack, None);
    }
    if let Some(root) = root {
        tell(&root.pack, None);
    }
    Ok(())
}
