//! Volumes.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use stockpot_driver::VolumeId;

use super::{
    Catalog, CatalogError, JobKind, RecordedError, VolumeRow, VolumeSource, VolumeStatus,
    codec::{Columns, column_of, to_json},
    jobs, status,
};

const BY_ID: &str = "SELECT * FROM volumes WHERE id = ?1";

impl Catalog {
    /// Writes a new volume; with a job when it is `Restoring`.
    ///
    /// # Errors
    /// [`CatalogError::is_taken`] when the name or id is there already.
    pub async fn insert_volume(&self, volume: VolumeRow) -> Result<(), CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            insert(&transaction, &volume)?;
            if volume.status == VolumeStatus::Restoring {
                jobs::insert(&transaction, JobKind::Restore, volume.id.as_str())?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The volume of an id.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeRow>, CatalogError> {
        let id = id.clone();
        self.call(move |connection| one(connection, BY_ID, id.as_str()))
            .await
    }

    /// The volume of a name.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn volume_by_name(&self, name: &str) -> Result<Option<VolumeRow>, CatalogError> {
        let name = name.to_owned();
        self.call(move |connection| one(connection, "SELECT * FROM volumes WHERE name = ?1", &name))
            .await
    }

    /// Every volume, by id.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn volumes(&self) -> Result<Vec<VolumeRow>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM volumes ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut volumes = Vec::new();
            while let Some(row) = rows.next()? {
                volumes.push(read(row)?);
            }
            Ok(volumes)
        })
        .await
    }

    /// Moves a volume from one status to another, its size known, an old error forgotten. `false` when it was
    /// not in `from`: somebody else has moved it meanwhile.
    ///
    /// # Errors
    /// `Transition` when the one never follows the other; `Database`.
    pub async fn move_volume(
        &self,
        id: &VolumeId,
        from: VolumeStatus,
        to: VolumeStatus,
        size_bytes: Option<u64>,
    ) -> Result<bool, CatalogError> {
        let id = id.clone();
        status::check(id.as_str(), from, to)?;
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let changed = transaction.execute(
                "UPDATE volumes SET status = ?3, previous_status = iif(?5, NULL, status), error = NULL, error_code = NULL,
                        error_reported = 0, size_bytes = COALESCE(?4, size_bytes)
                  WHERE id = ?1 AND status = ?2",
                params![
                    id.as_str(),
                    from.as_str(),
                    to.as_str(),
                    size_bytes.map(column_of),
                    to.is_final()
                ],
            )?;
            if changed > 0 {
                if from == VolumeStatus::Restoring {
                    jobs::remove(&transaction, JobKind::Restore, id.as_str())?;
                }
                if to == VolumeStatus::Restoring {
                    jobs::insert(&transaction, JobKind::Restore, id.as_str())?;
                }
            }
            transaction.commit()?;
            Ok(changed > 0)
        })
        .await
    }

    /// Takes a volume back from what was under way to what it was before, its size known. `None` when it was not in `from`.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn move_volume_back(
        &self,
        id: &VolumeId,
        from: VolumeStatus,
        size_bytes: Option<u64>,
    ) -> Result<Option<VolumeStatus>, CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            if let Some(size_bytes) = size_bytes {
                transaction.execute(
                    "UPDATE volumes SET size_bytes = ?2 WHERE id = ?1",
                    params![id.as_str(), column_of(size_bytes)],
                )?;
            }
            let back = move_back(&transaction, id.as_str(), from)?;
            transaction.commit()?;
            Ok(back)
        })
        .await
    }

    /// Puts a volume whose making failed into `Error`, and ends its job. `false` when it was not `Restoring`.
    ///
    /// # Errors
    /// `Database`.
    pub async fn fail_volume(
        &self,
        id: &VolumeId,
        error: RecordedError,
    ) -> Result<bool, CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let changed = transaction.execute(
                "UPDATE volumes SET status = 'error', previous_status = NULL, error = ?2, error_code = ?3,
                        error_reported = 0
                  WHERE id = ?1 AND status = 'restoring'",
                params![id.as_str(), error.text, error.code],
            )?;
            if changed > 0 {
                jobs::remove(&transaction, JobKind::Restore, id.as_str())?;
            }
            transaction.commit()?;
            Ok(changed > 0)
        })
        .await
    }

    /// Notes that a caller was told of a volume's error.
    ///
    /// # Errors
    /// `Database`.
    pub async fn report_volume(&self, id: &VolumeId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            connection.execute(
                "UPDATE volumes SET error_reported = 1 WHERE id = ?1",
                [id.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets a volume that is gone, with its job.
    ///
    /// # Errors
    /// `Database`.
    pub async fn remove_volume(&self, id: &VolumeId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            jobs::remove(&transaction, JobKind::Restore, id.as_str())?;
            transaction.execute("DELETE FROM volumes WHERE id = ?1", [id.as_str()])?;
            Ok(transaction.commit()?)
        })
        .await
    }
}

/// From what was under way to what it was before; `None` when it was not in `from`.
pub(super) fn move_back(
    connection: &Connection,
    id: &str,
    from: VolumeStatus,
) -> Result<Option<VolumeStatus>, CatalogError> {
    let before = "SELECT previous_status FROM volumes WHERE id = ?1 AND status = ?2";
    let before = connection
        .query_row(before, params![id, from.as_str()], |row| {
            row.get::<_, Option<String>>(0)
        })
        .optional()?;
    let Some(before) = before else {
        return Ok(None);
    };
    let before = match before.as_deref() {
        Some("in-use") => VolumeStatus::InUse,
        // Nobody has it: nor after a row was edited by hand.
        _ => VolumeStatus::Available,
    };
    connection.execute(
        "UPDATE volumes SET status = ?2, previous_status = NULL WHERE id = ?1",
        params![id, before.as_str()],
    )?;
    Ok(Some(before))
}

