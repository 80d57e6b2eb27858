//! Removing copies of a snapshot.
//!
//! A running upload is cancelled first. A deletion never waits for what was made from the snapshot: a volume that is being
//! restored from the cloud copy goes on, since a tombstone removes no data; volumes made from the local copy are
//! independent of it. Once a deletion is on record it is carried on by asking again or at the next start.

use std::{sync::Arc, time::Duration};

use stockpot_driver::{DriverError, SnapshotId};
use stockpot_repository::Repository;

use crate::{
    Manager, ManagerError, attach,
    catalog::{CopyState, Deleting, JobKind, SnapshotRow},
    cloud,
    error::chain,
    fault, ids,
    profile::Profile,
};

/// How long a cancelled upload may take to undo what it did.
const CANCEL_WITHIN: Duration = Duration::from_secs(30);

impl Manager {
    /// Removes the copies named. What is not there is success.
    pub(crate) async fn delete_snapshot(
        self: Arc<Self>,
        id: String,
        which: Deleting,
    ) -> Result<(), ManagerError> {
        // Nothing can have another id: it is as good as deleted.
        let Ok(id) = id.parse::<SnapshotId>() else {
            return Ok(());
        };
        let _held = self.hold_snapshot(&id).await?;
        match self.catalog.snapshot(&id).await? {
            Some(row) => self.delete_known(row, which).await?,
            None => self.delete_unknown(&id, which).await?,
        }
        self.notify();
        Ok(())
    }

    /// Removes copies of a snapshot on record. The caller holds its lock, or is the recovery.
    pub(crate) async fn delete_known(
        &self,
        row: SnapshotRow,
        which: Deleting,
    ) -> Result<(), ManagerError> {
        let id = &row.id;
        if which == Deleting::Local
            && matches!(row.deleting, Some(Deleting::Both | Deleting::Cloud))
        {
            return self.delete_local_first(&row).await;
        }
        // A deletion that was begun is never narrowed.
        let which = match row.deleting {
            Some(begun) if begun != which => Deleting::Both,
            _ => which,
        };
        let (local, remote) = match which {
            Deleting::Both => (true, true),
            Deleting::Local => (true, false),
            // A base without its cloud copy is of no use.
            Deleting::Cloud => (row.kept_as_base, true),
        };
        if local {
            self.check_not_being_read(id).await?;
        }
        let is_read = self.transfers.is_running(JobKind::Upload, id.as_str());
        if !remote && (row.cloud == CopyState::Pending || is_read) {
            return Err(ManagerError::FailedPrecondition(format!(
                "the local copy of snapshot {id} is being uploaded or sent"
            )));
        }
        self.catalog.mark_snapshot(id, Some(which)).await?;
        fault::reached("delete.marked");
        if remote {
            self.transfers
                .cancel(JobKind::Upload, id.as_str(), CANCEL_WITHIN)
                .await?;
        }
        // The upload may have committed before it was cancelled.
        let row = self.snapshot_row(id).await?;
        self.detach(&attach::Subject::Snapshot(id.clone())).await?;
        if which == Deleting::Local && self.keep_as_base(&row).await? {
            return Ok(());
        }
        if remote {
            self.remove_cloud(&row).await?;
            fault::reached("delete.cloud-removed");
        }
        if local {
            self.remove_local(&row, which).await?;
            fault::reached("delete.local-removed");
        }
        if !remote && row.cloud == CopyState::Failed {
            // The row goes, and its repository was not asked.
            self.catalog.abandon_snapshot(id).await?;
        }
        let keeps_local = !local && row.local == CopyState::Present;
        let keeps_cloud = !remote && row.cloud == CopyState::Present;
        match (keeps_local, keeps_cloud) {
            (false, false) => self.catalog.remove_snapshot(id).await?,
            (true, _) => self.catalog.cloud_copy_removed(id).await?,
            (false, true) => self.catalog.local_copy_removed(id).await?,
        }
        fault::reached("delete.snapshot-forgotten");
        tracing::info!(snapshot_id = %id, copies = %which, "a snapshot was deleted");
        Ok(())
    }

    /// Removes the local copy while the deletion of the cloud copy, begun before, waits for its repository.
    async fn delete_local_first(&self, row: &SnapshotRow) -> Result<(), ManagerError> {
        let id = &row.id;
        self.check_not_being_read(id).await?;
        self.transfers
            .cancel(JobKind::Upload, id.as_str(), CANCEL_WITHIN)
            .await?;
        self.detach(&attach::Subject::Snapshot(id.clone())).await?;
        self.driver(&row.pool)?.delete_snapshot(id).await?;
        self.catalog.local_copy_removed_first(id).await?;
        tracing::info!(snapshot_id = %id, "the local copy was deleted; the deletion of the cloud copy is still to be done");
        Ok(())
    }

