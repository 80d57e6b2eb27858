//! Where a new volume's content comes from, decided and checked before anything is made.

use stockpot_driver::{SnapshotId, VolumeId};
use stockpot_proto::stockpot::v1::{self as api, create_volume_request::Source};

use crate::{
    Manager, ManagerError,
    catalog::{SourceCopy, VolumeSource},
    error::chain,
    locks::{Held, Subject},
    snapshots::CloudCopy,
    translate,
};

/// The source that a request names.
pub(super) fn asked(request: &api::CreateVolumeRequest) -> Result<VolumeSource, ManagerError> {
    match &request.source {
        None => Ok(VolumeSource::Empty),
        Some(Source::Snapshot(source)) => {
            let id = source.snapshot_id.parse().map_err(|_| {
                ManagerError::NotFound(format!("snapshot {:?}", source.snapshot_id))
            })?;
            Ok(VolumeSource::Snapshot(
                id,
                translate::asked_copy(source.copy()),
            ))
        }
        Some(Source::VolumeId(id)) => match id.parse() {
            Ok(id) => Ok(VolumeSource::Volume(id)),
            Err(_) => Err(ManagerError::NotFound(format!("volume {id:?}"))),
        },
    }
}

/// How the content gets there.
#[derive(Debug)]
pub(super) enum How {
    /// Not at all.
    Empty,
    /// The storage copies a local snapshot.
    Local(SnapshotId),
    /// The storage copies a volume.
    Clone(VolumeId),
    /// From the bucket.
    Restore,
}

/// What has been found about a source.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) how: How,
    /// Name of the pool that the volume will lie in.
    pub(super) pool: String,
    /// The least size of the volume.
    pub(super) least_bytes: u64,
    /// Keeps the source from going away until the volume is made.
    pub(super) _held: Option<Held>,
}

impl Manager {
    /// Finds the source. `pool` is the request's, empty for whatever suits the source.
    pub(super) async fn origin(
        &self,
        source: &VolumeSource,
        pool: &str,
    ) -> Result<Origin, ManagerError> {
        // Whatever else is wrong: nothing is in a pool that there is not.
        self.pool_of(pool)?;
        match source {
            // Nobody asks for a volume like that; it would be an empty one.
            VolumeSource::Empty | VolumeSource::Adopted => Ok(Origin {
                how: How::Empty,
                pool: self.pool_of(pool)?.to_owned(),
                least_bytes: 1,
                _held: None,
            }),
            VolumeSource::Volume(id) => self.clone_origin(id, pool).await,
            VolumeSource::Snapshot(id, copy) => self.snapshot_origin(id, *copy, pool).await,
        }
    }

    async fn clone_origin(&self, id: &VolumeId, pool: &str) -> Result<Origin, ManagerError> {
        let held = self.hold_volume(id).await?;
        let row = self.volume_row(id.as_str()).await?;
        if !row.status.is_there() {
            return Err(ManagerError::FailedPrecondition(format!(
                "volume {id} is {}, not available",
                row.status
            )));
        }
        if !pool.is_empty() && pool != row.pool {
            return Err(ManagerError::InvalidArgument(format!(
                "volume {id} lies in pool {} and cannot be cloned into pool {pool}",
                row.pool
            )));
        }
        Ok(Origin {
            how: How::Clone(id.clone()),
            pool: row.pool,
            least_bytes: row.size_bytes,
            _held: Some(held),
        })
    }

    async fn snapshot_origin(
        &self,
        id: &SnapshotId,
        copy: SourceCopy,
        pool: &str,
    ) -> Result<Origin, ManagerError> {
        let held = self.locks.hold(Subject::Snapshot(id.to_string())).await?;
        let row = self.catalog.snapshot(id).await?;
        let (mut elsewhere, mut away) = (None, None);
        let local = match copy {
            SourceCopy::Cloud => None,
            SourceCopy::Local => self.local_copy(row.as_ref(), id).await?,
            SourceCopy::Auto => match self.local_copy(row.as_ref(), id).await {
                Err(error) if error.is_passing() => {
                    tracing::warn!(
                        snapshot_id = %id,
                        error = chain(&error),
                        "the storage that has the local copy does not answer: the cloud copy is used"
                    );
                    away = Some(error);
                    None
                }
                found => found?,
            },
        };
        if let Some((found, info)) = local {
            if pool.is_empty() || pool == found {
                return Ok(Origin {
                    how: How::Local(id.clone()),
                    pool: found,
                    least_bytes: info.size_bytes,
                    _held: Some(held),
                });
            }
            elsewhere = Some(found);
        }
        // A bucket may be slow, and a deletion must not wait for it.
        drop(held);
        if copy == SourceCopy::Local {
            return Err(match (elsewhere, row) {
                (Some(found), _) => ManagerError::FailedPrecondition(format!(
                    "the local copy of snapshot {id} lies in pool {found}, not in {pool}"
                )),
                (None, Some(_)) => no_local(id),
                // It may be one of another node, or one whose local copy the lost catalog knew.
                (None, None) => match self.cloud_copy(None, id).await? {
                    CloudCopy::Unknown => ManagerError::NotFound(format!("snapshot {id}")),
                    CloudCopy::Committed(..) | CloudCopy::Unusable(_) => no_local(id),
                },
            });
        }
        let cloud = self.cloud_copy_to_restore(row.as_ref(), id).await?;
        // There is a local copy, or there may be: that is what is to be waited for.
        if let (Some(error), CloudCopy::Unusable(_) | CloudCopy::Unknown) = (away, &cloud) {
            return Err(error);
        }
        match cloud {
            CloudCopy::Committed(_, manifest) => Ok(Origin {
                how: How::Restore,
                pool: self.pool_of(pool)?.to_owned(),
                least_bytes: manifest.size_bytes,
                // A tombstone removes no data: what is being restored needs no protection.
                _held: None,
            }),
            CloudCopy::Unusable(why) => Err(ManagerError::FailedPrecondition(format!(
                "snapshot {id} cannot be restored from the cloud: {why}"
            ))),
            CloudCopy::Unknown if row.is_some() || elsewhere.is_some() => Err(
                ManagerError::FailedPrecondition(format!("snapshot {id} has no cloud copy")),
            ),
            CloudCopy::Unknown => Err(ManagerError::NotFound(format!("snapshot {id}"))),
        }
    }
}

fn no_local(id: &SnapshotId) -> ManagerError {
    ManagerError::FailedPrecondition(format!("the local copy of snapshot {id} is gone"))
}
