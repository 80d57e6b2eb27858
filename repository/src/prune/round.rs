//! One round: a list of condemned packs from its writing to its removal. The order of the steps is what makes it safe
//! (section 11 of the format).

use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::{
    PruneError, PruneSettings, Report, below, packs::RunKey, seen, survey::Survey, uploads,
};
use crate::{
    RepositoryError,
    format::{
        ids::{ObjectId, PackName, condemned_key},
        manifest::{now, tool},
        protocol::Condemned,
    },
    lock::{self, LockSupport, Purged},
    store::{ObjectStore, PutMode, StoreError},
};

/// How a round ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// What it condemned and nothing needs is deleted.
    Done,
    /// Somebody removed its list: it stopped before deleting anything.
    ListTaken,
}

/// Conditional writes that an endpoint may take in a row, where all but the first are to be refused.
const CONDITIONAL_TRIES: usize = 4;

/// A prune at work.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) survey: Survey,
    pub(super) settings: PruneSettings,
    pub(super) report: Report,
    /// Runs of the uploads under way when intents were listed last.
    pub(super) living: Vec<RunKey>,
    /// The store's clock when the last list was put.
    pub(super) now_s: i64,
    pub(super) is_tried: bool,
    /// Whether manifests that are old versions only were looked for since the plan.
    pub(super) is_looked_below: bool,
}

impl Rounds {
    /// Condemns the next packs that nothing is known to need, and deletes those that really nothing needs.
    pub(super) async fn round(&mut self) -> Result<Ended, PruneError> {
        let victims = self
            .survey
            .table()
            .unneeded(self.settings.packs_per_round.max(1));
        let prune_id = ObjectId::generate("prune").map_err(unstorable)?;
        let key = condemned_key(&prune_id);
        let list = Condemned {
            prune_id,
            packs: victims,
            created_at: now(),
            tool: tool(),
        };
        self.put(&key, &list).await?;
        let ended = self.within(&key, list).await;
        // Whatever happened: from here nothing is deleted by this list.
        let removed = self.survey.repository.store().delete(&key).await;
        let ended = ended?;
        removed?;
        Ok(ended)
    }

    async fn put(&self, key: &str, list: &Condemned) -> Result<(), PruneError> {
        let repository = &self.survey.repository;
        let object = repository
            .sealer_to_write()?
            .seal_record(key, list)
            .map_err(unstorable)?;
        let body = Bytes::from(object.bytes);
        Ok(repository.store().put(key, body, PutMode::IfAbsent).await?)
    }

    /// The list is in the bucket; the steps that follow are in the order that keeps uploads and other prunes safe.
    async fn within(&mut self, key: &str, list: Condemned) -> Result<Ended, PruneError> {
        if !self.try_conditional_write(key, &list).await? {
            return Ok(Ended::ListTaken);
        }
        let Some(now_s) = self.put_at_s(key).await? else {
            return Ok(Ended::ListTaken);
        };
        self.now_s = now_s;
        let intents = self.survey.read_intents().await?;
        let mut judged = uploads::judge(&self.survey, intents, &self.settings, now_s);
        let given_up = uploads::give_up(&self.survey, &mut judged, &self.settings, now_s).await?;
        self.report.given_up.extend(given_up);
        uploads::remove(&self.survey, &judged.left_over).await?;
        self.living = judged
            .under_way
            .iter()
            .map(super::survey::Found::run)
            .collect();
        self.survey.read_snapshots().await?;
        if !self.is_looked_below {
            below::require_none_hidden(&mut self.survey).await?;
            self.is_looked_below = true;
        }
        uploads::spare(&self.survey, &judged.under_way).await?;
        self.survey.check_cancelled()?;
        // Before anything is deleted, so that a later prune knows of every snapshot that this one spared.
        seen::replace(
            &self.survey.repository,
            &self.survey.lists,
            &self.survey.snapshots,
        )
        .await?;
        self.survey.lists = seen::read(&self.survey.repository)
            .await
            .map_err(PruneError::doubt)?;
        let doomed = self.strike(list.packs);
        if self.put_at_s(key).await?.is_none() {
            return Ok(Ended::ListTaken);
        }
        self.delete(doomed).await?;
        Ok(Ended::Done)
    }

