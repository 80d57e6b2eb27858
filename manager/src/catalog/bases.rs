//! Snapshots whose local copy was deleted and whose device is kept, so that the next upload of their volume is told what changed.

use rusqlite::params;
use stockpot_driver::SnapshotId;

use super::{Catalog, CatalogError};

/// What is kept of that kind in a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptBases {
    /// How many snapshots.
    pub count: u64,
    /// What they take at most, in bytes: the sizes of their devices, of which they share what is unchanged with their volumes.
    pub bytes_max: u64,
}

impl Catalog {
    /// Records that the local copy was deleted, and that its device is kept as a base.
    ///
    /// # Errors
    /// `Database`.
    pub async fn local_copy_kept_as_base(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        let sql = "UPDATE snapshots SET local_state = 'deleted', deleting = NULL, kept_as_base = 1 WHERE id = ?1";
        self.update_snapshot(sql, id).await
    }

    /// Records that the device of a snapshot that was kept as a base is gone.
    ///
    /// # Errors
    /// `Database`.
    pub async fn base_given_back(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        self.update_snapshot("UPDATE snapshots SET kept_as_base = 0 WHERE id = ?1", id)
            .await
    }

    /// How much is kept as bases in a pool.
    ///
    /// # Errors
    /// `Database`.
    pub async fn bases_kept_in(&self, pool: &str) -> Result<KeptBases, CatalogError> {
        let sql = "SELECT count(*), coalesce(sum(size_bytes), 0) FROM snapshots WHERE kept_as_base AND pool = ?1";
        let pool = pool.to_owned();
        self.call(move |connection| {
            let (count, bytes): (i64, i64) =
                connection.query_row(sql, params![pool], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(KeptBases {
                count: u64::try_from(count).unwrap_or(0),
                bytes_max: u64::try_from(bytes).unwrap_or(0),
            })
        })
        .await
    }
}
