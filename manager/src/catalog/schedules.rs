//! Schedules, their runs, and what each run has to do. A run and its items are on record before the first backup of it
//! begins, together with the note that its due time is dealt with: a crash neither loses nor doubles one.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use stockpot_driver::{SnapshotId, VolumeId};

use super::{
    BackupRow, Catalog, CatalogError, backups,
    codec::{Columns, text_enum},
};

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

text_enum! {
    /// Where one volume of a run is.
    ItemState {
        /// It has its turn later.
        Waiting = "waiting",
        /// Its backup is under way.
        Begun = "begun",
        /// Its backup is there.
        Done = "done",
        /// There is no backup of it, and the message says why.
        Failed = "failed",
        /// It was left out on purpose, and the message says why.
        Skipped = "skipped",
    }
}

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
    /// What went wrong besides its backups.
    pub error: Option<String>,
}

/// One volume of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRow {
    /// The run.
    pub run_id: i64,
    /// The volume.
    pub volume_id: VolumeId,
    /// That volume's name.
    pub volume_name: String,
    /// The name of its backup.
    pub backup_name: String,
    /// When it may begin, in microseconds since the Unix epoch.
    pub not_before_us: i64,
    /// Until when it is tried.
    pub give_up_at_us: i64,
    /// Where it is.
    pub state: ItemState,
    /// Its backup, once it has begun.
    pub backup_id: Option<String>,
    /// What there is to say of it.
    pub message: Option<String>,
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
        self.call(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM schedules ORDER BY name")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read_schedule(row)?);
            }
            Ok(found)
        })
        .await
    }

    /// The schedule of a name.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, CatalogError> {
        let name = name.to_owned();
        self.call(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM schedules WHERE name = ?1")?;
            let row = statement.query_row([name], |row| Ok(read_schedule(row)));
            row.optional()?.transpose()
        })
        .await
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

    /// Writes a run with all it has to do. `false` when the schedule is not as it was any more, or has run at that time.
    ///
    /// What earlier runs still had to do for the same volumes is left out: the newer run does it.
    ///
    /// # Errors
    /// `Database`.
    pub async fn begin_run(&self, run: NewRun) -> Result<bool, CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let begun = begin_run(&transaction, &run)?;
            transaction.commit()?;
            Ok(begun)
        })
        .await
    }

    /// What runs have still to do or wait for, with the run: the oldest first.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn open_items(&self) -> Result<Vec<(RunRow, ItemRow)>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT r.*, i.* FROM schedule_items i JOIN schedule_runs r ON r.id = i.run_id
                  WHERE i.state IN ('waiting', 'begun') ORDER BY i.not_before_us, i.run_id, i.volume_id",
            )?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push((read_run(row)?, read_item(row)?));
            }
            Ok(found)
        })
        .await
    }

    /// Writes where a volume of a run is, when it may be tried again, its backup and its message. What a newer run took the place of
    /// comes back only as one whose backup has begun all the same.
    ///
    /// # Errors
    /// `Database`.
    pub async fn update_item(&self, item: ItemRow) -> Result<(), CatalogError> {
        self.call(move |connection| {
            connection.execute(
                "UPDATE schedule_items SET state = ?3, not_before_us = ?4, backup_id = ?5, message = ?6
                  WHERE run_id = ?1 AND volume_id = ?2 AND (state <> 'skipped' OR ?3 = 'begun')",
                params![
                    item.run_id,
                    item.volume_id.as_str(),
                    item.state.as_str(),
                    item.not_before_us,
                    item.backup_id,
                    item.message
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Runs that have done all they had to and are not ended.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn runs_to_end(&self) -> Result<Vec<RunRow>, CatalogError> {
        self.runs(
            "SELECT * FROM schedule_runs r WHERE ended_at_us IS NULL AND NOT EXISTS
                 (SELECT 1 FROM schedule_items WHERE run_id = r.id AND state IN ('waiting', 'begun')) ORDER BY id",
            String::new(),
        )
        .await
    }

    /// The newest run of a schedule.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn last_run(&self, schedule: &str) -> Result<Option<RunRow>, CatalogError> {
        let sql = "SELECT * FROM schedule_runs WHERE schedule = ?1 ORDER BY id DESC LIMIT 1";
        Ok(self.runs(sql, schedule.to_owned()).await?.pop())
    }

    async fn runs(&self, sql: &'static str, schedule: String) -> Result<Vec<RunRow>, CatalogError> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = match statement.parameter_count() {
                0 => statement.query([])?,
                _ => statement.query([schedule])?,
            };
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read_run(row)?);
            }
            Ok(found)
        })
        .await
    }

    /// All volumes of a run.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn items_of_run(&self, run_id: i64) -> Result<Vec<ItemRow>, CatalogError> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM schedule_items WHERE run_id = ?1 ORDER BY volume_name, volume_id",
            )?;
            let mut rows = statement.query([run_id])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read_item(row)?);
            }
            Ok(found)
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

