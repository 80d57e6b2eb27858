//! What happens at the start: exports still wanted are kept or made again, all others of ours are removed.

use std::sync::Arc;

use super::{
    ExportName, ExportRecord, ExportSource, TargetError, Targets,
    work::{Inner, Turn},
};

/// What [`Targets::recover`] found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredExports {
    /// Were there, outliving the process that made them, and stay.
    pub kept: Vec<ExportName>,
    /// Were gone, as after a reboot, and are made again, with the same secrets.
    pub remade: Vec<ExportName>,
    /// Were there, whole or in part, and are not wanted any more.
    pub removed: Vec<ExportName>,
    /// Are wanted, and nothing says to whom: `initialize_connection*` makes them anew, with fresh secrets.
    pub unknown: Vec<ExportName>,
    /// Could not be brought to what they should be, and why.
    pub failed: Vec<(ExportName, String)>,
}

impl Targets {
    /// Makes those in `wanted` what their records say, leaves those in `spared` as they are, and removes all others of
    /// ours, sessions included.
    ///
    /// One export that fails does not keep the others from being recovered.
    ///
    /// # Errors
    /// `Host`, `Records`, `Stuck`.
    pub async fn recover(
        &self,
        wanted: &[ExportSource],
        spared: &[ExportName],
    ) -> Result<RecoveredExports, TargetError> {
        let (wanted, spared) = (wanted.to_vec(), spared.to_vec());
        let nothing = self.inner.all_records().await?.is_empty() && wanted.is_empty();
        if !nothing {
            self.check().await?;
        }
        self.whole(|inner, turn| recover(inner, turn, wanted, spared))
            .await
    }
}

async fn recover(
    inner: Arc<Inner>,
    turn: Turn,
    wanted: Vec<ExportSource>,
    spared: Vec<ExportName>,
) -> Result<RecoveredExports, TargetError> {
    let mut done = RecoveredExports::default();
    let (mut turn, there) = inner
        .step(turn, "listing targets", |lio| lio.names_there())
        .await?;
    let is_wanted = |name: &ExportName| {
        spared.contains(name) || wanted.iter().any(|source| source.name == *name)
    };
    for record in inner.all_records().await? {
        if !is_wanted(&record.name) && !there.contains(&record.name) {
            forget(&inner, &record.name, &mut done).await;
        }
    }
    for name in there.iter().filter(|name| !is_wanted(name)) {
        let export = name.clone();
        let result;
        (turn, result) = inner
            .step(turn, "removing a target", move |lio| {
                Ok(lio.remove(&export, true))
            })
            .await?;
        match result {
            Ok(()) => {
                forget(&inner, name, &mut done).await;
                done.removed.push(name.clone());
            }
            Err(error) => done.failed.push((name.clone(), in_full(&error))),
        }
    }
    for source in wanted {
        let name = source.name.clone();
        let record = match inner.record(&name).await {
            Ok(Some(record)) => record,
            Ok(None) => {
                done.unknown.push(name);
                continue;
            }
            // One that cannot be read is no reason not to make the others.
            Err(error) => {
                done.failed.push((name, in_full(&error)));
                continue;
            }
        };
        let result;
        (turn, result) = inner
            .step(turn, "making a target again", move |lio| {
                Ok(remake(lio, &source, &record))
            })
            .await?;
        match result {
            Ok(()) if there.contains(&name) => done.kept.push(name),
            Ok(()) => done.remade.push(name),
            Err(error) => done.failed.push((name, in_full(&error))),
        }
    }
    Ok(done)
}

/// Exactly what the record says: initiators that are not in it lose their access.
fn remake(
    lio: &super::lio::Lio,
    source: &ExportSource,
    record: &ExportRecord,
) -> Result<(), TargetError> {
    lio.ensure(&source.name, &source.device)?;
    for initiator in lio.initiators(&source.name)? {
        if !record
            .grants
            .iter()
            .any(|grant| grant.initiator == initiator)
        {
            lio.expel(&source.name, &initiator)?;
        }
    }
    record
        .grants
        .iter()
        .try_for_each(|grant| lio.admit(&source.name, grant))
}

/// Removes the record of what is not exported any more.
async fn forget(inner: &Inner, name: &ExportName, done: &mut RecoveredExports) {
    let nobody = ExportRecord {
        name: name.clone(),
        grants: Vec::new(),
    };
    if let Err(error) = inner.put(&nobody).await {
        done.failed.push((name.clone(), in_full(&error)));
    }
}

/// An error with its causes: it goes into a report, where the chain would be lost.
fn in_full(error: &TargetError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
