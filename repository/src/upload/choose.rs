//! What an upload is to build on, and why: chosen before anything is promised.

mod newest;

use jiff::Timestamp;

use self::newest::Newest;
use super::{BaseChoice, SnapshotRef, commit::Attempt};
use crate::{
    RepositoryError,
    format::manifest::{Base, SnapshotRecord},
    snapshots::read_record,
};

/// What is to be built on, if it is still there once the intent is.
pub(super) struct Chosen {
    pub(super) base: Option<Base>,
    /// When the base's own upload began.
    pub(super) base_started_at: Option<Timestamp>,
    /// Whether what changed since then is told.
    pub(super) told: bool,
    pub(super) why: String,
}

impl Attempt<'_> {
    /// The manifest to build on, before anything is promised.
    ///
    /// # Errors
    /// A base that was asked for by name and is not there; whatever the store says.
    pub(super) async fn choose(&self) -> Result<Chosen, RepositoryError> {
        let mut note = "what changed is not known".to_owned();
        if self.request.base != BaseChoice::Nothing
            && let Some(changes) = &self.request.changes
        {
            match self.committed(&changes.since).await? {
                Ok((base, started_at)) => {
                    return Ok(Chosen {
                        base: Some(base),
                        base_started_at: Some(started_at),
                        told: true,
                        why: String::new(),
                    });
                }
                Err(problem) => {
                    let since = &changes.since.snapshot_id;
                    note = format!("what changed is known since {since} only, {problem}");
                    tracing::warn!(%since, problem, "what changed cannot be used: all is read and compared");
                }
            }
        }
        let (base, why) = match &self.request.base {
            BaseChoice::Nothing => (None, "a full copy was asked for".to_owned()),
            BaseChoice::Snapshot(snapshot) => (Some(self.named(snapshot).await?), note),
            BaseChoice::Newest | BaseChoice::NewestFrom(_) | BaseChoice::NewestOr(_) => {
                let Newest { found, passed } = self.newest().await?;
                let none = passed.as_deref();
                let none = none.unwrap_or("no earlier snapshot of the volume is in the repository");
                match (found, &self.request.base) {
                    (Some(newest), _) => {
                        let passed = passed.iter().map(|passed| format!("; {passed}"));
                        (
                            Some(newest),
                            passed.fold(note, |note, passed| note + &passed),
                        )
                    }
                    (None, BaseChoice::NewestOr(origin)) => self.origin(origin, none, note).await?,
                    (None, _) => (None, none.to_owned()),
                }
            }
        };
        let (base_started_at, base) = base.unzip();
        Ok(Chosen {
            base,
            base_started_at,
            told: false,
            why,
        })
    }

    /// A snapshot that was asked for by name.
    async fn named(&self, snapshot: &SnapshotRef) -> Result<(Timestamp, Base), RepositoryError> {
        let id = &snapshot.snapshot_id;
        match read_record(self.repository, &snapshot.volume_id, id).await? {
            Some(SnapshotRecord::Manifest(manifest, nonce)) => {
                Ok((manifest.started_at, manifest.as_base(nonce)))
            }
            Some(SnapshotRecord::Tombstone(..)) => Err(RepositoryError::Deleted {
                snapshot: id.to_string(),
            }),
            None => Err(RepositoryError::UnknownSnapshot {
                snapshot: id.to_string(),
                location: self.repository.location(),
            }),
        }
    }

    /// The snapshot that the volume was made from, and why it is built on, or why not.
    async fn origin(
        &self,
        origin: &SnapshotRef,
        none: &str,
        note: String,
    ) -> Result<(Option<(Timestamp, Base)>, String), RepositoryError> {
        let id = &origin.snapshot_id;
        Ok(match self.committed(origin).await? {
            Ok((base, started_at)) => {
                let why = format!("{note}; the volume was made from {id}");
                (Some((started_at, base)), why)
            }
            Err(problem) => {
                tracing::warn!(%id, problem, "the snapshot that the volume was made from cannot be built on: all data is sent");
                let why = format!("{none}, and it was made from {id}, {problem}");
                (None, why)
            }
        })
    }

    /// A snapshot that would be built on, or why it is of no use.
    async fn committed(
        &self,
        snapshot: &SnapshotRef,
    ) -> Result<Result<(Base, Timestamp), &'static str>, RepositoryError> {
        self.progress.requested(1);
        let (volume, id) = (&snapshot.volume_id, &snapshot.snapshot_id);
        match read_record(self.repository, volume, id).await {
            Ok(Some(SnapshotRecord::Manifest(manifest, nonce))) => {
                Ok(Ok((manifest.as_base(nonce), manifest.started_at)))
            }
            Ok(Some(SnapshotRecord::Tombstone(..))) => Ok(Err("which was deleted")),
            Ok(None) => Ok(Err("which is not in the repository")),
            Err(error) if error.is_of_one_object() => Ok(Err("which cannot be read")),
            Err(error) => Err(error),
        }
    }
}
