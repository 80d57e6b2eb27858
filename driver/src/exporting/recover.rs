//! Exports after a start: those that hosts have are made as before.

use std::sync::Arc;

use super::ExportingDriver;
use crate::{
    DriverError,
    target::{ExportName, ExportSource, RecoveredExports, Targets, in_full},
};

/// Called once at the start, with the drivers of all pools: what is in `wanted` is exported as before, everything else
/// of ours is removed. What cannot be told is left as it is, and is among the failed.
///
/// # Errors
/// If the kernel's target or the records cannot be asked.
pub async fn recover_exports(
    targets: &Targets,
    drivers: &[Arc<ExportingDriver>],
    wanted: &[ExportName],
) -> Result<RecoveredExports, DriverError> {
    let (mut sources, mut unclear) = (Vec::new(), Vec::new());
    for name in wanted {
        match find_source(drivers, name).await {
            Ok(source) => sources.push(source),
            Err(error) => unclear.push((name.clone(), in_full(&error))),
        }
    }
    let spared: Vec<_> = unclear.iter().map(|(name, _)| name.clone()).collect();
    let mut done = targets.recover(&sources, &spared).await?;
    done.failed.extend(unclear);
    Ok(done)
}

/// Tries those again that could not be made again; one that is on no record any more is passed over. No other is touched, so
/// hosts may come and go meanwhile.
/// What one of them meets is among the failed, and keeps no other waiting.
pub async fn remake_exports(
    targets: &Targets,
    drivers: &[Arc<ExportingDriver>],
    names: &[ExportName],
) -> RecoveredExports {
    let mut done = RecoveredExports::default();
    for name in names {
        match remake(targets, drivers, name).await {
            Ok(made) => {
                done.kept.extend(made.kept);
                done.remade.extend(made.remade);
                done.unknown.extend(made.unknown);
                done.failed.extend(made.failed);
            }
            // Its volume or snapshot was deleted meanwhile.
            Err(DriverError::NotFound { .. }) => done.unknown.push(name.clone()),
            Err(error) => done.failed.push((name.clone(), in_full(&error))),
        }
    }
    done
}

async fn remake(
    targets: &Targets,
    drivers: &[Arc<ExportingDriver>],
    name: &ExportName,
) -> Result<RecoveredExports, DriverError> {
    let driver = owner(drivers, name).await?;
    let _turn = driver.turns.of(name).await?;
    // Nobody has it any more.
    if targets.mode(name).await?.is_none() {
        return Ok(RecoveredExports::default());
    }
    let source = driver.source(name).await?;
    Ok(targets.make_again(&[source]).await?)
}

async fn find_source(
    drivers: &[Arc<ExportingDriver>],
    name: &ExportName,
) -> Result<ExportSource, DriverError> {
    owner(drivers, name).await?.source(name).await
}

/// The driver that has it. One that cannot be asked matters only if no other has it.
async fn owner<'a>(
    drivers: &'a [Arc<ExportingDriver>],
    name: &ExportName,
) -> Result<&'a ExportingDriver, DriverError> {
    let mut problem = None;
    for driver in drivers {
        match driver.has(name).await {
            Ok(true) => return Ok(driver),
            Ok(false) => {}
            Err(error) => problem = Some(error),
        }
    }
    Err(problem.unwrap_or_else(|| DriverError::NotFound {
        what: name.to_string(),
    }))
}
