//! Snapshots.

mod copies;

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use stockpot_driver::SnapshotId;

use super::{
    Catalog, CatalogError, CopyState, JobKind, SnapshotRow, backups,
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
pub(crate) mod tests;
