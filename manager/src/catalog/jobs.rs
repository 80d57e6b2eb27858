//! Uploads and restores that are not final. Rows come and go with the status of what they work on.

use rusqlite::{Connection, Rows, params};

use super::{Catalog, CatalogError, Job, JobKind, codec::Columns};

const ALL: &str = "SELECT * FROM jobs ORDER BY created_at_us, kind, target_id";
const ONE: &str = "SELECT * FROM jobs WHERE kind = ?1 AND target_id = ?2";

impl Catalog {
    /// Every job, oldest first.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn jobs(&self) -> Result<Vec<Job>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(ALL)?;
            read(&mut statement.query([])?)
        })
        .await
    }

    /// The job of a snapshot or volume.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn job(&self, kind: JobKind, target_id: &str) -> Result<Option<Job>, CatalogError> {
        let target_id = target_id.to_owned();
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(ONE)?;
            Ok(read(&mut statement.query(params![kind.as_str(), target_id])?)?.pop())
        })
        .await
    }

    /// Notes that an attempt begins.
    ///
    /// # Errors
    /// `Database`.
    pub async fn job_begins(&self, kind: JobKind, target_id: &str) -> Result<(), CatalogError> {
        let target_id = target_id.to_owned();
        self.call(move |connection| {
            connection.execute(
                "UPDATE jobs SET attempts = attempts + 1, step = 'running' WHERE kind = ?1 AND target_id = ?2",
                params![kind.as_str(), target_id],
            )?;
            Ok(())
        })
        .await
    }

    /// Notes that an attempt failed and another one will follow.
    ///
    /// # Errors
    /// `Database`.
    pub async fn job_waits(
        &self,
        kind: JobKind,
        target_id: &str,
        error: String,
    ) -> Result<(), CatalogError> {
        let target_id = target_id.to_owned();
        self.call(move |connection| {
            connection.execute(
                "UPDATE jobs SET step = 'waiting', error = ?3 WHERE kind = ?1 AND target_id = ?2",
                params![kind.as_str(), target_id, error],
            )?;
            Ok(())
        })
        .await
    }
}

fn read(rows: &mut Rows<'_>) -> Result<Vec<Job>, CatalogError> {
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = Columns { table: "jobs", row };
        let attempts = columns.number("attempts")?;
        jobs.push(Job {
            kind: columns.word("kind")?,
            target_id: columns.text("target_id")?,
            attempts: u32::try_from(attempts)
                .map_err(|_| columns.unusable("attempts", &attempts.to_string()))?,
            error: columns.optional_text("error")?,
        });
    }
    Ok(jobs)
}

/// Writes a job that has not begun.
pub(super) fn insert(
    connection: &Connection,
    kind: JobKind,
    target_id: &str,
) -> Result<(), CatalogError> {
    connection.execute(
        "INSERT OR REPLACE INTO jobs (kind, target_id, step, created_at_us)
         VALUES (?1, ?2, 'queued', CAST(unixepoch('subsec') * 1000000 AS INTEGER))",
        params![kind.as_str(), target_id],
    )?;
    Ok(())
}

/// Forgets a job that is final.
pub(super) fn remove(
    connection: &Connection,
    kind: JobKind,
    target_id: &str,
) -> Result<(), CatalogError> {
    connection.execute(
        "DELETE FROM jobs WHERE kind = ?1 AND target_id = ?2",
        params![kind.as_str(), target_id],
    )?;
    Ok(())
}
