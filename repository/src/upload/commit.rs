//! What an upload tells others, and when: intent, condemned lists, base, manifest (section 11 of the format).

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{UploadRequest, heeding, run::Written, send::Made, unstorable};
use crate::{
    Progress, Repository, RepositoryError,
    format::{
        crypto::Sealer,
        ids::{CONDEMNED_PREFIX, PackName, Run, intent_key},
        limits::SMALL_OBJECT_MAX,
        manifest::{Base, Manifest, SnapshotRecord, tool},
        protocol::{AdoptedRun, Condemned, Intent},
        record::{Record, peek},
    },
    lock,
    repository::{list_keys, read_object, too_many},
    snapshots::{Unreadable, chain, read_record, remove_intents},
    store::{PutMode, StoreError},
};

/// Records of one kind that are read at most: a bucket that shows more is not one that we wrote.
const RECORDS_MAX: usize = 4096;

/// Bytes of them, all together.
const RECORDS_BYTES_MAX: usize = 64 << 20;

/// How long an upload that failed waits for its intent to go.
const WITHDRAW_MAX: Duration = Duration::from_secs(10);

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

    /// Why the upload really failed: of a snapshot that was deleted or given up meanwhile, a prune may have removed packs
    /// that it went on with.
    pub(super) async fn or_decided(&self, error: RepositoryError) -> RepositoryError {
        if error.is_of_one_object()
            && let Err(decided @ RepositoryError::Deleted { .. }) = self.refuse_decided().await
        {
            tracing::debug!(error = &error as &dyn std::error::Error, "what was met");
            return decided;
        }
        error
    }

    fn decided(&self, record: &SnapshotRecord) -> RepositoryError {
        let snapshot = self.request.snapshot_id.to_string();
        match record {
            SnapshotRecord::Manifest(..) => RepositoryError::AlreadyCommitted { snapshot },
            SnapshotRecord::Tombstone(..) => RepositoryError::Deleted { snapshot },
        }
    }

    /// Puts the intent: from now on a prune spares what it names. To be withdrawn if anything fails before a pack is whole.
    pub(super) async fn announce(
        &self,
        base: Option<Base>,
        adopts: Vec<AdoptedRun>,
    ) -> Result<(), RepositoryError> {
        let intent = Intent {
            snapshot_id: self.request.snapshot_id.clone(),
            volume_id: self.request.volume_id.clone(),
            run: self.run,
            base,
            adopts,
            started_at: self.started_at,
            host: host(),
            tool: tool(),
            void: false,
        };
        let key = intent_key(&self.request.snapshot_id, self.run);
        let object = self.sealer.seal_record(&key, &intent).map_err(unstorable)?;
        self.progress.requested(1);
        let put = self
            .repository
            .store()
            .put(&key, Bytes::from(object.bytes), PutMode::Overwrite);
        Ok(put.await?)
    }

    /// The packs that prunes are about to delete; `None` if that cannot be known.
    pub(super) async fn condemned(&self) -> Result<Option<HashSet<PackName>>, RepositoryError> {
        let mut packs = HashSet::new();
        for list in self.records::<Condemned>(CONDEMNED_PREFIX).await? {
            match list {
                Some(list) => packs.extend(list.packs),
                None => return Ok(None),
            }
        }
        Ok(Some(packs))
    }

    /// All records below a prefix; `None` for one that cannot be read.
    ///
    /// # Errors
    /// [`RepositoryError::TooMany`] for more than anybody writes.
    pub(super) async fn records<R: Record>(
        &self,
        prefix: &str,
    ) -> Result<Vec<Option<R>>, RepositoryError> {
        let store = self.repository.store();
        let mut records = Vec::new();
        let mut bytes = 0;
        self.progress.requested(1);
        let keys = list_keys(&**store, prefix).await?;
        too_many(prefix, "records", keys.len(), RECORDS_MAX)?;
        for meta in keys {
            self.progress.requested(1);
            let read = match read_object(&**store, &meta.key, R::OBJECT_MAX).await {
                // It was just removed: its owner is done with it.
                Ok(None) => continue,
                Ok(Some(object)) => {
                    bytes += object.len();
                    too_many(prefix, "bytes of records", bytes, RECORDS_BYTES_MAX)?;
                    self.sealer
                        .open_record::<R>(&meta.key, &object)
                        .map_err(|source| RepositoryError::object(&meta.key, None, source))
                }
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

    /// Makes sure that what the snapshot needs is there, locks it, where that is asked for, and commits it.
    pub(super) async fn finish(
        &self,
        manifest: &mut Manifest,
        written: &mut Written,
        cancel: &CancellationToken,
    ) -> Result<(), RepositoryError> {
        let has_sent = written.has_sent;
        let needed = std::mem::take(&mut written.needed);
        let ready = async {
            heeding(cancel, self.require_packs(needed)).await?;
            self.lock(manifest, &written.made, cancel).await
        };
        let (error, is_over) = match ready.await {
            Err(error) => (error, true),
            Ok(()) => match self.commit(manifest).await {
                Ok(()) => return Ok(()),
                // After any other error the manifest may be there.
                Err(error) => {
                    let is_over = matches!(
                        error,
                        RepositoryError::AlreadyCommitted { .. }
                            | RepositoryError::Deleted { .. }
                            | RepositoryError::Unstorable { .. }
                    );
                    (error, is_over)
                }
            },
        };
        if is_over && !has_sent {
            self.withdraw().await;
        }
        Err(self.or_decided(error).await)
    }

    async fn lock(
        &self,
        manifest: &mut Manifest,
        made: &Made,
        cancel: &CancellationToken,
    ) -> Result<(), RepositoryError> {
        if let Some(policy) = self.request.settings.lock {
            let locking = lock::extend(self.repository, policy, manifest, made, self.progress);
            manifest.lock = Some(heeding(cancel, locking).await?);
        }
        Ok(())
    }

    /// Puts the manifest where nothing is yet. This is the commit.
    async fn commit(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        let key = manifest.object_key();
        let object = self
            .sealer
            .seal_record(&key, manifest)
            .map_err(unstorable)?;
        let body = Bytes::from(object.bytes);
        let store = self.repository.store();
        self.progress.requested(1);
        let Err(error) = lock::put_manifest(&**store, &key, body, manifest).await else {
            return Ok(());
        };
        // Refused, or no answer: what lies there now decides.
        let found = match store.get(&key, SMALL_OBJECT_MAX).await {
            Ok(found) => found,
            // Who decided cannot be seen now; it may be a moment later.
            Err(unseen) if matches!(error, StoreError::AlreadyExists { .. }) => {
                return Err(unseen.into());
            }
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
        let delete = self.repository.store().delete(&key);
        match tokio::time::timeout(WITHDRAW_MAX, delete).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                intent = key,
                error = &error as &dyn std::error::Error,
                "the intent is still there"
            ),
            Err(_) => tracing::warn!(
                intent = key,
                "the bucket does not answer: the intent is still there"
            ),
        }
    }

    /// Says in the intent that what this attempt read is worth nothing. The intent itself stays, since a prune has to know whose the
    /// packs are.
    pub(super) async fn mark_void(&self) {
        let key = intent_key(&self.request.snapshot_id, self.run);
        let marking = async {
            let store = self.repository.store();
            self.progress.requested(2);
            let Some(object) = read_object(&**store, &key, Intent::OBJECT_MAX).await? else {
                // Somebody has decided the snapshot.
                return Ok(());
            };
            let (intent, _) = self
                .sealer
                .open_record::<Intent>(&key, &object)
                .map_err(|source| RepositoryError::object(&key, None, source))?;
            let intent = Intent {
                void: true,
                ..intent
            };
            let object = self.sealer.seal_record(&key, &intent).map_err(unstorable)?;
            let body = Bytes::from(object.bytes);
            Ok::<(), RepositoryError>(store.put(&key, body, PutMode::Overwrite).await?)
        };
        let marked = tokio::time::timeout(WITHDRAW_MAX, marking).await;
        let why = match marked {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(&error),
            Err(_) => "the bucket does not answer".to_owned(),
        };
        tracing::warn!(
            intent = key,
            why,
            "the intent does not say that its source was void: a later attempt has to find that out itself"
        );
    }

    /// Removes the intents of all attempts at the snapshot: it is committed, and none of them can commit any more.
    pub(super) async fn clear_intents(&self) {
        let (volume, snapshot) = (&self.request.volume_id, &self.request.snapshot_id);
        let own = Some(self.run);
        let cleared = remove_intents(self.repository, volume, snapshot, own, Unreadable::Stays);
        match cleared.await {
            Ok(requests) => self.progress.requested(requests),
            Err(error) => tracing::warn!(
                %snapshot,
                error = &error as &dyn std::error::Error,
                "intents are still there"
            ),
        }
    }
}

/// The name of this host, for people who wonder whose intent it is.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    name.chars().take(63).collect()
}
