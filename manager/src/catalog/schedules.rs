//! Schedules, their runs, and what each run has to do. A run and its items are on record before the first backup of it
//! begins, together with the note that its due time is dealt with: a crash neither loses nor doubles one.

mod items;
mod runs;
mod state;

use rusqlite::{Connection, OptionalExtension, Row, params};
use stockpot_driver::{SnapshotId, VolumeId};

pub use self::{
    items::{ItemRow, ItemState},
    runs::{NewRun, RunRow},
    state::ScheduleState,
};
use super::{BackupRow, Catalog, CatalogError, backups, codec::Columns};

/// The tables.
pub(super) const SCRIPT: &str = "
CREATE TABLE schedules (
    name            TEXT PRIMARY KEY,
    -- What it says, as JSON.
    spec            TEXT NOT NULL,
    paused          INTEGER NOT NULL DEFAULT 0,
    -- Due times up to this one are dealt with.
    seen_us         INTEGER NOT NULL,
    -- Runs so far.
    runs            INTEGER NOT NULL DEFAULT 0,
    -- Why it cannot run.
    error           TEXT,
    created_at_us   INTEGER NOT NULL
) STRICT;

CREATE TABLE schedule_runs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule        TEXT NOT NULL REFERENCES schedules (name) ON DELETE CASCADE,
    due_at_us       INTEGER NOT NULL,
    is_full         INTEGER NOT NULL,
    began_at_us     INTEGER NOT NULL,
    ended_at_us     INTEGER,
    error           TEXT,
    UNIQUE (schedule, due_at_us)
) STRICT;

-- One volume of a run.
CREATE TABLE schedule_items (
    run_id          INTEGER NOT NULL REFERENCES schedule_runs (id) ON DELETE CASCADE,
    volume_id       TEXT NOT NULL,
    volume_name     TEXT NOT NULL,
    backup_name     TEXT NOT NULL,
    -- When it may begin, and until when it is tried.
    not_before_us   INTEGER NOT NULL,
    give_up_at_us   INTEGER NOT NULL,
    state           TEXT NOT NULL,
    -- Once it has begun. No foreign key: backups come and go by themselves.
    backup_id       TEXT,
    message         TEXT,
    PRIMARY KEY (run_id, volume_id)
) STRICT;
CREATE INDEX schedule_items_open ON schedule_items (state) WHERE state IN ('waiting', 'begun');
CREATE INDEX schedule_runs_open ON schedule_runs (schedule) WHERE ended_at_us IS NULL;
CREATE INDEX backups_of_schedule ON backups (schedule) WHERE schedule IS NOT NULL;
";

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// What it says, as JSON.
    pub spec: String,
    /// Nothing runs while it is set.
    pub paused: bool,
    /// Due times up to this one are dealt with, in microseconds since the Unix epoch.
    pub seen_us: i64,
    /// Why it cannot run.
    pub error: Option<String>,
    /// When it was made, in microseconds since the Unix epoch.
    pub created_at_us: i64,
}

impl ScheduleRow {
    /// What is another one as soon as it says something else.
    pub fn version(&self) -> String {
        let said = format!("{} {}", self.paused, self.spec);
        blake3::hash(said.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// A backup of a schedule that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The schedule.
    pub schedule: String,
    /// The volume.
    pub volume_id: VolumeId,
    /// Its cloud copy, which names the repository.
    pub snapshot_id: SnapshotId,
    /// Somebody has stopped it for now.
    pub paused: bool,
}

impl Catalog {
    /// Every schedule, by name.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn schedules(&self) -> Result<Vec<ScheduleRow>, CatalogError> {
        self.call(|connection| all(connection)).await
    }

    /// The schedule of a name.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, CatalogError> {
        let name = name.to_owned();
        self.call(move |connection| find(connection, &name)).await
    }

    /// Writes a new schedule.
    ///
    /// # Errors
    /// [`CatalogError::is_taken`] when the name is there already.
    pub async fn insert_schedule(&self, row: ScheduleRow) -> Result<(), CatalogError> {
        self.call(move |connection| {
            connection.execute(
                "INSERT INTO schedules (name, spec, paused, seen_us, error, created_at_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![row.name, row.spec, row.paused, row.seen_us, row.error, row.created_at_us],
            )?;
            Ok(())
        })
        .await
    }

    /// Changes a schedule. `false` when it is not as it was any more: somebody else has changed it, or it has run.
    ///
    /// # Errors
    /// `Database`.
    pub async fn update_schedule(
        &self,
        before: ScheduleRow,
        after: ScheduleRow,
    ) -> Result<bool, CatalogError> {
        self.call(move |connection| {
            let changed = connection.execute(
                "UPDATE schedules SET spec = ?2, paused = ?3, seen_us = ?4, error = ?5
                  WHERE name = ?1 AND spec = ?6 AND paused = ?7 AND seen_us = ?8",
                params![
                    before.name,
                    after.spec,
                    after.paused,
                    after.seen_us,
                    after.error,
                    before.spec,
                    before.paused,
                    before.seen_us
                ],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    /// Forgets a schedule and its runs. Its backups stay.
    ///
    /// # Errors
    /// `Database`.
    pub async fn remove_schedule(&self, name: &str) -> Result<(), CatalogError> {
        let name = name.to_owned();
        self.call(move |connection| {
            connection.execute("DELETE FROM schedules WHERE name = ?1", [name])?;
            Ok(())
        })
        .await
    }

    /// The backups of schedules that have not ended.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn running_scheduled(&self) -> Result<Vec<Running>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, name, schedule, volume_id, snapshot_id, paused FROM backups
                  WHERE schedule IS NOT NULL AND status IN ('creating', 'cancelling')",
            )?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let columns = Columns {
                    table: "backups",
                    row,
                };
                found.push(Running {
                    id: columns.text("id")?,
                    name: columns.text("name")?,
                    schedule: columns.text("schedule")?,
                    volume_id: columns.word("volume_id")?,
                    snapshot_id: columns.word("snapshot_id")?,
                    paused: columns.flag("paused")?,
                });
            }
            Ok(found)
        })
        .await
    }

    /// All backups that name a schedule, by id, which is by age.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn backups_of_schedule(
        &self,
        schedule: &str,
    ) -> Result<Vec<BackupRow>, CatalogError> {
        let schedule = schedule.to_owned();
        self.call(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT * FROM backups WHERE schedule = ?1 ORDER BY id")?;
            let mut rows = statement.query([schedule])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(backups::read(row)?);
            }
            Ok(found)
        })
        .await
    }
}

fn all(connection: &Connection) -> Result<Vec<ScheduleRow>, CatalogError> {
    let mut statement = connection.prepare_cached("SELECT * FROM schedules ORDER BY name")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn find(connection: &Connection, name: &str) -> Result<Option<ScheduleRow>, CatalogError> {
    let mut statement = connection.prepare_cached("SELECT * FROM schedules WHERE name = ?1")?;
    let row = statement.query_row([name], |row| Ok(read(row)));
    row.optional()?.transpose()
}

fn read(row: &Row<'_>) -> Result<ScheduleRow, CatalogError> {
    let columns = Columns {
        table: "schedules",
        row,
    };
    Ok(ScheduleRow {
        name: columns.text("name")?,
        spec: columns.text("spec")?,
        paused: columns.flag("paused")?,
        seen_us: columns.number("seen_us")?,
        error: columns.optional_text("error")?,
        created_at_us: columns.number("created_at_us")?,
    })
}

#[cfg(test)]
mod tests;
