//! Hosts that the kernel lets in and no record names: an older record was put back, say.
//!
//! Their secrets are still good, so they go as soon as nobody is logged in by them; one that is at work stays until it logs out, or
//! is ended by force.

use super::{ExportName, TargetError, Targets, work::Inner};

/// A host that is let in to an export and is on no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrecorded {
    /// What is exported.
    pub name: ExportName,
    /// The initiator's name, in small letters.
    pub initiator: String,
    /// Whether it is logged in now.
    pub is_logged_in: bool,
}

impl Targets {
    /// Every host that the kernel lets in to an export of ours and that is on no record.
    ///
    /// # Errors
    /// `Records`, `Stuck`, or what the kernel says.
    pub async fn unrecorded(&self) -> Result<Vec<Unrecorded>, TargetError> {
        self.whole(|inner, turn| async move {
            let (turn, found) = inner
                .step(turn, "listing initiators", |lio| {
                    let mut found = Vec::new();
                    for name in lio.names_there()? {
                        for initiator in lio.initiators(&name)? {
                            let is_logged_in = lio.is_logged_in(&name, &initiator)?;
                            found.push(Unrecorded {
                                name: name.clone(),
                                initiator,
                                is_logged_in,
                            });
                        }
                    }
                    Ok(found)
                })
                .await?;
            let found = without_recorded(&inner, found).await?;
            drop(turn);
            Ok(found)
        })
        .await
    }

    /// Takes the access of hosts away that are on no record and not logged in; those that are left are returned. An export that
    /// nobody is on record for goes with the last of them.
    ///
    /// # Errors
    /// As [`unrecorded`](Self::unrecorded).
    pub async fn expel_unrecorded(&self) -> Result<Vec<Unrecorded>, TargetError> {
        let mut left = Vec::new();
        for one in self.unrecorded().await? {
            let gone = one.clone();
            let expelled = self
                .whole(|inner, turn| async move {
                    // A connection may have been made since.
                    let one = without_recorded(&inner, vec![gone]).await?.pop();
                    let Some(one) = one else {
                        return Ok(true);
                    };
                    let (turn, expelled) = inner
                        .step(turn, "taking an initiator's access away", move |lio| {
                            if lio.is_logged_in(&one.name, &one.initiator)? {
                                return Ok(false);
                            }
                            lio.expel(&one.name, &one.initiator)?;
                            if lio.initiators(&one.name)?.is_empty() {
                                lio.remove(&one.name, false)?;
                            }
                            Ok(true)
                        })
                        .await?;
                    drop(turn);
                    Ok::<_, TargetError>(expelled)
                })
                .await;
            match expelled {
                Ok(true) => {
                    tracing::warn!(name = %one.name, initiator = one.initiator, "a host that is on no record has lost its access");
                }
                Ok(false) => left.push(one),
                Err(error) => {
                    tracing::warn!(name = %one.name, initiator = one.initiator, error = super::in_full(&error), "a host that is on no record keeps its access for now");
                    left.push(one);
                }
            }
        }
        Ok(left)
    }
}

/// Of what cannot be read nothing is known: it is not among them.
async fn without_recorded(
    inner: &Inner,
    mut found: Vec<Unrecorded>,
) -> Result<Vec<Unrecorded>, TargetError> {
    let recorded = inner.all_records().await?;
    found.retain(|one| {
        let mut records = recorded.records.iter();
        let is_recorded = records.any(|record| {
            let mut grants = record.grants.iter();
            record.name == one.name && grants.any(|grant| grant.initiator == one.initiator)
        });
        !is_recorded && !recorded.unreadable.contains(&one.name)
    });
    Ok(found)
}
