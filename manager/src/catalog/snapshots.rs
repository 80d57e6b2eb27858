//! Snapshots.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use stockpot_driver::SnapshotId;

use super::{
    Catalog, CatalogError, CopyState, Deleting, JobKind, RecordedError, Sent, SnapshotRow,
    UploadReason, backups,
    codec::{Columns, column_of, to_json},
    jobs,
};

const ALL: &str = "SELECT * FROM snapshots ORDER BY id";
const BY_ID: &str = "SELECT * FROM snapshots WHERE id = ?1";
const BY_NAME: &str = "SELECT * FROM snapshots WHERE name = ?1";

impl Catalog {
    /// Writes a new snapshot; with a job when there is nothing to cut before its upload.
    ///
    /// # Errors
    /// [`CatalogError::is_taken`] when the name or id is there already.
    pub async fn insert_snapshot(&self, snapshot: SnapshotRow) -> Result<(), CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            insert(&transaction, &snapshot)?;
            if (snapshot.local, snapshot.cloud) == (CopyState::None, CopyState::Pending) {
                jobs::insert(&transaction, JobKind::Upload, snapshot.id.as_str())?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The snapshot of an id.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotRow>, CatalogError> {
        let id = id.clone();
        self.call(move |connection| one(connection, BY_ID, id.as_str()))
            .await
    }

    /// The snapshot of a name.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn snapshot_by_name(&self, name: &str) -> Result<Option<SnapshotRow>, CatalogError> {
        let name = name.to_owned();
        self.call(move |connection| one(connection, BY_NAME, &name))
            .await
    }

    /// Every snapshot, by id.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotRow>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(ALL)?;
            let mut rows = statement.query([])?;
            let mut snapshots = Vec::new();
            while let Some(row) = rows.next()? {
                snapshots.push(read(row)?);
            }
            Ok(snapshots)
        })
        .await
    }

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

    /// Forgets a snapshot that is gone, with its job.
    ///
    /// # Errors
    /// `Database`.
    pub async fn remove_snapshot(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            jobs::remove(&transaction, JobKind::Upload, id.as_str())?;
            backups::deleted(&transaction, &id)?;
            transaction.execute("DELETE FROM snapshots WHERE id = ?1", [id.as_str()])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    pub(super) async fn update_snapshot(
        &self,
        sql: &'static str,
        id: &SnapshotId,
    ) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            connection.execute(sql, [id.as_str()])?;
            Ok(())
        })
        .await
    }
}

pub(super) fn insert(connection: &Connection, snapshot: &SnapshotRow) -> Result<(), CatalogError> {
    connection.execute(
        "INSERT INTO snapshots (id, name, volume_id, volume_name, pool, size_bytes, cut_at_us, profile, local_state,
                cloud_state, metadata, created_at_us, consistency, consistency_text)
         VALUES (:id, :name, :volume, :volume_name, :pool, :size, :cut, :profile, :local, :cloud, :metadata,
                :created, :consistency, :consistency_text)",
        named_params! {
            ":id": snapshot.id.as_str(),
            ":name": snapshot.name,
            ":volume": snapshot.volume_id.as_str(),
            ":volume_name": snapshot.volume_name,
            ":pool": snapshot.pool,
            ":size": snapshot.size_bytes.map(column_of),
            ":cut": snapshot.cut_at_us,
            ":profile": snapshot.profile,
            ":local": snapshot.local.as_str(),
            ":cloud": snapshot.cloud.as_str(),
            ":metadata": to_json(&snapshot.metadata),
            ":created": snapshot.created_at_us,
            ":consistency": snapshot.consistency.as_ref().map(|shows| shows.0.as_str()),
            ":consistency_text": snapshot.consistency.as_ref().map(|shows| &shows.1),
        },
    )?;
    Ok(())
}

fn one(connection: &Connection, sql: &str, key: &str) -> Result<Option<SnapshotRow>, CatalogError> {
    let mut statement = connection.prepare_cached(sql)?;
    statement
        .query_row([key], |row| Ok(read(row)))
        .optional()?
        .transpose()
}

