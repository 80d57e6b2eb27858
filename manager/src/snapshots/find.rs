//! Finding the copies of a snapshot: in the catalog, else in the storage itself and in the buckets.

use stockpot_driver::{SnapshotId, SnapshotInfo};
use stockpot_repository::{Repository, format::manifest::Manifest};

use crate::{
    Manager, ManagerError,
    catalog::{CopyState, Deleting, SnapshotRow},
    cloud::{self, Found},
    error::chain,
    ids,
};

/// The cloud copy of a snapshot, as one may restore from it.
#[derive(Debug)]
pub(crate) enum CloudCopy {
    /// It is committed.
    Committed(Repository, Box<Manifest>),
    /// The snapshot is known and has none that can be used; the text says why.
    Unusable(String),
    /// Nobody knows the snapshot.
    Unknown,
}

impl Manager {
    /// The local copy and the pool it lies in, checked in the storage itself.
    pub(crate) async fn local_copy(
        &self,
        row: Option<&SnapshotRow>,
        id: &SnapshotId,
    ) -> Result<Option<(String, SnapshotInfo)>, ManagerError> {
        if let Some(row) = row {
            let going = matches!(row.deleting, Some(Deleting::Both | Deleting::Local));
            if row.local != CopyState::Present || going {
                return Ok(None);
            }
            let found = self.driver(&row.pool)?.snapshot(id).await?;
            if found.is_none() {
                tracing::warn!(snapshot_id = %id, pool = row.pool, "the local copy on record is gone");
            }
            return Ok(found.map(|info| (row.pool.clone(), info)));
        }
        // The catalog may have been lost: the storage knows what it holds. Of another node's that would only be its word.
        let mut problem = None;
        for pool in self.config.pools.iter().filter(|pool| !pool.is_remote()) {
            match self.driver(pool.name())?.snapshot(id).await {
                Ok(Some(info)) => return Ok(Some((pool.name().to_owned(), info))),
                Ok(None) => {}
                // It matters only if no other pool has it.
                Err(error) => problem = Some(error),
            }
        }
        match problem {
            Some(error) => Err(error.into()),
            None => Ok(None),
        }
    }

    /// The cloud copy, read from the bucket.
    pub(crate) async fn cloud_copy(
        &self,
        row: Option<&SnapshotRow>,
        id: &SnapshotId,
    ) -> Result<CloudCopy, ManagerError> {
        if let Some(reason) = row.and_then(unusable) {
            return Ok(CloudCopy::Unusable(reason));
        }
        let Some(short_id) = ids::repository_of(id) else {
            return Ok(CloudCopy::Unknown);
        };
        let (profile, repository) = match row {
            // Another profile's bucket may show the same short id.
            Some(row) => match self.repository_of_row(row).await {
                Err(ManagerError::NoProfileLeads { .. }) => {
                    return Ok(CloudCopy::Unusable(format!(
                        "no profile leads to repository {short_id}"
                    )));
                }
                found => found?,
            },
            None => match self.clouds.by_short_id(short_id).await? {
                Some(found) => found,
                None => return Ok(CloudCopy::Unknown),
            },
        };
        let volume = row.map(|row| &row.volume_id);
        let found = cloud::look_up(&repository, volume, id).await;
        if found.as_ref().is_err_and(cloud::may_be_credentials) {
            self.clouds.forget(&profile);
        }
        let place = repository.location();
        Ok(match (found?, row.is_some()) {
            (Found::Committed(manifest), _) => CloudCopy::Committed(repository, manifest),
            (Found::Uploading, _) => CloudCopy::Unusable("its upload is not complete".to_owned()),
            (Found::Deleted, true) => CloudCopy::Unusable(format!("it was deleted in {place}")),
            (Found::Absent, true) => CloudCopy::Unusable(format!("{place} does not show it")),
            (Found::Deleted | Found::Absent, false) => CloudCopy::Unknown,
        })
    }

    /// As [`cloud_copy`](Self::cloud_copy), and what was written first where that has been deleted or overwritten since.
    pub(crate) async fn cloud_copy_to_restore(
        &self,
        row: Option<&SnapshotRow>,
        id: &SnapshotId,
    ) -> Result<CloudCopy, ManagerError> {
        let found = self.cloud_copy(row, id).await;
        let may_be_covered = match &found {
            Ok(CloudCopy::Committed(..)) => false,
            Ok(CloudCopy::Unusable(_) | CloudCopy::Unknown) => true,
            // Whatever it is that no profile leads to the copy: it may be found below.
            Err(error) => !error.is_passing(),
        };
        if !may_be_covered {
            return found;
        }
        match self.first_cloud_copy(row, id).await {
            Ok(Some((repository, manifest))) => {
                tracing::error!(
                    snapshot_id = %id,
                    location = repository.location(),
                    "the cloud copy can be seen only as it was first written: somebody has deleted or overwritten objects of \
                     this repository"
                );
                Ok(CloudCopy::Committed(repository, manifest))
            }
            Ok(None) => found,
            Err(error) => {
                tracing::warn!(
                    snapshot_id = %id,
                    error = chain(&error),
                    "nor can it be seen whether an earlier version of the cloud copy is there"
                );
                found
            }
        }
    }

    /// The cloud copy as it was first written, where the bucket keeps versions. One that we deleted stays deleted.
    pub(crate) async fn first_cloud_copy(
        &self,
        row: Option<&SnapshotRow>,
        id: &SnapshotId,
    ) -> Result<Option<(Repository, Box<Manifest>)>, ManagerError> {
        if row.and_then(unusable).is_some() {
            return Ok(None);
        }
        let Some(short_id) = ids::repository_of(id) else {
            return Ok(None);
        };
        let sent_with = row.map(|row| row.profile.as_str());
        let first = self.clouds.first_versions(short_id, sent_with).await?;
        let Some(repository) = first else {
            return Ok(None);
        };
        let volume = row.map(|row| &row.volume_id);
        match cloud::look_up(&repository, volume, id).await? {
            Found::Committed(manifest) => Ok(Some((repository, manifest))),
            Found::Deleted | Found::Uploading | Found::Absent => Ok(None),
        }
    }
}

/// Why the cloud copy of a snapshot on record cannot be used, as far as the record says.
fn unusable(row: &SnapshotRow) -> Option<String> {
    if matches!(row.deleting, Some(Deleting::Both | Deleting::Cloud)) {
        return Some("it is being deleted".to_owned());
    }
    match row.cloud {
        CopyState::Present => None,
        CopyState::Pending => Some("its upload is not complete".to_owned()),
        CopyState::None => Some("it has only a local copy".to_owned()),
        CopyState::Deleted => Some("its cloud copy was deleted".to_owned()),
        CopyState::Failed => Some(match &row.error {
            Some(error) => format!("its upload failed: {}", error.text),
            None => "its upload failed".to_owned(),
        }),
    }
}
