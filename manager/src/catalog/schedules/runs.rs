//! Runs of schedules: each is on record with all it has to do before any of it begins.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{
    ScheduleRow,
    items::{self, ItemRow},
};
use crate::catalog::{Catalog, CatalogError, codec::Columns};

/// One run of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its number among all runs.
    pub id: i64,
    /// The schedule.
    pub schedule: String,
    /// When it was due, in microseconds since the Unix epoch.
    pub due_at_us: i64,
    /// Its backups send everything.
    pub is_full: bool,
    /// When it began.
    pub began_at_us: i64,
    /// When all was done, retention too; `None`: it is under way.
    pub ended_at_us: Option<i64>,
    /// What went wrong besides its backups.
    pub error: Option<String>,
}

/// A run that is to begin.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The schedule as it was when this was decided.
    pub schedule: ScheduleRow,
    /// When it is due.
    pub due_at_us: i64,
    /// Whether the due times up to it are dealt with thereby; one that somebody asks for leaves them.
    pub is_due: bool,
    /// Every n-th run sends everything; 0: none.
    pub full_every: u32,
    /// Now.
    pub began_at_us: i64,
    /// The volumes, with the run's id to be filled in.
    pub items: Vec<ItemRow>,
}

impl Catalog {
    /// Writes a run with all it has to do: its id. `None` when the schedule is not as it was any more, or has run at that time.
    ///
    /// What earlier runs still had to do for the same volumes is left out: the newer run does it.
    ///
    /// # Errors
    /// `Database`.
    pub async fn begin_run(&self, run: NewRun) -> Result<Option<i64>, CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let begun = begin(&transaction, &run)?;
            transaction.commit()?;
            Ok(begun)
        })
        .await
    }

    /// Runs that have done all they had to and are not ended.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn runs_to_end(&self) -> Result<Vec<RunRow>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM schedule_runs r WHERE ended_at_us IS NULL AND NOT EXISTS
                     (SELECT 1 FROM schedule_items WHERE run_id = r.id AND state IN ('waiting', 'begun')) ORDER BY id",
            )?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
            Ok(found)
        })
        .await
    }

    /// The run of a schedule that was due at a time, in microseconds since the Unix epoch: its id.
    ///
    /// # Errors
    /// `Database`.
    pub async fn run_due_at(
        &self,
        schedule: &str,
        due_at_us: i64,
    ) -> Result<Option<i64>, CatalogError> {
        let schedule = schedule.to_owned();
        self.call(move |connection| {
            let sql = "SELECT id FROM schedule_runs WHERE schedule = ?1 AND due_at_us = ?2";
            let id = connection.query_row(sql, params![schedule, due_at_us], |row| row.get(0));
            Ok(id.optional()?)
        })
        .await
    }

    /// Ends a run, and forgets the oldest of its schedule that have ended: `keep` stay.
    ///
    /// # Errors
    /// `Database`.
    pub async fn end_run(
        &self,
        run: RunRow,
        ended_at_us: i64,
        keep: u32,
    ) -> Result<(), CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE schedule_runs SET ended_at_us = ?2, error = ?3 WHERE id = ?1",
                params![run.id, ended_at_us, run.error],
            )?;
            transaction.execute(
                "DELETE FROM schedule_runs WHERE schedule = ?1 AND ended_at_us IS NOT NULL AND id NOT IN
                     (SELECT id FROM schedule_runs WHERE schedule = ?1 ORDER BY id DESC LIMIT ?2)",
                params![run.schedule, keep],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }
}

/// A run of a schedule by its id, or its newest.
pub(super) fn find(
    connection: &Connection,
    schedule: &str,
    run_id: Option<i64>,
) -> Result<Option<RunRow>, CatalogError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM schedule_runs WHERE schedule = ?1 AND id = ifnull(?2, id) ORDER BY id DESC LIMIT 1",
    )?;
    let run = statement.query_row(params![schedule, run_id], |row| Ok(read(row)));
    run.optional()?.transpose()
}

fn begin(transaction: &Transaction<'_>, run: &NewRun) -> Result<Option<i64>, CatalogError> {
    let schedule = &run.schedule;
    let runs: Option<i64> = transaction
        .query_row(
            "UPDATE schedules SET seen_us = iif(?5, ?6, seen_us), runs = runs + 1, error = NULL
              WHERE name = ?1 AND spec = ?2 AND paused = ?3 AND (seen_us = ?4 OR NOT ?5) RETURNING runs",
            params![
                schedule.name,
                schedule.spec,
                schedule.paused,
                schedule.seen_us,
                run.is_due,
                run.due_at_us
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(runs) = runs else {
        return Ok(None);
    };
    // The first one, and every n-th after it.
    let is_full = run.full_every > 0 && (runs - 1) % i64::from(run.full_every) == 0;
    let inserted = transaction.execute(
        "INSERT OR IGNORE INTO schedule_runs (schedule, due_at_us, is_full, began_at_us) VALUES (?1, ?2, ?3, ?4)",
        params![schedule.name, run.due_at_us, is_full, run.began_at_us],
    )?;
    if inserted == 0 {
        // Only where the clock was put back: that time has been.
        return Ok(None);
    }
    let run_id = transaction.last_insert_rowid();
    for item in &run.items {
        items::insert(transaction, run_id, &schedule.name, item)?;
    }
    Ok(Some(run_id))
}

pub(super) fn read(row: &Row<'_>) -> Result<RunRow, CatalogError> {
    let columns = Columns {
        table: "schedule_runs",
        row,
    };
    Ok(RunRow {
        id: columns.number("id")?,
        schedule: columns.text("schedule")?,
        due_at_us: columns.number("due_at_us")?,
        is_full: columns.flag("is_full")?,
        began_at_us: columns.number("began_at_us")?,
        ended_at_us: columns.optional_number("ended_at_us")?,
        error: columns.optional_text("error")?,
    })
}