    /// Decides in the repository that the snapshot is gone. One of which no committed copy is on record does not need
    /// that, so a repository that cannot be opened any more does not keep it; nor does one that refuses for any reason, if nothing
    /// was ever sent to it.
    async fn remove_cloud(&self, row: &SnapshotRow) -> Result<(), ManagerError> {
        let is_committed = match row.cloud {
            CopyState::None | CopyState::Deleted => return Ok(()),
            CopyState::Present => true,
            CopyState::Pending | CopyState::Failed => false,
        };
        let deleting = async {
            let (profile, repository) = self.repository_of_row(row).await?;
            let deleted = cloud::delete(&repository, &row.volume_id, &row.id).await;
            deleted.inspect_err(|error| self.clouds.heed(&profile, error))
        };
        let Err(error) = deleting.await else {
            return Ok(());
        };
        if is_committed {
            return Err(error);
        }
        let may_have_sent = self.catalog.has_begun_upload(&row.id).await?;
        let said = match may_have_sent {
            true if cloud::cannot_be_opened(&error) => {
                "the repository cannot be opened; a broken-off upload may have left packs there"
            }
            // What may answer later is asked later.
            false if cloud::cannot_be_opened(&error) || !error.is_passing() => {
                "the repository cannot be asked; nothing of the snapshot was ever sent there, so it is only forgotten here"
            }
            _ => return Err(error),
        };
        tracing::warn!(
            snapshot_id = %row.id,
            profile = row.profile,
            error = chain(&error),
            "{said}"
        );
        Ok(self.catalog.abandon_snapshot(&row.id).await?)
    }

    async fn remove_local(&self, row: &SnapshotRow, which: Deleting) -> Result<(), ManagerError> {
        match self.driver(&row.pool)?.delete_snapshot(&row.id).await {
            Ok(()) => Ok(()),
            Err(error @ DriverError::InUse { .. }) if which == Deleting::Local => {
                // Nothing has been removed: it is as if it had not been asked for.
                self.catalog.mark_snapshot(&row.id, None).await?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The repository of a snapshot on record: by its profile, or by any other that leads there.
    pub(crate) async fn repository_of_row(
        &self,
        row: &SnapshotRow,
    ) -> Result<(Arc<Profile>, Repository), ManagerError> {
        self.repository_of_copy(&row.profile, &row.id).await
    }

    /// The repository of a cloud copy that was sent with a profile: by that, or by any other that leads there. Whatever else shows its
    /// short id, the place of that profile is the one.
    pub(crate) async fn repository_of_copy(
        &self,
        sent_with: &str,
        id: &SnapshotId,
    ) -> Result<(Arc<Profile>, Repository), ManagerError> {
        let short_id = ids::repository_of(id).unwrap_or_default();
        let mut closed = None;
        if let Ok(profile) = self.clouds.profile(sent_with).await
            && profile.topology().is_ok()
        {
            match self.clouds.for_reading(&profile).await {
                Ok(Some(repository)) if repository.short_id() == short_id => {
                    return Ok((profile, repository));
                }
                Ok(_) => {}
                // Another profile may have the right key.
                Err(error) if cloud::cannot_be_opened(&error) => closed = Some(error),
                Err(error) => return Err(error),
            }
        }
        match (self.repository_named(short_id, id).await, closed) {
            (Err(ManagerError::NoProfileLeads { .. }), Some(error)) => Err(error),
            (found, _) => found,
        }
    }

    /// The repository that the id of a snapshot names, with the profile that leads to it.
    async fn repository_named(
        &self,
        short_id: &str,
        snapshot: &SnapshotId,
    ) -> Result<(Arc<Profile>, Repository), ManagerError> {
        match self.clouds.by_short_id(short_id).await? {
            Some(found) => Ok(found),
            None => Err(ManagerError::NoProfileLeads {
                repository: short_id.to_owned(),
                snapshot: snapshot.to_string(),
            }),
        }
    }

    /// Removes a cloud copy that is on no record, if there is one.
    async fn delete_unknown_cloud(
        &self,
        id: &SnapshotId,
        short_id: &str,
    ) -> Result<(), ManagerError> {
        let asked = async {
            let (profile, repository) = self.repository_named(short_id, id).await?;
            if let Some(volume) = cloud::volume_of(&repository, id).await? {
                let deleted = cloud::delete(&repository, &volume, id).await;
                deleted.inspect_err(|error| self.clouds.heed(&profile, error))?;
                tracing::info!(snapshot_id = %id, location = repository.location(), "a cloud copy was deleted");
            }
            Ok(())
        };
        match asked.await {
            Err(error) if cloud::cannot_be_opened(&error) || !error.is_passing() => {
                // Deleted before, when it was on record and not committed.
                match self.catalog.is_abandoned(id).await? {
                    true => Ok(()),
                    false => Err(error),
                }
            }
            done => done,
        }
    }

    /// Removes what a lost catalog does not know: from the bucket that the id names, and from the storage.
    async fn delete_unknown(&self, id: &SnapshotId, which: Deleting) -> Result<(), ManagerError> {
        if which != Deleting::Local
            && let Some(short_id) = ids::repository_of(id)
        {
            self.delete_unknown_cloud(id, short_id).await?;
        }
        if which != Deleting::Cloud {
            for driver in self.pools.values() {
                if driver.snapshot(id).await?.is_some() {
                    driver.delete_snapshot(id).await?;
                    tracing::info!(snapshot_id = %id, "a local copy was deleted");
                }
            }
        }
        Ok(())
    }
}
