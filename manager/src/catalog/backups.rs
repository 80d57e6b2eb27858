//! Backups.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use stockpot_driver::{SnapshotId, VolumeId};

use super::{
    BackupRow, BackupStatus, Catalog, CatalogError, RecordedError, Sent, UploadReason,
    VolumeStatus,
    codec::{Columns, column_of, to_json},
    status, volumes,
};

const NOW: &str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

impl Catalog {
    /// Writes a new backup, and moves its volume from `from` to `BackingUp`. `false` when the volume was not in `from`.
    ///
    /// # Errors
    /// `Transition`; [`CatalogError::is_taken`] when the name or id is there already.
    pub async fn begin_backup(
        &self,
        backup: BackupRow,
        from: VolumeStatus,
    ) -> Result<bool, CatalogError> {
        let to = VolumeStatus::BackingUp;
        status::ask(backup.volume_id.as_str(), from, to)?;
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let moved = transaction.execute(
                "UPDATE volumes SET status = ?3, previous_status = status WHERE id = ?1 AND status = ?2",
                params![backup.volume_id.as_str(), from.as_str(), to.as_str()],
            )?;
            if moved > 0 {
                insert(&transaction, &backup)?;
                transaction.commit()?;
            }
            Ok(moved > 0)
        })
        .await
    }

    /// The backup of an id.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn backup(&self, id: &str) -> Result<Option<BackupRow>, CatalogError> {
        self.one_backup("SELECT * FROM backups WHERE id = ?1", id)
            .await
    }

    /// The backup of a name.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn backup_by_name(&self, name: &str) -> Result<Option<BackupRow>, CatalogError> {
        self.one_backup("SELECT * FROM backups WHERE name = ?1", name)
            .await
    }

    async fn one_backup(
        &self,
        sql: &'static str,
        key: &str,
    ) -> Result<Option<BackupRow>, CatalogError> {
        let key = key.to_owned();
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement
                .query_row([key], |row| Ok(read(row)))
                .optional()?
                .transpose()
        })
        .await
    }

    /// Every backup, by id, which is by age.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn backups(&self) -> Result<Vec<BackupRow>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM backups ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut backups = Vec::new();
            while let Some(row) = rows.next()? {
                backups.push(read(row)?);
            }
            Ok(backups)
        })
        .await
    }

    /// Records that the temporary snapshot is cut: the volume is what it was before.
    ///
    /// # Errors
    /// `Database`.
    pub async fn backup_cut(
        &self,
        id: &str,
        size_bytes: u64,
        cut_at_us: i64,
    ) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE backups SET cut_at_us = ?2, bytes_total = ?3 WHERE id = ?1",
                params![id, cut_at_us, column_of(size_bytes)],
            )?;
            release(&transaction, &id)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Notes that a volume was detached while its backup waits for the cut: it goes back to what it is now.
    ///
    /// # Errors
    /// `Database`.
    pub async fn detached_while_backing_up(&self, id: &VolumeId) -> Result<(), CatalogError> {
        let sql = "UPDATE volumes SET previous_status = 'available'
                    WHERE id = ?1 AND status = 'backing-up' AND previous_status = 'in-use'";
        let id = id.clone();
        self.call(move |connection| {
            connection.execute(sql, [id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Notes through which temporary volume the snapshot is read.
    ///
    /// # Errors
    /// `Database`.
    pub async fn backup_reads_through(
        &self,
        id: &str,
        volume: &VolumeId,
    ) -> Result<(), CatalogError> {
        let sql = "UPDATE backups SET temp_volume_id = ?2 WHERE id = ?1";
        let values = (id.to_owned(), volume.to_string());
        self.call(move |connection| {
            connection.execute(sql, values)?;
            Ok(())
        })
        .await
    }

    /// Notes how far a backup is that has not ended.
    ///
    /// # Errors
    /// `Database`.
    pub async fn backup_progress(
        &self,
        id: &str,
        phase: &str,
        bytes_done: u64,
    ) -> Result<(), CatalogError> {
        let sql = "UPDATE backups SET phase = ?2, bytes_done = MIN(?3, bytes_total)
                    WHERE id = ?1 AND status = 'creating'";
        let values = (id.to_owned(), phase.to_owned(), column_of(bytes_done));
        self.call(move |connection| {
            connection.execute(sql, values)?;
            Ok(())
        })
        .await
    }

    /// Notes that a backup is to be given up. `false` when it has ended already.
    ///
    /// # Errors
    /// `Database`.
    pub async fn cancel_backup(&self, id: &str) -> Result<bool, CatalogError> {
        let sql = "UPDATE backups SET status = 'cancelling', phase = 'stopping', paused = 0
                    WHERE id = ?1 AND status = 'creating'";
        let id = id.to_owned();
        self.call(move |connection| Ok(connection.execute(sql, [id])? > 0))
            .await
    }

    /// Records how a backup ended, and takes its volume back to what it was. `false` when it was not in `from`.
    ///
    /// # Errors
    /// `Transition`, `Database`.
    pub async fn end_backup(
        &self,
        id: &str,
        from: BackupStatus,
        to: BackupStatus,
        failure: Option<RecordedError>,
    ) -> Result<bool, CatalogError> {
        status::check(id, from, to)?;
        let sql = format!(
            "UPDATE backups SET status = ?3, phase = 'cleaning up', error = ?4, error_code = ?5, ended_at_us = {NOW}, paused = 0,
                    bytes_done = iif(?3 = 'available', bytes_total, bytes_done)
              WHERE id = ?1 AND status = ?2"
        );
        let id = id.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let (text, code) = failure.map(|f| (f.text, f.code)).unzip();
            let changed =
                transaction.execute(&sql, params![id, from.as_str(), to.as_str(), text, code])?;
            if changed > 0 {
                release(&transaction, &id)?;
            }
            transaction.commit()?;
            Ok(changed > 0)
        })
        .await
    }

    /// Records that nothing temporary is left.
    ///
    /// # Errors
    /// `Database`.
    pub async fn backup_cleaned(&self, id: &str) -> Result<(), CatalogError> {
        let sql = "UPDATE backups SET cleaned = 1, phase = 'done', temp_snapshot_id = NULL, temp_volume_id = NULL
                    WHERE id = ?1";
        let id = id.to_owned();
        self.call(move |connection| {
            connection.execute(sql, [id])?;
            Ok(())
        })
        .await
    }

    /// Forgets a backup that has ended.
    ///
    /// # Errors
    /// `Database`.
    pub async fn remove_backup(&self, id: &str) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.call(move |connection| {
            connection.execute("DELETE FROM backups WHERE id = ?1", [id])?;
            Ok(())
        })
        .await
    }
}

/// The volume is what it was before, if it is this backup that holds it.
fn release(transaction: &Transaction<'_>, id: &str) -> Result<(), CatalogError> {
    let held = "UPDATE backups SET holds_volume = 0 WHERE id = ?1 AND holds_volume = 1 RETURNING volume_id";
    let held: Option<String> = transaction
        .query_row(held, [id], |row| row.get(0))
        .optional()?;
    if let Some(volume) = held {
        volumes::move_back(transaction, &volume, VolumeStatus::BackingUp)?;
    }
    Ok(())
}

/// Notes with the backup of a snapshot what its upload came to.
pub(super) fn committed(
    transaction: &Transaction<'_>,
    snapshot: &SnapshotId,
    location: &str,
    sent: Sent,
    reason: &(UploadReason, String),
    parent: Option<&str>,
) -> Result<(), CatalogError> {
    transaction.execute(
        "UPDATE backups SET location = ?2, stored_bytes = ?3, requests = ?4, reason = ?5, reason_text = ?6, parent = ?7
          WHERE snapshot_id = ?1",
        params![
            snapshot.as_str(),
            location,
            column_of(sent.stored_bytes),
            column_of(sent.requests),
            reason.0.as_str(),
            reason.1,
            parent
        ],
    )?;
    Ok(())
}

/// Notes that the cloud copy of a snapshot is gone.
pub(super) fn deleted(
    transaction: &Transaction<'_>,
    snapshot: &SnapshotId,
) -> Result<(), CatalogError> {
    transaction.execute(
        "UPDATE backups SET status = 'deleted' WHERE snapshot_id = ?1 AND status = 'available'",
        [snapshot.as_str()],
    )?;
    Ok(())
}

pub(super) fn insert(connection: &Connection, backup: &BackupRow) -> Result<(), CatalogError> {
    connection.execute(
        "INSERT INTO backups (id, name, volume_id, volume_name, snapshot_id, profile, status, source, holds_volume,
                temp_snapshot_id, phase, bytes_total, metadata, created_at_us, cut_at_us, is_full, schedule)
         VALUES (:id, :name, :volume, :volume_name, :snapshot, :profile, :status, :source, :holds, :temp, :phase, :total,
                :metadata, :created, :cut, :full, :schedule)",
        named_params! {
            ":id": backup.id,
            ":name": backup.name,
            ":volume": backup.volume_id.as_str(),
            ":volume_name": backup.volume_name,
            ":snapshot": backup.snapshot_id.as_str(),
            ":profile": backup.profile,
            ":status": backup.status.as_str(),
            ":source": backup.source.as_str(),
            ":holds": backup.holds_volume,
            ":temp": backup.temp_snapshot_id.as_ref().map(SnapshotId::as_str),
            ":phase": backup.phase,
            ":total": column_of(backup.bytes_total),
            ":metadata": to_json(&backup.metadata),
            ":created": backup.created_at_us,
            ":cut": backup.cut_at_us,
            ":full": backup.is_full,
            ":schedule": backup.schedule,
        },
    )?;
    Ok(())
}

