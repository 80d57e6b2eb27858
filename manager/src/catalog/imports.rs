//! Backups that were made elsewhere, or before this catalog: rows that begin at their end.

use rusqlite::named_params;

use super::{
    BackupRow, Catalog, CatalogError, Metadata,
    codec::{column_of, to_json},
};

impl Catalog {
    /// Writes a backup that has ended.
    ///
    /// # Errors
    /// [`CatalogError::is_taken`] when the id, the name or the cloud copy is another backup's.
    pub async fn import_backup(&self, backup: BackupRow) -> Result<(), CatalogError> {
        let sql = "INSERT INTO backups (id, name, volume_id, volume_name, snapshot_id, profile, status, source, holds_volume,
                parent, phase, bytes_done, bytes_total, reason, reason_text, stored_bytes, requests, location, cleaned,
                metadata, created_at_us, cut_at_us, ended_at_us, consistency, consistency_text)
         VALUES (:id, :name, :volume, :volume_name, :snapshot, :profile, :status, :source, :holds, :parent, :phase, :done,
                :total, :reason, :reason_text, :stored, :requests, :location, :cleaned, :metadata, :created, :cut, :ended, :consistency,
                :consistency_text)";
        self.call(move |connection| {
            let (reason, reason_text) = backup.reason.map(|(r, text)| (r.as_str(), text)).unzip();
            let shows = backup.consistency.map(|(c, text)| (c.as_str(), text));
            let (consistency, consistency_text) = shows.unzip();
            let sent = backup.sent;
            connection.execute(
                sql,
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
                    ":parent": backup.parent,
                    ":phase": backup.phase,
                    ":done": column_of(backup.bytes_done),
                    ":total": column_of(backup.bytes_total),
                    ":reason": reason,
                    ":reason_text": reason_text,
                    ":stored": sent.map(|sent| column_of(sent.stored_bytes)),
                    ":requests": sent.map(|sent| column_of(sent.requests)),
                    ":location": backup.location,
                    ":cleaned": backup.cleaned,
                    ":metadata": to_json(&backup.metadata),
                    ":created": backup.created_at_us,
                    ":cut": backup.cut_at_us,
                    ":ended": backup.ended_at_us,
                    ":consistency": consistency,
                    ":consistency_text": consistency_text,
                },
            )?;
            Ok(())
        })
        .await
    }

    /// Writes the words kept with a backup.
    ///
    /// # Errors
    /// `Database`.
    pub async fn put_backup_metadata(&self, id: &str, words: Metadata) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.call(move |connection| {
            let sql = "UPDATE backups SET metadata = ?2 WHERE id = ?1";
            connection.execute(sql, (id, to_json(&words)))?;
            Ok(())
        })
        .await
    }
}
