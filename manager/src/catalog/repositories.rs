//! Which repository was found where.

use std::collections::BTreeMap;

use rusqlite::params;

use super::{Catalog, CatalogError};

impl Catalog {
    /// Locations and the short ids of the repositories that were found there.
    ///
    /// # Errors
    /// `Database`.
    pub async fn repositories(&self) -> Result<BTreeMap<String, String>, CatalogError> {
        self.call(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT location, short_id FROM repositories")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Notes which repository was found at a location.
    ///
    /// # Errors
    /// `Database`.
    pub async fn put_repository(&self, location: &str, short_id: &str) -> Result<(), CatalogError> {
        let (location, short_id) = (location.to_owned(), short_id.to_owned());
        self.call(move |connection| {
            connection.execute(
                "INSERT OR REPLACE INTO repositories (location, short_id) VALUES (?1, ?2)",
                params![location, short_id],
            )?;
            Ok(())
        })
        .await
    }
}
