//! Restores into volumes that are there: what is filled beside each, how far that is, and which snapshots show what the volume held
//! before.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use stockpot_driver::{SnapshotId, VolumeId};

use super::{
    Catalog, CatalogError, JobKind, RecordedError, VolumeStatus,
    codec::{Columns, column_of, text_enum},
    jobs,
    status::check,
    volumes::move_back,
};

/// The tables.
pub(super) const SCRIPT: &str = "
-- The last restore into each volume.
CREATE TABLE restores_in_place (
    volume_id       TEXT PRIMARY KEY,
    -- The cloud copy.
    snapshot_id     TEXT NOT NULL,
    -- What is filled, until it has taken the volume's place or is removed.
    temp_volume_id  TEXT NOT NULL UNIQUE,
    stage           TEXT NOT NULL
) STRICT;
CREATE TRIGGER restores_in_place_end AFTER DELETE ON volumes BEGIN
    DELETE FROM restores_in_place WHERE volume_id = OLD.id;
END;

-- Snapshots that show what their volume held before something was restored into it.
CREATE TABLE snapshots_of_earlier_content (
    id              TEXT PRIMARY KEY
) STRICT;
CREATE TRIGGER snapshots_of_earlier_content_end AFTER DELETE ON snapshots BEGIN
    DELETE FROM snapshots_of_earlier_content WHERE id = OLD.id;
END;
";

text_enum! {
    /// How far a restore into a volume is.
    InPlaceStage {
        /// A volume beside it is being filled.
        Filling = "filling",
        /// That one is complete, and takes its place.
        Replacing = "replacing",
        /// It is given up: that one is being removed.
        Undoing = "undoing",
        /// The volume has the new content.
        Done = "done",
        /// The volume is as it was.
        Undone = "undone",
    }
}

/// A restore into a volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlaceRow {
    /// The volume.
    pub volume_id: VolumeId,
    /// The cloud copy.
    pub snapshot_id: SnapshotId,
    /// The volume that is filled.
    pub temp_volume_id: VolumeId,
    /// How far it is.
    pub stage: InPlaceStage,
}

impl InPlaceRow {
    /// Whether the volume that is filled may be there.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        !matches!(self.stage, InPlaceStage::Done | InPlaceStage::Undone)
    }
}