pub(super) fn insert(connection: &Connection, volume: &VolumeRow) -> Result<(), CatalogError> {
    let (kind, source, copy) = match &volume.source {
        VolumeSource::Empty => ("empty", None, None),
        VolumeSource::Snapshot(id, copy) => ("snapshot", Some(id.as_str()), Some(copy.as_str())),
        VolumeSource::Volume(id) => ("volume", Some(id.as_str()), None),
        VolumeSource::Adopted => ("adopted", None, None),
    };
    connection.execute(
        "INSERT INTO volumes (id, name, size_bytes, pool, status, source_kind, source_id, source_copy, metadata,
                created_at_us)
         VALUES (:id, :name, :size, :pool, :status, :kind, :source, :copy, :metadata, :created)",
        named_params! {
            ":id": volume.id.as_str(),
            ":name": volume.name,
            ":size": column_of(volume.size_bytes),
            ":pool": volume.pool,
            ":status": volume.status.as_str(),
            ":kind": kind,
            ":source": source,
            ":copy": copy,
            ":metadata": to_json(&volume.metadata),
            ":created": volume.created_at_us,
        },
    )?;
    Ok(())
}

fn one(connection: &Connection, sql: &str, key: &str) -> Result<Option<VolumeRow>, CatalogError> {
    let mut statement = connection.prepare_cached(sql)?;
    statement
        .query_row([key], |row| Ok(read(row)))
        .optional()?
        .transpose()
}

fn read(row: &Row<'_>) -> Result<VolumeRow, CatalogError> {
    let columns = Columns {
        table: "volumes",
        row,
    };
    let kind = columns.text("source_kind")?;
    let source = match kind.as_str() {
        "empty" => VolumeSource::Empty,
        "snapshot" => {
            VolumeSource::Snapshot(columns.word("source_id")?, columns.word("source_copy")?)
        }
        "volume" => VolumeSource::Volume(columns.word("source_id")?),
        "adopted" => VolumeSource::Adopted,
        _ => return Err(columns.unusable("source_kind", &kind)),
    };
    Ok(VolumeRow {
        id: columns.word("id")?,
        name: columns.text("name")?,
        size_bytes: columns.bytes("size_bytes")?,
        pool: columns.text("pool")?,
        status: columns.word("status")?,
        previous_status: columns.optional_word("previous_status")?,
        source,
        metadata: columns.json("metadata")?,
        error: columns.recorded_error()?,
        error_reported: columns.flag("error_reported")?,
        created_at_us: columns.number("created_at_us")?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::catalog) fn volume(name: &str, status: VolumeStatus) -> VolumeRow {
        VolumeRow {
            id: format!("vol-{name}").parse().unwrap(),
            name: name.to_owned(),
            size_bytes: 1 << 20,
            pool: "p".to_owned(),
            status,
            previous_status: None,
            source: VolumeSource::Empty,
            metadata: [("a".to_owned(), "b".to_owned())].into(),
            error: None,
            error_reported: false,
            created_at_us: 7,
        }
    }

    #[tokio::test]
    async fn a_volume_is_kept_moved_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let mut row = volume("a", VolumeStatus::Restoring);
        row.source =
            VolumeSource::Snapshot("snap-1".parse().unwrap(), super::super::SourceCopy::Cloud);
        catalog.insert_volume(row.clone()).await.unwrap();
        let taken = catalog
            .insert_volume(volume("a", VolumeStatus::Creating))
            .await;
        assert!(taken.unwrap_err().is_taken());
        assert_eq!(catalog.volume(&row.id).await.unwrap().unwrap(), row);
        assert_eq!(catalog.jobs().await.unwrap().len(), 1);

        let error = RecordedError {
            code: 14,
            text: "no answer".to_owned(),
        };
        assert!(catalog.fail_volume(&row.id, error.clone()).await.unwrap());
        assert!(!catalog.fail_volume(&row.id, error.clone()).await.unwrap());
        let failed = catalog.volume_by_name("a").await.unwrap().unwrap();
        assert_eq!(failed.status, VolumeStatus::Error);
        assert_eq!(failed.error, Some(error));
        assert!(catalog.jobs().await.unwrap().is_empty());

        let restart = (VolumeStatus::Error, VolumeStatus::Restoring);
        assert!(
            catalog
                .move_volume(&row.id, restart.0, restart.1, None)
                .await
                .unwrap()
        );
        assert!(
            !catalog
                .move_volume(&row.id, restart.0, restart.1, None)
                .await
                .unwrap()
        );
        let again = catalog.volume(&row.id).await.unwrap().unwrap();
        assert_eq!(
            (again.error, again.previous_status),
            (None, Some(VolumeStatus::Error))
        );
        assert_eq!(catalog.jobs().await.unwrap().len(), 1);

        catalog.remove_volume(&row.id).await.unwrap();
        assert!(catalog.volumes().await.unwrap().is_empty());
        assert!(catalog.jobs().await.unwrap().is_empty());
    }
}
