//! What an upload builds on: the newest cloud copy of the same volume whose local snapshot is still there, for only then
//! the storage can tell what changed since. The first upload of a volume that was made from a snapshot builds on that
//! snapshot's cloud copy.
//!
//! So the local snapshot of a volume's newest cloud copy is kept when its local copy is deleted: it takes room in the
//! pool, and is no copy that a volume can be made from. It is given back when a newer one is committed, when the
//! volume or the cloud copy is deleted, and when the pool runs full. Without one, the next upload reads everything
//! and compares, and says so.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use stockpot_driver::{ByteRange, SnapshotId, VolumeId};

use stockpot_repository::{Repository, upload::SnapshotRef};

use crate::{
    Manager, ManagerError,
    catalog::{CopyState, InPlaceStage, SnapshotRow, VolumeSource},
    cloud,
    error::chain,
    ids,
    locks::Subject,
};

/// What is known of the changes since an earlier cloud copy.
#[derive(Debug)]
pub(super) enum Delta {
    /// Outside of these ranges nothing differs from that snapshot of that volume.
    Told(SnapshotRef, Vec<Range<u64>>),
    /// Nothing; why, in words.
    Unknown(String),
}

impl Manager {
    /// The snapshot that the volume of a snapshot was made from, if its cloud copy is in the same repository.
    pub(super) async fn origin_of(
        &self,
        repository: &Repository,
        row: &SnapshotRow,
    ) -> Result<Option<SnapshotRef>, ManagerError> {
        let volume = self.catalog.volume(&row.volume_id).await?;
        let Some(VolumeSource::Snapshot(id, _)) = volume.map(|volume| volume.source) else {
            return Ok(None);
        };
        if ids::repository_of(&id) != ids::repository_of(&row.id) {
            return Ok(None);
        }
        let volume = match self.catalog.snapshot(&id).await? {
            Some(origin) if origin.cloud == CopyState::Present => Some(origin.volume_id),
            Some(_) => None,
            // Cut on another node, or by one whose catalog was lost.
            None => cloud::volume_of(repository, &id).await?,
        };
        let reference = |volume: VolumeId| {
            Ok::<_, ManagerError>(SnapshotRef {
                volume_id: cloud::format_volume(&volume)?,
                snapshot_id: cloud::format_snapshot(&id)?,
            })
        };
        volume.map(reference).transpose()
    }

    /// What changed in a snapshot since the newest cloud copy in the same repository that can be asked about, or since the
    /// one that its volume was made from.
    pub(super) async fn delta(
        &self,
        row: &SnapshotRow,
        cut: Option<&SnapshotId>,
        origin: Option<&SnapshotRef>,
    ) -> Result<Delta, ManagerError> {
        let Some(cut) = cut else {
            let why = "the volume itself was read, of which the storage cannot tell what changed";
            return Ok(Delta::Unknown(why.to_owned()));
        };
        let mut earlier = self.catalog.snapshots().await?;
        let devices = self.devices(&earlier).await?;
        earlier.retain(|base| is_earlier(base, row));
        earlier.sort_by_key(|base| Reverse(base.cut_at_us));
        if let Some(why) = self.drop_earlier_content(row, &mut earlier).await? {
            tracing::warn!("{why}: everything is read and compared");
            return Ok(Delta::Unknown(why));
        }
        if earlier.is_empty() {
            let first = "it is the first cloud copy of the volume";
            let Some(origin) = origin else {
                return Ok(Delta::Unknown(first.to_owned()));
            };
            let id = &origin.snapshot_id;
            let made_from = match id.as_str().parse() {
                Ok(id) => self.catalog.snapshot(&id).await?,
                Err(_) => None,
            };
            let base = made_from.filter(|base| base.pool == row.pool);
            let device = base.as_ref().and_then(|base| devices.get(&base.id));
            return match base.as_ref().zip(device) {
                Some((base, device)) => self.ask(base, device, cut).await,
                None => Ok(Delta::Unknown(format!(
                    "{first}, and the local snapshot of {id}, which it was made from, is gone"
                ))),
            };
        }
        let with_device = |base: &SnapshotRow| devices.get(&base.id).cloned();
        let base = earlier
            .iter()
            .find_map(|base| with_device(base).map(|device| (base, device)));
        let Some((base, device)) = base else {
            let why = format!(
                "the local snapshot of {}, the cloud copy before, is gone",
                earlier[0].id
            );
            tracing::warn!("{why}: everything is read and compared");
            return Ok(Delta::Unknown(why));
        };
        self.ask(base, &device, cut).await
    }

