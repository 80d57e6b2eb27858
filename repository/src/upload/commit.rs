//! What an upload tells others, and when: intent, condemned lists, base, manifest (section 11 of the format).

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    BaseChoice, UploadRequest,
    base::{BadFrames, BaseMap},
    unstorable,
};
use crate::{
    Progress, Repository, RepositoryError,
    fetch::Fetcher,
    format::{
        crypto::Sealer,
        ids::{
            CONDEMNED_PREFIX, MARKS_PREFIX, PackName, Run, SNAPSHOTS_PREFIX, intent_key,
            intents_of, parse_snapshot_key,
        },
        limits::SMALL_OBJECT_MAX,
        manifest::{Base, Manifest, SnapshotRecord, tool},
        protocol::{Condemned, Intent, Mark},
        record::{Record, peek},
    },
    pages::Pages,
    repository::{list_keys, read_object},
    snapshots::{chain, read_record, record_at},
    store::{PutMode, StoreError},
};

/// Volumes with many snapshots whose newest ones are all deleted: how many are looked at to find a base.
const BASE_CANDIDATES: usize = 32;

/// One try to upload one snapshot.
pub(super) struct Attempt<'a> {
    pub(super) repository: &'a Repository,
    pub(super) sealer: &'a Sealer,
    pub(super) request: &'a UploadRequest,
    pub(super) progress: &'a Arc<Progress>,
    pub(super) run: Run,
    pub(super) started_at: Timestamp,
}

