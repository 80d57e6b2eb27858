//! To whom this host exports what. What is kept is sealed before it gets here.

use rusqlite::OptionalExtension;

use super::{Catalog, CatalogError};

impl Catalog {
    /// Writes the sealed record of an export, or replaces it.
    ///
    /// # Errors
    /// `Database`.
    pub async fn put_export(&self, name: String, sealed: Vec<u8>) -> Result<(), CatalogError> {
        self.call(move |connection| {
            connection.execute(
                "INSERT OR REPLACE INTO exports (name, sealed) VALUES (?1, ?2)",
                (name, sealed),
            )?;
            Ok(())
        })
        .await
    }

    /// The sealed record of an export.
    ///
    /// # Errors
    /// `Database`.
    pub async fn export(&self, name: String) -> Result<Option<Vec<u8>>, CatalogError> {
        self.call(move |connection| {
            let one = "SELECT sealed FROM exports WHERE name = ?1";
            let mut statement = connection.prepare_cached(one)?;
            Ok(statement.query_row([name], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Every sealed record, by name.
    ///
    /// # Errors
    /// `Database`.
    pub async fn exports(&self) -> Result<Vec<(String, Vec<u8>)>, CatalogError> {
        self.call(|connection| {
            let all = "SELECT name, sealed FROM exports ORDER BY name";
            let mut statement = connection.prepare_cached(all)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Forgets an export. None is success.
    ///
    /// # Errors
    /// `Database`.
    pub async fn remove_export(&self, name: String) -> Result<(), CatalogError> {
        self.call(move |connection| {
            connection.execute("DELETE FROM exports WHERE name = ?1", [name])?;
            Ok(())
        })
        .await
    }
}