fn read(row: &Row<'_>) -> Result<SnapshotRow, CatalogError> {
    let columns = Columns {
        table: "snapshots",
        row,
    };
    let size_bytes = match columns.optional_number("size_bytes")? {
        None => None,
        Some(_) => Some(columns.bytes("size_bytes")?),
    };
    Ok(SnapshotRow {
        id: columns.word("id")?,
        name: columns.text("name")?,
        volume_id: columns.word("volume_id")?,
        volume_name: columns.text("volume_name")?,
        pool: columns.text("pool")?,
        size_bytes,
        cut_at_us: columns.optional_number("cut_at_us")?,
        profile: columns.text("profile")?,
        local: columns.word("local_state")?,
        cloud: columns.word("cloud_state")?,
        location: columns.optional_text("location")?,
        sent: columns.sent()?,
        reason: columns.reason()?,
        kept_as_base: columns.flag("kept_as_base")?,
        consistency: columns.consistency()?,
        metadata: columns.json("metadata")?,
        error: columns.recorded_error()?,
        error_reported: columns.flag("error_reported")?,
        deleting: columns.optional_word("deleting")?,
        created_at_us: columns.number("created_at_us")?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::catalog) fn snapshot(name: &str) -> SnapshotRow {
        SnapshotRow {
            id: format!("snap-{name}").parse().unwrap(),
            name: name.to_owned(),
            volume_id: "vol-1".parse().unwrap(),
            volume_name: "one".to_owned(),
            pool: "p".to_owned(),
            size_bytes: None,
            cut_at_us: None,
            profile: "offsite".to_owned(),
            local: CopyState::Pending,
            cloud: CopyState::Pending,
            location: None,
            sent: None,
            reason: None,
            kept_as_base: false,
            consistency: None,
            metadata: [("k".to_owned(), "v".to_owned())].into(),
            error: None,
            error_reported: false,
            deleting: None,
            created_at_us: 1,
        }
    }

    #[tokio::test]
    async fn a_snapshot_is_cut_uploaded_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let row = snapshot("a");
        let id = &row.id;
        catalog.insert_snapshot(row.clone()).await.unwrap();
        assert_eq!(catalog.snapshot(id).await.unwrap().unwrap(), row);
        assert!(catalog.jobs().await.unwrap().is_empty());

        catalog.snapshot_cut(id, 4096, 99).await.unwrap();
        let cut = catalog.snapshot_by_name("a").await.unwrap().unwrap();
        assert_eq!((cut.size_bytes, cut.cut_at_us), (Some(4096), Some(99)));
        assert_eq!(cut.local, CopyState::Present);
        assert_eq!(catalog.jobs().await.unwrap().len(), 1);

        let error = RecordedError {
            code: 7,
            text: "denied".to_owned(),
        };
        assert!(catalog.fail_snapshot(id, error).await.unwrap());
        assert!(catalog.jobs().await.unwrap().is_empty());
        let sent = Sent {
            stored_bytes: 5,
            requests: 6,
        };
        let reason = (UploadReason::Compared, "the base is gone".to_owned());
        let uploaded = || catalog.snapshot_uploaded(id, "s3://b", sent, reason.clone(), None);
        assert!(!uploaded().await.unwrap());
        catalog.report_snapshot(id).await.unwrap();
        assert!(catalog.snapshot(id).await.unwrap().unwrap().error_reported);
        assert!(catalog.retry_snapshot(id).await.unwrap());
        assert!(!catalog.retry_snapshot(id).await.unwrap());
        assert_eq!(catalog.jobs().await.unwrap().len(), 1);
        assert!(uploaded().await.unwrap());
        assert!(catalog.jobs().await.unwrap().is_empty());

        catalog
            .mark_snapshot(id, Some(Deleting::Local))
            .await
            .unwrap();
        catalog.local_copy_kept_as_base(id).await.unwrap();
        let kept = catalog.snapshot(id).await.unwrap().unwrap();
        assert!(kept.kept_as_base && kept.local == CopyState::Deleted);
        let in_pool = catalog.bases_kept_in(&kept.pool).await.unwrap();
        let bytes_max = kept.size_bytes.unwrap();
        assert!(bytes_max > 0);
        assert_eq!((in_pool.count, in_pool.bytes_max), (1, bytes_max));
        let elsewhere = catalog.bases_kept_in("elsewhere").await.unwrap();
        assert_eq!((elsewhere.count, elsewhere.bytes_max), (0, 0));
        catalog.base_given_back(id).await.unwrap();
        assert!(!catalog.snapshot(id).await.unwrap().unwrap().kept_as_base);
        catalog.local_copy_removed(id).await.unwrap();
        let left = catalog.snapshots().await.unwrap().remove(0);
        assert_eq!((left.local, left.deleting), (CopyState::Deleted, None));
        assert_eq!(left.location.as_deref(), Some("s3://b"));
        assert_eq!((left.sent, left.reason), (Some(sent), Some(reason.clone())));
        assert!(!catalog.is_abandoned(id).await.unwrap());
        catalog.abandon_snapshot(id).await.unwrap();
        catalog.abandon_snapshot(id).await.unwrap();
        catalog.remove_snapshot(id).await.unwrap();
        assert_eq!(catalog.snapshot(id).await.unwrap(), None);
        assert!(catalog.is_abandoned(id).await.unwrap());
    }

    #[tokio::test]
    async fn a_row_edited_by_hand_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let row = snapshot("a");
        catalog.insert_snapshot(row.clone()).await.unwrap();
        for (column, value) in [
            ("id", "'X y'"),
            ("local_state", "'gone'"),
            ("metadata", "'{'"),
        ] {
            let sql = format!("UPDATE snapshots SET {column} = {value}");
            let hand = Connection::open(dir.path().join("catalog.sqlite")).unwrap();
            hand.execute(&sql, []).unwrap();
            drop(hand);
            let error = catalog.snapshot_by_name("a").await.unwrap_err();
            assert!(matches!(error, CatalogError::Row { .. }), "{error}");
            catalog
                .call(|connection| Ok(connection.execute("DELETE FROM snapshots", [])?))
                .await
                .unwrap();
            catalog.insert_snapshot(row.clone()).await.unwrap();
        }
    }
}
