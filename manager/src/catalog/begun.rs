//! Of which snapshots something may have been sent. Noted before the first byte goes, so what is not noted left nothing in any
//! bucket.

use stockpot_driver::SnapshotId;

use super::{Catalog, CatalogError};

/// The table. Of older rows nobody knows, so they count as begun.
pub(super) const SCRIPT: &str = "
CREATE TABLE begun_uploads (
    id              TEXT PRIMARY KEY
) STRICT;
INSERT INTO begun_uploads (id) SELECT id FROM snapshots WHERE cloud_state IN ('pending', 'failed', 'unknown');
CREATE TRIGGER begun_uploads_end AFTER DELETE ON snapshots BEGIN
    DELETE FROM begun_uploads WHERE id = OLD.id;
END;
";

impl Catalog {
    /// Notes that an upload is about to send something.
    ///
    /// # Errors
    /// `Database`.
    pub async fn upload_begins(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        let id = id.clone();
        self.call(move |connection| {
            let sql = "INSERT OR IGNORE INTO begun_uploads (id) VALUES (?1)";
            connection.execute(sql, [id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Whether an upload of it may have sent something.
    ///
    /// # Errors
    /// `Database`.
    pub async fn has_begun_upload(&self, id: &SnapshotId) -> Result<bool, CatalogError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM begun_uploads WHERE id = ?1)";
        let id = id.clone();
        self.call(move |connection| Ok(connection.query_row(sql, [id.as_str()], |row| row.get(0))?))
            .await
    }
}
