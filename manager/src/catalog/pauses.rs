//! Backups that wait until somebody asks to go on.

use super::{Catalog, CatalogError};

impl Catalog {
    /// Notes that the upload of a backup is to stand still. `false` when it is not under way.
    ///
    /// # Errors
    /// `Database`.
    pub async fn pause_backup(&self, id: &str) -> Result<bool, CatalogError> {
        let sql =
            "UPDATE backups SET paused = 1, phase = 'paused' WHERE id = ?1 AND status = 'creating'";
        let id = id.to_owned();
        self.call(move |connection| Ok(connection.execute(sql, [id])? > 0))
            .await
    }

    /// Notes that it is to go on. `false` when it was not paused.
    ///
    /// # Errors
    /// `Database`.
    pub async fn resume_backup(&self, id: &str) -> Result<bool, CatalogError> {
        let sql = "UPDATE backups SET paused = 0, phase = 'starting'
                    WHERE id = ?1 AND status = 'creating' AND paused = 1";
        let id = id.to_owned();
        self.call(move |connection| Ok(connection.execute(sql, [id])? > 0))
            .await
    }
}
