//! Volumes that are being adopted or let go. What is done to the storage is one step, which is done or not: so a row says all that
//! is needed to finish or forget it after a crash.

use rusqlite::{Connection, Row, params};
use stockpot_driver::VolumeId;

use super::{
    Catalog, CatalogError, Metadata, VolumeRow,
    codec::{Columns, text_enum, to_json},
    volumes,
};

/// The table.
pub(super) const SCRIPT: &str = "
CREATE TABLE adoptions (
    volume_id       TEXT PRIMARY KEY,
    way             TEXT NOT NULL,
    -- VG/LV
    source          TEXT NOT NULL,
    pool            TEXT NOT NULL,
    -- Of the volume, for one that is adopted.
    name            TEXT NOT NULL,
    metadata        TEXT NOT NULL,
    created_at_us   INTEGER NOT NULL
) STRICT;
";

text_enum! {
    /// Which way it goes.
    Way {
        /// It becomes ours.
        Adopt = "adopt",
        /// It is let go.
        Release = "release",
    }
}

/// A volume that is being adopted or let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Its id.
    pub volume_id: VolumeId,
    /// Which way it goes.
    pub way: Way,
    /// `VG/LV` as it was asked for.
    pub source: String,
    /// The pool it lies in.
    pub pool: String,
    /// The caller's name for it.
    pub name: String,
    /// The caller's words.
    pub metadata: Metadata,
    /// When it was asked for, in microseconds since the Unix epoch.
    pub created_at_us: i64,
}

impl Catalog {
    /// Writes that a volume is going to be adopted or let go.
    ///
    /// # Errors
    /// [`CatalogError::is_taken`] when one of them is under way already.
    pub async fn begin_adoption(&self, adoption: Adoption) -> Result<(), CatalogError> {
        self.call(move |connection| {
            connection.execute(
                "INSERT INTO adoptions (volume_id, way, source, pool, name, metadata, created_at_us)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    adoption.volume_id.as_str(),
                    adoption.way.as_str(),
                    adoption.source,
                    adoption.pool,
                    adoption.name,
                    to_json(&adoption.metadata),
                    adoption.created_at_us,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// All that are under way.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn adoptions(&self) -> Result<Vec<Adoption>, CatalogError> {
        self.call(|connection| {
            let all = "SELECT * FROM adoptions ORDER BY volume_id";
            let mut statement = connection.prepare_cached(all)?;
            let mut rows = statement.query([])?;
            let mut adoptions = Vec::new();
            while let Some(row) = rows.next()? {
                adoptions.push(read(row)?);
            }
            Ok(adoptions)
        })
        .await
    }

    /// Ends an adoption: the volume is ours.
    ///
    /// # Errors
    /// [`CatalogError::is_taken`] when another volume has got its name.
    pub async fn end_adoption(&self, volume: VolumeRow) -> Result<(), CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            volumes::insert(&transaction, &volume)?;
            forget(&transaction, volume.id.as_str())?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Ends a release: the volume is not ours any more.
    ///
    /// # Errors
    /// `Database`.
    pub async fn end_release(&self, id: &VolumeId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM volumes WHERE id = ?1", [id.as_str()])?;
            forget(&transaction, id.as_str())?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Forgets one that was not done, or was undone.
    ///
    /// # Errors
    /// `Database`.
    pub async fn forget_adoption(&self, id: &VolumeId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| forget(connection, id.as_str()))
            .await
    }
}

fn forget(connection: &Connection, id: &str) -> Result<(), CatalogError> {
    connection.execute("DELETE FROM adoptions WHERE volume_id = ?1", [id])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Adoption, CatalogError> {
    let columns = Columns {
        table: "adoptions",
        row,
    };
    Ok(Adoption {
        volume_id: columns.word("volume_id")?,
        way: columns.word("way")?,
        source: columns.text("source")?,
        pool: columns.text("pool")?,
        name: columns.text("name")?,
        metadata: columns.json("metadata")?,
        created_at_us: columns.number("created_at_us")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{VolumeStatus, volumes::tests::volume},
        *,
    };

    #[tokio::test]
    async fn both_ways_end_with_one_write() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let row = volume("a", VolumeStatus::Available);
        let adoption = |way| Adoption {
            volume_id: row.id.clone(),
            way,
            source: "vg0/data".to_owned(),
            pool: row.pool.clone(),
            name: row.name.clone(),
            metadata: row.metadata.clone(),
            created_at_us: 7,
        };
        let adopting = adoption(Way::Adopt);
        catalog.begin_adoption(adopting.clone()).await.unwrap();
        let again = catalog.begin_adoption(adopting.clone()).await;
        assert!(again.unwrap_err().is_taken());
        assert_eq!(catalog.adoptions().await.unwrap(), [adopting]);
        catalog.end_adoption(row.clone()).await.unwrap();
        assert_eq!(catalog.volume(&row.id).await.unwrap(), Some(row.clone()));
        assert!(catalog.adoptions().await.unwrap().is_empty());

        catalog
            .begin_adoption(adoption(Way::Release))
            .await
            .unwrap();
        catalog.forget_adoption(&row.id).await.unwrap();
        assert!(catalog.volume(&row.id).await.unwrap().is_some());
        catalog
            .begin_adoption(adoption(Way::Release))
            .await
            .unwrap();
        catalog.end_release(&row.id).await.unwrap();
        assert!(catalog.volumes().await.unwrap().is_empty());
        assert!(catalog.adoptions().await.unwrap().is_empty());
    }
}