impl Catalog {
    /// Puts an available volume into `Restoring`, with the restore and its job. `false` when it is not available any more.
    ///
    /// # Errors
    /// `Database`.
    pub async fn begin_in_place(&self, row: InPlaceRow) -> Result<bool, CatalogError> {
        let id = row.volume_id.as_str();
        check(id, VolumeStatus::Available, VolumeStatus::Restoring)?;
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let is_begun = to_restoring(&transaction, &row.volume_id)?;
            if is_begun {
                transaction.execute(
                    "INSERT OR REPLACE INTO restores_in_place (volume_id, snapshot_id, temp_volume_id, stage)
                     VALUES (?1, ?2, ?3, ?4)",
                    params![
                        row.volume_id.as_str(),
                        row.snapshot_id.as_str(),
                        row.temp_volume_id.as_str(),
                        row.stage.as_str()
                    ],
                )?;
            }
            transaction.commit()?;
            Ok(is_begun)
        })
        .await
    }

    /// The last restore into a volume.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn in_place(&self, volume: &VolumeId) -> Result<Option<InPlaceRow>, CatalogError> {
        let volume = volume.clone();
        self.call(move |connection| {
            let sql = "SELECT * FROM restores_in_place WHERE volume_id = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            statement
                .query_row([volume.as_str()], |row| Ok(read(row)))
                .optional()?
                .transpose()
        })
        .await
    }

    /// All that are under way.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn in_place_under_way(&self) -> Result<Vec<InPlaceRow>, CatalogError> {
        self.call(|connection| {
            let sql = "SELECT * FROM restores_in_place WHERE stage NOT IN ('done', 'undone')";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
            Ok(found)
        })
        .await
    }

    /// Moves one from stage to stage. `false` when it was not in `from`.
    ///
    /// # Errors
    /// `Database`.
    pub async fn move_in_place(
        &self,
        volume: &VolumeId,
        from: InPlaceStage,
        to: InPlaceStage,
    ) -> Result<bool, CatalogError> {
        let volume = volume.clone();
        self.call(move |connection| {
            let changed = connection.execute(
                "UPDATE restores_in_place SET stage = ?3 WHERE volume_id = ?1 AND stage = ?2",
                params![volume.as_str(), from.as_str(), to.as_str()],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    /// Records that one is given up, and why, if it is in `from`: the first reason counts.
    ///
    /// # Errors
    /// `Database`.
    pub async fn give_up_in_place(
        &self,
        volume: &VolumeId,
        from: InPlaceStage,
        why: RecordedError,
    ) -> Result<bool, CatalogError> {
        let volume = volume.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let changed = transaction.execute(
                "UPDATE restores_in_place SET stage = 'undoing' WHERE volume_id = ?1 AND stage = ?2",
                params![volume.as_str(), from.as_str()],
            )?;
            if changed > 0 {
                transaction.execute(
                    "UPDATE volumes SET error = ?2, error_code = ?3, error_reported = 0 WHERE id = ?1",
                    params![volume.as_str(), why.text, why.code],
                )?;
            }
            transaction.commit()?;
            Ok(changed > 0)
        })
        .await
    }

    /// Records that the volume has its new content, of this size; the snapshots that it has show the old one.
    ///
    /// # Errors
    /// `Database`.
    pub async fn in_place_done(
        &self,
        volume: &VolumeId,
        size_bytes: u64,
    ) -> Result<(), CatalogError> {
        let volume = volume.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            has_new_content(&transaction, &volume, size_bytes)?;
            end(&transaction, &volume, InPlaceStage::Done)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Records that the volume is as it was, and nothing is left beside it.
    ///
    /// # Errors
    /// `Database`.
    pub async fn in_place_undone(&self, volume: &VolumeId) -> Result<(), CatalogError> {
        let volume = volume.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            end(&transaction, &volume, InPlaceStage::Undone)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Snapshots that show what their volume held before something was restored into it.
    ///
    /// # Errors
    /// `Database`.
    pub async fn snapshots_of_earlier_content(&self) -> Result<BTreeSet<String>, CatalogError> {
        self.call(|connection| {
            let sql = "SELECT id FROM snapshots_of_earlier_content";
            let mut statement = connection.prepare_cached(sql)?;
            let ids = statement.query_map([], |row| row.get(0))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// From available to `Restoring`, with the job. `false` when it is not available any more.
pub(super) fn to_restoring(
    connection: &Connection,
    volume: &VolumeId,
) -> Result<bool, CatalogError> {
    let changed = connection.execute(
        "UPDATE volumes SET status = 'restoring', previous_status = status, error = NULL, error_code = NULL,
                error_reported = 0
          WHERE id = ?1 AND status = 'available'",
        [volume.as_str()],
    )?;
    if changed > 0 {
        jobs::insert(connection, JobKind::Restore, volume.as_str())?;
    }
    Ok(changed > 0)
}

/// The snapshots that the volume has show another content than it does, which has this size.
pub(super) fn has_new_content(
    connection: &Connection,
    volume: &VolumeId,
    size_bytes: u64,
) -> Result<(), CatalogError> {
    connection.execute(
        "INSERT OR IGNORE INTO snapshots_of_earlier_content (id) SELECT id FROM snapshots WHERE volume_id = ?1",
        [volume.as_str()],
    )?;
    connection.execute(
        "UPDATE volumes SET size_bytes = ?2, error = NULL, error_code = NULL, error_reported = 0 WHERE id = ?1",
        params![volume.as_str(), column_of(size_bytes)],
    )?;
    Ok(())
}

/// From `Restoring` to what it was before, unless it is being deleted; without the job.
pub(super) fn from_restoring(
    connection: &Connection,
    volume: &VolumeId,
) -> Result<(), CatalogError> {
    move_back(connection, volume.as_str(), VolumeStatus::Restoring)?;
    jobs::remove(connection, JobKind::Restore, volume.as_str())
}

fn end(
    connection: &Connection,
    volume: &VolumeId,
    stage: InPlaceStage,
) -> Result<(), CatalogError> {
    connection.execute(
        "UPDATE restores_in_place SET stage = ?2 WHERE volume_id = ?1",
        params![volume.as_str(), stage.as_str()],
    )?;
    from_restoring(connection, volume)
}

fn read(row: &Row<'_>) -> Result<InPlaceRow, CatalogError> {
    let columns = Columns {
        table: "restores_in_place",
        row,
    };
    Ok(InPlaceRow {
        volume_id: columns.word("volume_id")?,
        snapshot_id: columns.word("snapshot_id")?,
        temp_volume_id: columns.word("temp_volume_id")?,
        stage: columns.word("stage")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::volumes::tests::volume, *};

    #[tokio::test]
    async fn the_volume_goes_there_and_back_with_its_restore() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let row = volume("a", VolumeStatus::Available);
        let id = row.id.clone();
        catalog.insert_volume(row).await.unwrap();
        let in_place = |temp: &str| InPlaceRow {
            volume_id: id.clone(),
            snapshot_id: "snap-1".parse().unwrap(),
            temp_volume_id: temp.parse().unwrap(),
            stage: InPlaceStage::Filling,
        };
        let status = async || catalog.volume(&id).await.unwrap().unwrap();
        assert!(catalog.begin_in_place(in_place("vol-t1")).await.unwrap());
        assert!(!catalog.begin_in_place(in_place("vol-t2")).await.unwrap());
        assert_eq!(status().await.status, VolumeStatus::Restoring);
        assert_eq!(catalog.jobs().await.unwrap().len(), 1);
        assert_eq!(
            catalog.in_place_under_way().await.unwrap(),
            [in_place("vol-t1")]
        );

        let why = RecordedError {
            code: 1,
            text: "not wanted".to_owned(),
        };
        let (filling, replacing) = (InPlaceStage::Filling, InPlaceStage::Replacing);
        assert!(
            !catalog
                .give_up_in_place(&id, replacing, why.clone())
                .await
                .unwrap()
        );
        assert!(
            catalog
                .give_up_in_place(&id, filling, why.clone())
                .await
                .unwrap()
        );
        assert!(
            !catalog
                .move_in_place(&id, filling, replacing)
                .await
                .unwrap()
        );
        catalog.in_place_undone(&id).await.unwrap();
        let after = status().await;
        assert_eq!(
            (after.status, after.error, after.previous_status),
            (VolumeStatus::Available, Some(why), None)
        );
        assert!(catalog.jobs().await.unwrap().is_empty());
        assert!(catalog.in_place_under_way().await.unwrap().is_empty());

        assert!(catalog.begin_in_place(in_place("vol-t3")).await.unwrap());
        assert_eq!(status().await.error, None);
        assert!(
            catalog
                .move_in_place(&id, filling, replacing)
                .await
                .unwrap()
        );
        catalog.in_place_done(&id, 2 << 20).await.unwrap();
        let after = status().await;
        assert_eq!(
            (after.status, after.size_bytes),
            (VolumeStatus::Available, 2 << 20)
        );
        let last = catalog.in_place(&id).await.unwrap().unwrap();
        assert_eq!(last.stage, InPlaceStage::Done);
        catalog.remove_volume(&id).await.unwrap();
        assert_eq!(catalog.in_place(&id).await.unwrap(), None);
    }
}