    /// The snapshot in the storage that each of these cloud copies shows, where there is one: its own, or the one that it was
    /// read from.
    async fn devices(
        &self,
        rows: &[SnapshotRow],
    ) -> Result<BTreeMap<SnapshotId, SnapshotId>, ManagerError> {
        let own = rows.iter().filter(|row| has_device(row));
        let own: BTreeMap<_, _> = own.map(|row| (row.id.clone(), row.id.clone())).collect();
        let mut devices = self.catalog.kept_sources().await?;
        devices.retain(|_, source| own.contains_key(source));
        devices.extend(own);
        Ok(devices)
    }

    /// Takes out what shows another content than the volume had since something was restored into it. Why nothing is left, if that
    /// is why.
    async fn drop_earlier_content(
        &self,
        row: &SnapshotRow,
        earlier: &mut Vec<SnapshotRow>,
    ) -> Result<Option<String>, ManagerError> {
        let restored = self.catalog.in_place(&row.volume_id).await?;
        let gone = self.catalog.snapshots_of_earlier_content().await?;
        let before = earlier.len();
        earlier.retain(|base| !gone.contains(base.id.as_str()));
        let was_restored = earlier.len() < before
            || restored.is_some_and(|restored| restored.stage == InPlaceStage::Done);
        let why = "it is the first cloud copy since something was restored into the volume";
        Ok((earlier.is_empty() && was_restored).then(|| why.to_owned()))
    }

    /// Asks the storage what changed between the device that shows this cloud copy and the one that is read.
    async fn ask(
        &self,
        base: &SnapshotRow,
        device: &SnapshotId,
        cut: &SnapshotId,
    ) -> Result<Delta, ManagerError> {
        let driver = self.driver(&base.pool)?;
        let why = match driver.changed_ranges(device, cut).await {
            Ok(Some(changed)) => {
                let since = SnapshotRef {
                    volume_id: cloud::format_volume(&base.volume_id)?,
                    snapshot_id: cloud::format_snapshot(&base.id)?,
                };
                return Ok(Delta::Told(since, to_ranges(changed)));
            }
            Ok(None) => format!(
                "driver {} cannot tell what changed since {}",
                driver.name(),
                base.id
            ),
            Err(error) => format!(
                "what changed since {} cannot be told: {}",
                base.id,
                chain(&error)
            ),
        };
        tracing::warn!("{why}: everything is read and compared");
        Ok(Delta::Unknown(why))
    }

    /// Deletes the local copy of a snapshot but for its device, if the next upload of its volume needs that.
    pub(super) async fn keep_as_base(&self, row: &SnapshotRow) -> Result<bool, ManagerError> {
        let rows = self.catalog.snapshots().await?;
        if !has_device(row) || !self.is_needed(row, &rows).await? {
            return Ok(false);
        }
        self.catalog.local_copy_kept_as_base(&row.id).await?;
        tracing::info!(
            snapshot_id = %row.id,
            "the local copy was deleted; its device is kept, so that the next upload can be told what changed"
        );
        Ok(true)
    }

