//! What becomes of a snapshot's copies: cut, uploaded or given up, removed.

use rusqlite::params;
use stockpot_driver::SnapshotId;

use crate::catalog::{
    Catalog, CatalogError, CopyState, Deleting, JobKind, RecordedError, Sent, UploadReason,
    backups, codec::column_of, jobs,
};

impl Catalog {
    /// Records the cut: the local copy is there from now on, and with a cloud copy asked for, its upload is a job.
    ///
    /// # Errors
    /// `Database`.
    pub async fn snapshot_cut(
        &self,
        id: &SnapshotId,
        size_bytes: u64,
        cut_at_us: i64,
    ) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE snapshots SET local_state = 'present', size_bytes = ?2, cut_at_us = ?3 WHERE id = ?1",
                params![id.as_str(), column_of(size_bytes), cut_at_us],
            )?;
            let cloud: String = transaction.query_row(
                "SELECT cloud_state FROM snapshots WHERE id = ?1",
                [id.as_str()],
                |row| row.get(0),
            )?;
            if cloud == CopyState::Pending.as_str() {
                jobs::insert(&transaction, JobKind::Upload, id.as_str())?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Records that the cloud copy is committed and was read back, and which one it builds on. `false` when it was not
    /// awaited any more.
    ///
    /// # Errors
    /// `Database`.
    pub async fn snapshot_uploaded(
        &self,
        id: &SnapshotId,
        location: &str,
        sent: Sent,
        reason: (UploadReason, String),
        parent: Option<String>,
    ) -> Result<bool, CatalogError> {
        let sql = "UPDATE snapshots SET cloud_state = 'present', location = ?2, error = NULL, error_code = NULL,
                          error_reported = 0, stored_bytes = ?3, requests = ?4, reason = ?5, reason_text = ?6
                    WHERE id = ?1 AND cloud_state = 'pending'";
        let values = (id.clone(), location.to_owned());
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let (stored_bytes, requests) = (column_of(sent.stored_bytes), column_of(sent.requests));
            let changed = transaction.execute(
                sql,
                params![
                    values.0.as_str(),
                    values.1,
                    stored_bytes,
                    requests,
                    reason.0.as_str(),
                    reason.1
                ],
            )?;
            if changed > 0 {
                jobs::remove(&transaction, JobKind::Upload, values.0.as_str())?;
                let parent = parent.as_deref();
                backups::committed(&transaction, &values.0, &values.1, sent, &reason, parent)?;
            }
            transaction.commit()?;
            Ok(changed > 0)
        })
        .await
    }

    /// Records that the upload was given up. `false` when it was not awaited any more.
    ///
    /// # Errors
    /// `Database`.
    pub async fn fail_snapshot(
        &self,
        id: &SnapshotId,
        error: RecordedError,
    ) -> Result<bool, CatalogError> {
        let sql = "UPDATE snapshots SET cloud_state = 'failed', error = ?2, error_code = ?3, error_reported = 0
                    WHERE id = ?1 AND cloud_state = 'pending'";
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let changed = transaction.execute(sql, params![id.as_str(), error.text, error.code])?;
            if changed > 0 {
                jobs::remove(&transaction, JobKind::Upload, id.as_str())?;
            }
            transaction.commit()?;
            Ok(changed > 0)
        })
        .await
    }

    /// Makes a given-up upload a job again. `false` when it was not given up.
    ///
    /// # Errors
    /// `Database`.
    pub async fn retry_snapshot(&self, id: &SnapshotId) -> Result<bool, CatalogError> {
        let sql = "UPDATE snapshots SET cloud_state = 'pending', error = NULL, error_code = NULL, error_reported = 0
                    WHERE id = ?1 AND cloud_state = 'failed' AND deleting IS NULL";
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let changed = transaction.execute(sql, [id.as_str()])?;
            if changed > 0 {
                jobs::insert(&transaction, JobKind::Upload, id.as_str())?;
            }
            transaction.commit()?;
            Ok(changed > 0)
        })
        .await
    }

    /// Notes that a caller was told of a snapshot's error.
    ///
    /// # Errors
    /// `Database`.
    pub async fn report_snapshot(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        self.update_snapshot("UPDATE snapshots SET error_reported = 1 WHERE id = ?1", id)
            .await
    }

    /// Notes that copies of a snapshot are being removed, or (`None`) that this was refused.
    ///
    /// # Errors
    /// `Database`.
    pub async fn mark_snapshot(
        &self,
        id: &SnapshotId,
        deleting: Option<Deleting>,
    ) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            connection.execute(
                "UPDATE snapshots SET deleting = ?2 WHERE id = ?1",
                params![id.as_str(), deleting.map(Deleting::as_str)],
            )?;
            Ok(())
        })
        .await
    }

    /// Records that the local copy is gone while the deletion of the cloud copy, begun before, stays to be done.
    ///
    /// # Errors
    /// `Database`.
    pub async fn local_copy_removed_first(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        let sql = "UPDATE snapshots SET local_state = 'deleted' WHERE id = ?1";
        self.update_snapshot(sql, id).await
    }

    /// Notes that a snapshot is forgotten without a word to its repository. It outlives the row.
    ///
    /// # Errors
    /// `Database`.
    pub async fn abandon_snapshot(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        let sql = "INSERT OR IGNORE INTO abandoned_snapshots (id) VALUES (?1)";
        self.update_snapshot(sql, id).await
    }

    /// Whether [`Catalog::abandon_snapshot`] noted it.
    ///
    /// # Errors
    /// `Database`.
    pub async fn is_abandoned(&self, id: &SnapshotId) -> Result<bool, CatalogError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM abandoned_snapshots WHERE id = ?1)";
        let id = id.clone();
        self.call(move |connection| Ok(connection.query_row(sql, [id.as_str()], |row| row.get(0))?))
            .await
    }

    /// Records that the local copy alone is gone.
    ///
    /// # Errors
    /// `Database`.
    pub async fn local_copy_removed(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        self.update_snapshot(
            "UPDATE snapshots SET local_state = 'deleted', deleting = NULL, kept_as_base = 0 WHERE id = ?1",
            id,
        )
        .await
    }

    /// Records that the cloud copy alone is gone.
    ///
    /// # Errors
    /// `Database`.
    pub async fn cloud_copy_removed(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            jobs::remove(&transaction, JobKind::Upload, id.as_str())?;
            backups::deleted(&transaction, &id)?;
            transaction.execute(
                "UPDATE snapshots SET cloud_state = 'deleted', location = NULL, deleting = NULL, error = NULL,
                        error_code = NULL WHERE id = ?1",
                [id.as_str()],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }
}