fn begin_run(transaction: &Transaction<'_>, run: &NewRun) -> Result<bool, CatalogError> {
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
        return Ok(false);
    };
    // The first one, and every n-th after it.
    let is_full = run.full_every > 0 && (runs - 1) % i64::from(run.full_every) == 0;
    let inserted = transaction.execute(
        "INSERT OR IGNORE INTO schedule_runs (schedule, due_at_us, is_full, began_at_us) VALUES (?1, ?2, ?3, ?4)",
        params![schedule.name, run.due_at_us, is_full, run.began_at_us],
    )?;
    if inserted == 0 {
        // Only where the clock was put back: that time has been.
        return Ok(false);
    }
    let run_id = transaction.last_insert_rowid();
    for item in &run.items {
        insert_item(transaction, run_id, &schedule.name, item)?;
    }
    Ok(true)
}

fn insert_item(
    connection: &Connection,
    run_id: i64,
    schedule: &str,
    item: &ItemRow,
) -> Result<(), CatalogError> {
    connection.execute(
        "UPDATE schedule_items SET state = 'skipped', message = 'the next run came before its turn'
          WHERE volume_id = ?1 AND state = 'waiting' AND run_id IN (SELECT id FROM schedule_runs WHERE schedule = ?2)",
        params![item.volume_id.as_str(), schedule],
    )?;
    connection.execute(
        "INSERT INTO schedule_items (run_id, volume_id, volume_name, backup_name, not_before_us, give_up_at_us, state, message)
         VALUES (:run, :volume, :name, :backup, :not_before, :give_up, :state, :message)",
        named_params! {
            ":run": run_id,
            ":volume": item.volume_id.as_str(),
            ":name": item.volume_name,
            ":backup": item.backup_name,
            ":not_before": item.not_before_us,
            ":give_up": item.give_up_at_us,
            ":state": item.state.as_str(),
            ":message": item.message,
        },
    )?;
    Ok(())
}

fn read_schedule(row: &Row<'_>) -> Result<ScheduleRow, CatalogError> {
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

fn read_run(row: &Row<'_>) -> Result<RunRow, CatalogError> {
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
        error: columns.optional_text("error")?,
    })
}

fn read_item(row: &Row<'_>) -> Result<ItemRow, CatalogError> {
    let columns = Columns {
        table: "schedule_items",
        row,
    };
    Ok(ItemRow {
        run_id: columns.number("run_id")?,
        volume_id: columns.word("volume_id")?,
        volume_name: columns.text("volume_name")?,
        backup_name: columns.text("backup_name")?,
        not_before_us: columns.number("not_before_us")?,
        give_up_at_us: columns.number("give_up_at_us")?,
        state: columns.word("state")?,
        backup_id: columns.optional_text("backup_id")?,
        message: columns.optional_text("message")?,
    })
}

#[cfg(test)]
mod tests;