    /// Whether the next upload of its volume would ask what changed since this snapshot.
    async fn is_needed(
        &self,
        row: &SnapshotRow,
        rows: &[SnapshotRow],
    ) -> Result<bool, ManagerError> {
        let is_base = row.cloud == CopyState::Present
            && row
                .deleting
                .is_none_or(|which| which == crate::catalog::Deleting::Local);
        if !self.config.transfers.keep_base || !is_base {
            return Ok(false);
        }
        if self.catalog.volume(&row.volume_id).await?.is_none() {
            return Ok(false);
        }
        let gone = self.catalog.snapshots_of_earlier_content().await?;
        if gone.contains(row.id.as_str()) {
            return Ok(false);
        }
        let is_newer = |other: &&SnapshotRow| {
            is_earlier(row, other) && other.cloud == CopyState::Present && has_device(other)
        };
        Ok(rows.iter().find(is_newer).is_none())
    }

    /// Gives back every base that nobody needs any more. What resists is left to the next time.
    pub(crate) async fn give_back_unneeded_bases(&self) {
        let unneeded = async {
            let rows = self.catalog.snapshots().await?;
            let mut found = Vec::new();
            for row in rows.iter().filter(|row| row.kept_as_base) {
                if !self.is_needed(row, &rows).await? {
                    found.push(row.id.clone());
                }
            }
            Ok::<_, ManagerError>(found)
        };
        match unneeded.await {
            Ok(found) => {
                for id in found {
                    self.give_back_base(&id, "nothing needs it any more").await;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "bases that are not needed stay for now"
                );
            }
        }
    }

    /// Gives back what is kept for the next upload of a volume; whether there was anything.
    pub(crate) async fn give_back_bases_of(
        &self,
        volume: &VolumeId,
        why: &str,
    ) -> Result<bool, ManagerError> {
        let mut rows = self.catalog.snapshots().await?;
        rows.retain(|row| row.kept_as_base && row.volume_id == *volume);
        for row in &rows {
            self.give_back_base(&row.id, why).await;
        }
        Ok(!rows.is_empty())
    }

    /// The snapshots of a pool that are kept only as bases, oldest first.
    pub(crate) async fn kept_bases(&self, pool: &str) -> Result<Vec<SnapshotId>, ManagerError> {
        let mut kept = self.catalog.snapshots().await?;
        kept.retain(|row| row.kept_as_base && row.pool == pool);
        kept.sort_by_key(|row| row.cut_at_us);
        Ok(kept.into_iter().map(|row| row.id).collect())
    }

    /// Removes the device of a snapshot that is kept only as a base; its cloud copy stays.
    pub(crate) async fn give_back_base(&self, id: &SnapshotId, why: &str) {
        let giving = async {
            let _held = self.locks.hold(Subject::Snapshot(id.to_string())).await?;
            let Some(row) = self
                .catalog
                .snapshot(id)
                .await?
                .filter(|row| row.kept_as_base)
            else {
                return Ok(());
            };
            self.driver(&row.pool)?.delete_snapshot(id).await?;
            self.catalog.base_given_back(id).await?;
            tracing::info!(snapshot_id = %id, why, "a local snapshot that was kept as a base was given back");
            Ok::<_, ManagerError>(())
        };
        if let Err(error) = giving.await {
            tracing::warn!(snapshot_id = %id, error = chain(&error), "a base cannot be given back yet");
        }
    }
}

/// Whether `base` is a committed cloud copy of the same volume, in the same repository, cut before `row`.
fn is_earlier(base: &SnapshotRow, row: &SnapshotRow) -> bool {
    base.id != row.id
        && base.volume_id == row.volume_id
        && base.pool == row.pool
        && base.cloud == CopyState::Present
        && ids::repository_of(&base.id) == ids::repository_of(&row.id)
        && base.cut_at_us.is_some()
        && base.cut_at_us < row.cut_at_us
}

fn has_device(row: &SnapshotRow) -> bool {
    row.local == CopyState::Present || row.kept_as_base
}

pub(super) fn to_ranges(ranges: Vec<ByteRange>) -> Vec<Range<u64>> {
    let range = |range: ByteRange| range.offset_bytes..range.end_bytes();
    ranges.into_iter().map(range).collect()
}
