//! A schedule and a run of it as they stood at one moment: what is read in several calls may have a run between them.

use rusqlite::Connection;

use super::{ItemRow, RunRow, ScheduleRow, items, runs};
use crate::catalog::{Catalog, CatalogError};

/// A schedule with one of its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleState {
    /// The schedule.
    pub schedule: ScheduleRow,
    /// The run and all its volumes; `None`: there is none, or not the one asked for.
    pub run: Option<(RunRow, Vec<ItemRow>)>,
}

impl Catalog {
    /// The schedule of a name with its newest run, or with the one of the id given.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn schedule_state(
        &self,
        name: &str,
        run_id: Option<i64>,
    ) -> Result<Option<ScheduleState>, CatalogError> {
        let name = name.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let schedule = super::find(&transaction, &name)?;
            let state = schedule.map(|schedule| state(&transaction, schedule, run_id));
            state.transpose()
        })
        .await
    }

    /// Every schedule with its newest run, by name.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn schedule_states(&self) -> Result<Vec<ScheduleState>, CatalogError> {
        self.call(|connection| {
            let transaction = connection.transaction()?;
            let schedules = super::all(&transaction)?;
            let states = schedules
                .into_iter()
                .map(|schedule| state(&transaction, schedule, None));
            states.collect()
        })
        .await
    }
}

fn state(
    connection: &Connection,
    schedule: ScheduleRow,
    run_id: Option<i64>,
) -> Result<ScheduleState, CatalogError> {
    let run = match runs::find(connection, &schedule.name, run_id)? {
        Some(run) => {
            let items = items::of_run(connection, run.id)?;
            Some((run, items))
        }
        None => None,
    };
    Ok(ScheduleState { schedule, run })
}
