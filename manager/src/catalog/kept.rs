//! Backups of local snapshots that were there before: which snapshot each cloud copy is read from.
//!
//! The cloud copy has a row and an id of its own. An id in a bucket is decided once, and says which repository it is of: a
//! snapshot that was cut without a profile has no such id, and one whose backup was cancelled could never be backed up again.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};
use stockpot_driver::SnapshotId;

use super::{
    BackupRow, Catalog, CatalogError,
    backups::{insert, read},
};

/// The table. A backup that goes takes its note along.
pub(super) const SCRIPT: &str = "
CREATE TABLE kept_sources (
    -- The cloud copy.
    id              TEXT PRIMARY KEY,
    -- The local snapshot that it is read from.
    source_id       TEXT NOT NULL
) STRICT;
CREATE INDEX kept_sources_of_snapshot ON kept_sources (source_id);
CREATE TRIGGER kept_sources_end AFTER DELETE ON backups BEGIN
    DELETE FROM kept_sources WHERE id = OLD.snapshot_id;
END;
";

impl Catalog {
    /// Writes a new backup that reads this local snapshot. No volume is touched.
    ///
    /// # Errors
    /// [`CatalogError::is_taken`] when the name or id is there already.
    pub async fn begin_kept_backup(
        &self,
        backup: BackupRow,
        source: &SnapshotId,
    ) -> Result<(), CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            insert(&transaction, &backup)?;
            transaction.execute(
                "INSERT INTO kept_sources (id, source_id) VALUES (?1, ?2)",
                params![backup.snapshot_id.as_str(), source.as_str()],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The local snapshot that a cloud copy is read from, if it is not its own.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn kept_source(&self, id: &SnapshotId) -> Result<Option<SnapshotId>, CatalogError> {
        Ok(self.kept_sources().await?.remove(id))
    }

    /// All of them, by cloud copy.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn kept_sources(&self) -> Result<BTreeMap<SnapshotId, SnapshotId>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM kept_sources")?;
            let mut rows = statement.query([])?;
            let mut sources = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let columns = super::codec::Columns {
                    table: "kept_sources",
                    row,
                };
                sources.insert(columns.word("id")?, columns.word("source_id")?);
            }
            Ok(sources)
        })
        .await
    }

    /// The backups that read this local snapshot, or have read it, the oldest first.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn backups_from(&self, source: &SnapshotId) -> Result<Vec<BackupRow>, CatalogError> {
        let sql = "SELECT * FROM backups WHERE snapshot_id IN (SELECT id FROM kept_sources WHERE source_id = ?1)
                    ORDER BY id";
        let source = source.clone();
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([source.as_str()])?;
            let mut backups = Vec::new();
            while let Some(row) = rows.next()? {
                backups.push(read(row)?);
            }
            Ok(backups)
        })
        .await
    }

    /// The backup whose cloud copy this is.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn backup_of(&self, id: &SnapshotId) -> Result<Option<BackupRow>, CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM backups WHERE snapshot_id = ?1")?;
            statement
                .query_row([id.as_str()], |row| Ok(read(row)))
                .optional()?
                .transpose()
        })
        .await
    }
}