    /// The marker tells what the endpoint could do when the repository was made. It may lie elsewhere by now. Whether the list is
    /// still the one that was put: another prune that holds it for a dead one's may take it away between two writes, so that the second one
    /// says nothing yet.
    async fn try_conditional_write(
        &mut self,
        key: &str,
        list: &Condemned,
    ) -> Result<bool, PruneError> {
        if self.is_tried {
            return Ok(true);
        }
        for taken in 0..CONDITIONAL_TRIES {
            match self.put(key, list).await {
                Err(PruneError::Repository(RepositoryError::Store(
                    StoreError::AlreadyExists { .. },
                ))) => {
                    self.is_tried = true;
                    return Ok(taken == 0);
                }
                Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Err(PruneError::NotEnforced {
            location: self.survey.repository.location(),
            why: "its endpoint took one conditional write after another just now",
        })
    }

    /// When the list was put, by the store's clock; `None` if it is not there.
    async fn put_at_s(&self, key: &str) -> Result<Option<i64>, PruneError> {
        match self.survey.repository.store().head(key).await {
            Ok(meta) => Ok(Some(meta.modified_at_s)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves those that a manifest or an upload needs. Only packs of decided snapshots go: that an upload has ended is
    /// believed because of a record that is there, never because of one that is not.
    fn strike(&self, condemned: Vec<PackName>) -> Vec<PackName> {
        let mut table = self.survey.table();
        let mut doomed = Vec::with_capacity(condemned.len());
        for name in condemned {
            let place = (name.volume.clone(), name.snapshot.clone());
            if !self.survey.snapshots.contains_key(&place) {
                table.spare(&name);
            } else if table.is_unneeded(&name) {
                doomed.push(name);
            }
        }
        doomed
    }

    async fn delete(&mut self, doomed: Vec<PackName>) -> Result<(), PruneError> {
        let survey = &self.survey;
        let store = &**survey.repository.store();
        // A plain deletion would only hide what is locked.
        let locks = can_lock(store).await?;
        let mut deleting = stream::iter(doomed)
            .map(|name| async move {
                if survey.cancel.is_cancelled() {
                    return (name, None);
                }
                let key = name.object_key();
                let deleted = if locks {
                    lock::purge(store, &key).await
                } else {
                    lock::delete(store, &key).await
                };
                (name, Some(deleted))
            })
            .buffer_unordered(self.settings.deletes_in_flight.max(1));
        let (mut failed, mut held, mut locked_until) = (None, None, None);
        while let Some((name, deleted)) = deleting.next().await {
            match deleted {
                None => {}
                Some(Ok(Purged::Gone)) => survey.table().gone(&name, false),
                Some(Ok(Purged::Hidden)) => survey.table().gone(&name, true),
                Some(Ok(Purged::KeptUntil(until_s))) => {
                    survey.table().held(&name);
                    locked_until = locked_until.max(Some(until_s));
                }
                Some(Err(
                    error @ (StoreError::AccessDenied { .. } | StoreError::Refused { .. }),
                )) => {
                    survey.table().held(&name);
                    held.get_or_insert(error);
                }
                Some(Err(error)) => {
                    failed.get_or_insert(error);
                    break;
                }
            }
        }
        drop(deleting);
        if let Some(error) = held {
            self.report
                .held_because
                .get_or_insert_with(|| crate::snapshots::chain(&error));
        }
        if let Some(until_s) = locked_until {
            self.report
                .held_because
                .get_or_insert_with(|| locked(until_s));
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.survey.check_cancelled()?;
        Ok(())
    }
}

/// Whether the bucket locks what is in it.
async fn can_lock(store: &dyn ObjectStore) -> Result<bool, StoreError> {
    let Some(versions) = store.versions() else {
        return Ok(false);
    };
    match versions.lock_support().await {
        Ok(support) => Ok(matches!(support, LockSupport::Enabled { .. })),
        Err(StoreError::AccessDenied { .. }) => {
            tracing::warn!(
                "the credentials may not ask whether the bucket locks objects: what it has locked is hidden, not deleted"
            );
            Ok(false)
        }
        // A store that knows nothing of locks.
        Err(StoreError::Refused { .. } | StoreError::Unsupported { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn locked(until_s: i64) -> String {
    match Timestamp::from_second(until_s) {
        Ok(until) => format!("locked in the bucket, the last of them until {until}"),
        Err(_) => "locked in the bucket".to_owned(),
    }
}

fn unstorable(source: crate::format::FormatError) -> PruneError {
    PruneError::Repository(RepositoryError::Unstorable {
        what: "the list of condemned packs".to_owned(),
        source,
    })
}
