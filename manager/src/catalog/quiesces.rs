//! Cuts around which commands run and file systems are frozen, and what came of that.

use rusqlite::params;
use stockpot_driver::{SnapshotId, VolumeId};

use super::{
    Catalog, CatalogError, Consistency, Quiescing,
    codec::{Columns, column_of, to_json},
};

/// The table. A row stands from before the first command until after the last one.
pub(super) const SCRIPT: &str = "
CREATE TABLE quiesces (
    snapshot_id     TEXT PRIMARY KEY,
    volume_id       TEXT NOT NULL,
    -- What undoes it, as JSON.
    undo            TEXT NOT NULL
) STRICT;
";

/// Backups of a volume that the times are taken from.
const LAST_BACKUPS: i64 = 100;

/// How long the file systems of a volume were frozen by its last backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreezeTimes {
    /// How many of its last 100 backups that froze something there are.
    pub count: u64,
    /// The time in the middle, in microseconds.
    pub median_us: u64,
    /// The longest, in microseconds.
    pub worst_us: u64,
}

impl FreezeTimes {
    /// Of these times; `None` without any.
    fn of(mut times: Vec<u64>) -> Option<Self> {
        times.sort_unstable();
        Some(Self {
            worst_us: *times.last()?,
            // The lower one of two in the middle.
            median_us: times[(times.len() - 1) / 2],
            count: u64::try_from(times.len()).ok()?,
        })
    }
}

impl Catalog {
    /// Writes what is about to be done around a cut, or replaces it.
    ///
    /// # Errors
    /// `Database`.
    pub async fn put_quiescing(&self, row: Quiescing) -> Result<(), CatalogError> {
        self.call(move |connection| {
            connection.execute(
                "INSERT OR REPLACE INTO quiesces (snapshot_id, volume_id, undo) VALUES (?1, ?2, ?3)",
                params![row.snapshot_id.as_str(), row.volume_id.as_str(), to_json(&row.undo)],
            )?;
            Ok(())
        })
        .await
    }

    /// Every cut that is under way, or was when a run ended.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn quiescings(&self) -> Result<Vec<Quiescing>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM quiesces")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let columns = Columns {
                    table: "quiesces",
                    row,
                };
                found.push(Quiescing {
                    snapshot_id: columns.word("snapshot_id")?,
                    volume_id: columns.word("volume_id")?,
                    undo: columns.json("undo")?,
                });
            }
            Ok(found)
        })
        .await
    }

    /// Forgets a cut around which nothing is left to be undone.
    ///
    /// # Errors
    /// `Database`.
    pub async fn remove_quiescing(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let sql = "DELETE FROM quiesces WHERE snapshot_id = ?1";
            connection.execute(sql, [id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Notes with a snapshot, and with its backup if it has one, what a restore of it shows.
    ///
    /// # Errors
    /// `Database`.
    pub async fn snapshot_shows(
        &self,
        snapshot: &SnapshotId,
        consistency: Consistency,
        text: &str,
        frozen_us: u64,
    ) -> Result<(), CatalogError> {
        let (snapshot, text) = (snapshot.clone(), text.to_owned());
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE snapshots SET consistency = ?2, consistency_text = ?3 WHERE id = ?1",
                params![snapshot.as_str(), consistency.as_str(), text],
            )?;
            transaction.execute(
                "UPDATE backups SET consistency = ?2, consistency_text = ?3, frozen_us = ?4 WHERE snapshot_id = ?1",
                params![snapshot.as_str(), consistency.as_str(), text, column_of(frozen_us)],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// How long the last backups of a volume froze its file systems; `None` if none did.
    ///
    /// # Errors
    /// `Database`.
    pub async fn freeze_times(
        &self,
        volume: &VolumeId,
    ) -> Result<Option<FreezeTimes>, CatalogError> {
        let volume = volume.clone();
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT frozen_us FROM backups WHERE volume_id = ?1 AND frozen_us > 0
                  ORDER BY created_at_us DESC LIMIT ?2",
            )?;
            let times = statement.query_map(params![volume.as_str(), LAST_BACKUPS], |row| {
                row.get::<_, i64>(0)
            })?;
            let times = times.collect::<Result<Vec<_>, _>>()?;
            let times = times
                .into_iter()
                .filter_map(|time| u64::try_from(time).ok());
            Ok(FreezeTimes::of(times.collect()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{FrozenPath, Undo},
        *,
    };

    #[tokio::test]
    async fn what_is_to_be_undone_stands_until_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let row = Quiescing {
            snapshot_id: "snap-1".parse().unwrap(),
            volume_id: "vol-1".parse().unwrap(),
            undo: Undo {
                frozen: vec![FrozenPath {
                    path: "/mnt/a b".into(),
                    device: 7,
                }],
                post: vec![vec!["/bin/resume".to_owned()]],
                timeout_seconds: 3,
                environment: [("A".to_owned(), "b".to_owned())].into(),
                running: Some("boot 7 8".to_owned()),
            },
        };
        for _ in 0..2 {
            catalog.put_quiescing(row.clone()).await.unwrap();
        }
        let found = catalog.quiescings().await.unwrap();
        assert_eq!(found, std::slice::from_ref(&row));
        catalog.remove_quiescing(&row.snapshot_id).await.unwrap();
        assert!(catalog.quiescings().await.unwrap().is_empty());
        assert_eq!(catalog.freeze_times(&row.volume_id).await.unwrap(), None);
    }

    #[test]
    fn median_and_worst() {
        let times = |times: &[u64]| {
            FreezeTimes::of(times.to_vec()).map(|t| (t.count, t.median_us, t.worst_us))
        };
        assert_eq!(times(&[]), None);
        assert_eq!(times(&[5]), Some((1, 5, 5)));
        assert_eq!(times(&[9, 1]), Some((2, 1, 9)));
        assert_eq!(times(&[9, 1, 3]), Some((3, 3, 9)));
    }
}
