//! What happens at the start: exports still wanted are kept or made again, all others of ours are removed, unless a host
//! is at work on one.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{
    ExportName, ExportRecord, ExportSource, Recorded, TargetError, Targets,
    work::{Inner, LOGOUT_PATIENCE, LOGOUT_POLL, Turn},
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
    /// Writes records that cannot be read anew, from what the kernel has. To be called before it is decided what is wanted.
    ///
    /// # Errors
    /// `Records` if they cannot be listed; what one of them meets is told to the log.
    pub async fn mend_records(&self) -> Result<(), TargetError> {
        for name in self.inner.all_records().await?.unreadable {
            let export = name.clone();
            let mended = self
                .whole(|inner, turn| async move { inner.known(turn, &export).await.map(drop) })
                .await;
            if let Err(error) = mended {
                tracing::error!(%name, error = in_full(&error), "the record of an export can be neither read nor written anew");
            }
        }
        Ok(())
    }

    /// Makes those in `wanted` what their records say, leaves those in `spared` as they are, and removes all others of
    /// ours to which no host is logged in.
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
        let recorded = self.inner.all_records().await?;
        if recorded != Recorded::default() || !wanted.is_empty() {
            self.check().await?;
        }
        self.whole(|inner, turn| async move {
            let mut done = RecoveredExports::default();
            let (turn, there) = inner
                .step(turn, "listing targets", |lio| lio.names_there())
                .await?;
            let mut kept: BTreeSet<ExportName> = spared.into_iter().collect();
            kept.extend(wanted.iter().map(|source| source.name.clone()));
            // Nothing says that these are not wanted.
            kept.extend(inner.all_records().await?.unreadable);
            let turn = remove_others(&inner, turn, &kept, &there, &mut done).await?;
            make_again(&inner, turn, wanted, &there, &mut done).await?;
            Ok(done)
        })
        .await
    }

    /// Makes those what their records say, and touches no other.
    ///
    /// # Errors
    /// `Host`, `Stuck`.
    pub async fn make_again(
        &self,
        wanted: &[ExportSource],
    ) -> Result<RecoveredExports, TargetError> {
        self.check().await?;
        let wanted = wanted.to_vec();
        self.whole(|inner, turn| async move {
            let mut done = RecoveredExports::default();
            let (turn, there) = inner
                .step(turn, "listing targets", |lio| lio.names_there())
                .await?;
            make_again(&inner, turn, wanted, &there, &mut done).await?;
            Ok(done)
        })
        .await
    }
}

async fn remove_others(
    inner: &Inner,
    mut turn: Turn,
    kept: &BTreeSet<ExportName>,
    there: &[ExportName],
    done: &mut RecoveredExports,
) -> Result<Turn, TargetError> {
    for record in inner.all_records().await?.records {
        if !kept.contains(&record.name) && !there.contains(&record.name) {
            forget(inner, &record.name, done).await;
        }
    }
    let started = Instant::now();
    for name in there.iter().filter(|name| !kept.contains(name)) {
        let mut result;
        loop {
            let export = name.clone();
            // Not where a host is at work: that nobody is known to want it may be a mistake in what is known.
            (turn, result) = inner
                .step(turn, "removing a target", move |lio| {
                    Ok(lio.remove(&export, false))
                })
                .await?;
            // One that has just logged out is seen for a moment.
            let is_in_use = matches!(result, Err(TargetError::InUse { .. }));
            if !is_in_use || started.elapsed() >= LOGOUT_PATIENCE {
                break;
            }
            tokio::time::sleep(LOGOUT_POLL).await;
        }
        match result {
            Ok(()) => {
                forget(inner, name, done).await;
                done.removed.push(name.clone());
            }
            Err(error) => done.failed.push((name.clone(), in_full(&error))),
        }
    }
    Ok(turn)
}

async fn make_again(
    inner: &Inner,
    mut turn: Turn,
    wanted: Vec<ExportSource>,
    there: &[ExportName],
    done: &mut RecoveredExports,
) -> Result<(), TargetError> {
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
        let record_of_it;
        (turn, record_of_it) = inner.of_this_device(turn, record, &source).await?;
        let record = match record_of_it {
            Ok(record) if record.grants.is_empty() => {
                done.unknown.push(name);
                continue;
            }
            Ok(record) => record,
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
    Ok(())
}

/// Exactly what the record says: initiators that are not in it lose their access, unless they are at work.
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
            if lio.is_logged_in(&source.name, &initiator)? {
                // An older record may have been put back.
                tracing::error!(name = %source.name, initiator, "a host that is on no record is logged in: it stays until it logs out, or is ended by force");
            } else {
                lio.expel(&source.name, &initiator)?;
            }
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
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