pub(super) fn read(row: &Row<'_>) -> Result<BackupRow, CatalogError> {
    let columns = Columns {
        table: "backups",
        row,
    };
    Ok(BackupRow {
        id: columns.text("id")?,
        name: columns.text("name")?,
        volume_id: columns.word("volume_id")?,
        volume_name: columns.text("volume_name")?,
        snapshot_id: columns.word("snapshot_id")?,
        profile: columns.text("profile")?,
        status: columns.word("status")?,
        source: columns.word("source")?,
        holds_volume: columns.flag("holds_volume")?,
        temp_snapshot_id: columns.optional_word("temp_snapshot_id")?,
        temp_volume_id: columns.optional_word("temp_volume_id")?,
        parent: columns.optional_text("parent")?,
        phase: columns.text("phase")?,
        bytes_done: columns.bytes("bytes_done")?,
        bytes_total: columns.bytes("bytes_total")?,
        reason: columns.reason()?,
        sent: columns.sent()?,
        location: columns.optional_text("location")?,
        failure: columns.recorded_error()?,
        cleaned: columns.flag("cleaned")?,
        metadata: columns.json("metadata")?,
        created_at_us: columns.number("created_at_us")?,
        cut_at_us: columns.optional_number("cut_at_us")?,
        ended_at_us: columns.optional_number("ended_at_us")?,
        paused: columns.flag("paused")?,
        is_full: columns.flag("is_full")?,
        schedule: columns.optional_text("schedule")?,
        consistency: columns.consistency()?,
        frozen_us: columns.bytes("frozen_us")?,
    })
}

#[cfg(test)]
pub(super) mod tests;