impl Attempt<'_> {
    /// A snapshot id is decided once.
    pub(super) async fn refuse_decided(&self) -> Result<(), RepositoryError> {
        let (volume, snapshot) = (&self.request.volume_id, &self.request.snapshot_id);
        match read_record(self.repository, volume, snapshot).await? {
            None => Ok(()),
            Some(record) => Err(self.decided(&record)),
        }
    }

    fn decided(&self, record: &SnapshotRecord) -> RepositoryError {
        let snapshot = self.request.snapshot_id.to_string();
        match record {
            SnapshotRecord::Manifest(..) => RepositoryError::AlreadyCommitted { snapshot },
            SnapshotRecord::Tombstone(..) => RepositoryError::Deleted { snapshot },
        }
    }

    /// Puts the intent, then looks at what it must not refer to, then at the base: in this order.
    pub(super) async fn announce(&self) -> Result<Option<BaseMap>, RepositoryError> {
        let base = self.choose_base().await?;
        let intent = Intent {
            snapshot_id: self.request.snapshot_id.clone(),
            volume_id: self.request.volume_id.clone(),
            run: self.run,
            base: base.clone(),
            adopts: Vec::new(),
            started_at: self.started_at,
            host: host(),
            tool: tool(),
        };
        let key = intent_key(&self.request.snapshot_id, self.run);
        let object = self.sealer.seal_record(&key, &intent).map_err(unstorable)?;
        self.progress.requested(1);
        self.repository
            .store()
            .put(&key, Bytes::from(object.bytes), PutMode::Overwrite)
            .await?;
        // Read even without a base: the order of requests is the same for all uploads.
        let condemned = self.condemned().await?;
        match base {
            Some(base) => self.open_base(base, condemned).await,
            None => Ok(None),
        }
    }

    /// The packs that prunes are about to delete; `None` if that cannot be known.
    async fn condemned(&self) -> Result<Option<HashSet<PackName>>, RepositoryError> {
        let mut packs = HashSet::new();
        for list in self.records::<Condemned>(CONDEMNED_PREFIX).await? {
            match list {
                Some(list) => packs.extend(list.packs),
                None => return Ok(None),
            }
        }
        Ok(Some(packs))
    }

    async fn bad_frames(&self) -> Result<BadFrames, RepositoryError> {
        let marks = self.records::<Mark>(MARKS_PREFIX).await?;
        let frames = marks.into_iter().flatten().flat_map(|mark| mark.bad);
        Ok(BadFrames(
            frames.map(|frame| (frame.pack, frame.offset)).collect(),
        ))
    }

    /// All records below a prefix; `None` for one that cannot be read.
    async fn records<R: Record>(&self, prefix: &str) -> Result<Vec<Option<R>>, RepositoryError> {
        let store = self.repository.store();
        let mut records = Vec::new();
        self.progress.requested(1);
        for meta in list_keys(&**store, prefix).await? {
            self.progress.requested(1);
            let read = match read_object(&**store, &meta.key, R::OBJECT_MAX).await {
                // It was just removed: its owner is done with it.
                Ok(None) => continue,
                Ok(Some(object)) => self
                    .sealer
                    .open_record::<R>(&meta.key, &object)
                    .map_err(|source| RepositoryError::object(&meta.key, None, source)),
                Err(error) if error.is_of_one_object() => Err(error),
                Err(error) => return Err(error),
            };
            match read {
                Ok((record, _)) => records.push(Some(record)),
                Err(error) => {
                    tracing::warn!(
                        object = meta.key,
                        error = &error as &dyn std::error::Error,
                        "a record cannot be read"
                    );
                    records.push(None);
                }
            }
        }
        Ok(records)
    }

    /// The manifest to build on, before anything is promised.
    async fn choose_base(&self) -> Result<Option<Base>, RepositoryError> {
        let volume = &self.request.volume_id;
        match &self.request.base {
            BaseChoice::Nothing => Ok(None),
            BaseChoice::Snapshot(snapshot) => {
                match read_record(self.repository, volume, snapshot).await? {
                    Some(SnapshotRecord::Manifest(manifest, nonce)) => {
                        Ok(Some(manifest.as_base(nonce)))
                    }
                    Some(SnapshotRecord::Tombstone(..)) => Err(RepositoryError::Deleted {
                        snapshot: snapshot.to_string(),
                    }),
                    None => Err(RepositoryError::UnknownSnapshot {
                        snapshot: snapshot.to_string(),
                        location: self.repository.location(),
                    }),
                }
            }
            BaseChoice::Newest => self.newest().await,
        }
    }

    /// The snapshot of the volume that was committed last. A manifest that cannot be read is no base; to say so is
    /// the business of listings and verify.
    async fn newest(&self) -> Result<Option<Base>, RepositoryError> {
        let store = self.repository.store();
        let prefix = format!("{SNAPSHOTS_PREFIX}{}/", self.request.volume_id);
        self.progress.requested(1);
        let mut keys = list_keys(&**store, &prefix).await?;
        keys.sort_by_key(|meta| std::cmp::Reverse(meta.modified_at_s));
        let mut newest: Option<(Timestamp, Base)> = None;
        let mut previous_s = None;
        for meta in keys.into_iter().take(BASE_CANDIDATES) {
            // The store's clock has seconds: all objects of the same second are compared by what they say.
            if newest.is_some() && previous_s != Some(meta.modified_at_s) {
                break;
            }
            previous_s = Some(meta.modified_at_s);
            if parse_snapshot_key(&meta.key).is_err() {
                continue;
            }
            self.progress.requested(1);
            match record_at(self.repository, &meta.key).await {
                Ok(Some(SnapshotRecord::Manifest(manifest, nonce))) => {
                    if newest
                        .as_ref()
                        .is_none_or(|(at, _)| *at < manifest.committed_at)
                    {
                        newest = Some((manifest.committed_at, manifest.as_base(nonce)));
                    }
                }
                Ok(_) => {}
                Err(error) if error.is_of_one_object() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest.map(|(_, base)| base))
    }

    /// The base, if it is still what it was and nothing of it is about to go. Else the upload is a full one.
    async fn open_base(
        &self,
        base: Base,
        condemned: Option<HashSet<PackName>>,
    ) -> Result<Option<BaseMap>, RepositoryError> {
        let dropped = |why: &str| {
            tracing::warn!(base = %base.snapshot_id, why, "not building on the base: all data is sent");
            Ok(None)
        };
        let record = read_record(self.repository, &base.volume_id, &base.snapshot_id).await;
        let manifest: Manifest = match record {
            Ok(Some(SnapshotRecord::Manifest(manifest, nonce))) if nonce == base.nonce => *manifest,
            Ok(_) => return dropped("it was deleted"),
            Err(error) if error.is_of_one_object() => return dropped(&chain(&error)),
            Err(error) => return Err(error),
        };
        let Some(condemned) = condemned else {
            return dropped("a prune's list cannot be read");
        };
        let fetcher = Fetcher {
            store: self.repository.store().clone(),
            progress: self.progress.clone(),
        };
        let pages = Pages::new(fetcher, self.sealer.clone());
        let bad = self.bad_frames().await?;
        let map = BaseMap::open(base.clone(), manifest, pages, bad).await;
        match map {
            Ok(map) if map.packs.keys().any(|pack| condemned.contains(&**pack)) => {
                dropped("a prune is about to delete a pack of it")
            }
            Ok(map) => Ok(Some(map)),
            Err(error) if error.is_of_one_object() => dropped(&chain(&error)),
            Err(error) => Err(error),
        }
    }

    /// Puts the manifest where nothing is yet. This is the commit.
    pub(super) async fn commit(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        let key = manifest.object_key();
        let object = self
            .sealer
            .seal_record(&key, manifest)
            .map_err(unstorable)?;
        let body = Bytes::from(object.bytes);
        let store = self.repository.store();
        self.progress.requested(1);
        let Err(error) = store.put(&key, body, PutMode::IfAbsent).await else {
            return Ok(());
        };
        // Refused, or no answer: what lies there now decides.
        let found = match store.get(&key, SMALL_OBJECT_MAX).await {
            Ok(found) => found,
            Err(_) => return Err(error.into()),
        };
        if peek(&found).is_ok_and(|head| head.nonce == object.nonce) {
            return Ok(());
        }
        let record = SnapshotRecord::open(self.sealer, &key, &found)
            .map_err(|source| RepositoryError::object(&key, None, source))?;
        Err(self.decided(&record))
    }

    /// Removes this attempt's intent: it will not commit. One that stays costs a later prune a question.
    pub(super) async fn withdraw(&self) {
        let key = intent_key(&self.request.snapshot_id, self.run);
        self.progress.requested(1);
        if let Err(error) = self.repository.store().delete(&key).await {
            tracing::warn!(
                intent = key,
                error = &error as &dyn std::error::Error,
                "the intent is still there"
            );
        }
    }

    /// Removes the intents of all attempts at the snapshot: it is committed, and none of them can commit any more.
    pub(super) async fn clear_intents(&self) {
        let store = self.repository.store();
        let prefix = intents_of(&self.request.snapshot_id);
        let cleared = async {
            self.progress.requested(1);
            for meta in list_keys(&**store, &prefix).await? {
                self.progress.requested(1);
                store.delete(&meta.key).await?;
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = cleared.await {
            tracing::warn!(
                intents = prefix,
                error = &error as &dyn std::error::Error,
                "intents are still there"
            );
        }
    }
}

/// The name of this host, for people who wonder whose intent it is.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    name.chars().take(63).collect()
}
