//! What a run has to do: one item for each of its volumes.

use rusqlite::{Connection, Row, named_params, params};
use stockpot_driver::VolumeId;

use super::runs::{self, RunRow};
use crate::catalog::{
    Catalog, CatalogError,
    codec::{Columns, text_enum},
};

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

impl Catalog {
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
                found.push((runs::read(row)?, read(row)?));
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
}

/// All volumes of a run.
pub(super) fn of_run(connection: &Connection, run_id: i64) -> Result<Vec<ItemRow>, CatalogError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM schedule_items WHERE run_id = ?1 ORDER BY volume_name, volume_id",
    )?;
    let mut rows = statement.query([run_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

pub(super) fn insert(
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

fn read(row: &Row<'_>) -> Result<ItemRow, CatalogError> {
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
