//! What a call does once it is its turn: records and the kernel, in the order that survives a crash.
//!
//! configfs calls block, some of them until a session has ended. So they run on a blocking thread; when one takes too
//! long, its caller gets [`TargetError::Stuck`], and so does every later call until the kernel has let go.

use std::{sync::Arc, time::Duration};

use nix::sys::signal::{SigSet, SigmaskHow};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout},
};

use super::{
    ExportName, ExportRecord, ExportRecords, ExportSource, ExportedTarget, Grant, Recorded,
    RecordsError, TargetError, asking::Asking, lio::Lio, secret,
};
use crate::{AccessMode, IscsiAuth, task};

/// How long a host that is logging out may take to be gone.
pub(super) const LOGOUT_PATIENCE: Duration = Duration::from_secs(5);
pub(super) const LOGOUT_POLL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) lio: Arc<Lio>,
    pub(super) records: Arc<dyn ExportRecords>,
    pub(super) lock: Arc<Mutex<()>>,
    pub(super) deadline: Duration,
}

/// While this lives, no signal reaches its thread: the kernel's target waits for locks of its own in a way that any signal
/// breaks off (that of a command's end is enough), and then refuses what is right (EINVAL), or leaves a portal it was to close.
struct Undisturbed(Option<SigSet>);

impl Undisturbed {
    fn new() -> Self {
        Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.map(|before| before.thread_set_mask()) {
            tracing::debug!(%error, "a thread stays without signals");
        }
    }
}

/// The right to be the one call at this time.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Inner {
    /// Waits until it is the one call at this time.
    pub(super) async fn turn(&self) -> Result<Turn, TargetError> {
        let turn = timeout(self.deadline, self.lock.clone().lock_owned()).await;
        turn.map_err(|_| TargetError::Stuck {
            doing: "waiting for an earlier call",
            waited_seconds: self.deadline.as_secs(),
        })
    }

    /// Does something with the kernel, bounded in time. What takes longer keeps the turn until it has come to its end.
    pub(super) async fn step<T: Send + 'static>(
        &self,
        turn: Turn,
        doing: &'static str,
        work: impl FnOnce(&Lio) -> Result<T, TargetError> + Send + 'static,
    ) -> Result<(Turn, T), TargetError> {
        let lio = self.lio.clone();
        let working = tokio::task::spawn_blocking(move || {
            let _undisturbed = Undisturbed::new();
            let result = work(&lio);
            (turn, result)
        });
        match timeout(self.deadline, working).await {
            Ok(Ok((turn, result))) => result.map(|value| (turn, value)),
            Ok(Err(error)) => task::ended(error),
            Err(_) => Err(TargetError::Stuck {
                doing,
                waited_seconds: self.deadline.as_secs(),
            }),
        }
    }

    pub(super) async fn connect(
        &self,
        turn: Turn,
        source: ExportSource,
        asking: Asking,
        mode: AccessMode,
    ) -> Result<ExportedTarget, TargetError> {
        let name = source.name.clone();
        let (turn, before) = self.known(turn, &name).await?;
        let (turn, before) = self.of_this_device(turn, before, &source).await?;
        let before = before?;
        asking.check(&before)?;
        let Asking { host, initiator } = asking;
        let mut record = before.clone();
        let known = record
            .grants
            .iter()
            .find(|grant| grant.initiator == initiator);
        let (turn, auth) = match known {
            Some(grant) => (turn, grant.auth.clone()),
            None => self.secrets(turn, &name, &initiator).await?,
        };
        let grant = Grant {
            initiator: initiator.clone(),
            host: Some(host),
            mode,
            auth: auth.clone(),
        };
        if known != Some(&grant) {
            record.grants.retain(|grant| grant.initiator != initiator);
            record.grants.push(grant.clone());
            self.put(&record).await?;
        }
        let (turn, made) = self
            .step(turn, "making a target", move |lio| {
                Ok(make(lio, &source, &grant, &record.grants))
            })
            .await?;
        if let Err(error) = made {
            self.take_back(turn, before, initiator).await;
            return Err(error);
        }
        Ok(ExportedTarget {
            iqn: self.lio.names.iqn(&name),
            portals: self.lio.portals.clone(),
            serial: self.lio.names.serial(&name),
            auth,
        })
    }

    /// The record; without grants if there is none. Of one that cannot be read, what the kernel has is written anew:
    /// whoever is in neither has to connect again.
    pub(super) async fn known(
        &self,
        turn: Turn,
        name: &ExportName,
    ) -> Result<(Turn, ExportRecord), TargetError> {
        let nobody = || ExportRecord {
            name: name.clone(),
            grants: Vec::new(),
        };
        let problem = match self.records.get(name).await {
            Ok(record) => return Ok((turn, record.unwrap_or_else(nobody))),
            Err(RecordsError::Unreadable(problem)) => problem,
            Err(source) => {
                return Err(TargetError::Records {
                    name: name.to_string(),
                    source,
                });
            }
        };
        let export = name.clone();
        let (turn, grants) = self
            .step(turn, "reading a target", move |lio| lio.grants(&export))
            .await?;
        tracing::error!(
            %name,
            problem,
            hosts = grants.len(),
            "the record of an export cannot be read: it is written anew from what the kernel has; hosts that it does not \
             know have to connect again"
        );
        let record = ExportRecord { grants, ..nobody() };
        self.put(&record).await?;
        Ok((turn, record))
    }

    /// The kernel's secrets if it knows the initiator (the record was lost), else fresh ones.
    async fn secrets(
        &self,
        turn: Turn,
        name: &ExportName,
        initiator: &str,
    ) -> Result<(Turn, IscsiAuth), TargetError> {
        let (name, initiator) = (name.clone(), initiator.to_owned());
        let (turn, found) = self
            .step(turn, "reading a target", move |lio| {
                lio.secrets(&name, &initiator)
            })
            .await?;
        Ok((turn, found.map_or_else(secret::fresh, Ok)?))
    }

    /// Puts back what was on record before a connection that could not be made, once the kernel has nothing else; the
    /// error that led here is what is reported.
    async fn take_back(&self, turn: Turn, before: ExportRecord, initiator: String) {
        let was_let_in = before
            .grants
            .iter()
            .any(|grant| grant.initiator == initiator);
        let name = before.name.clone();
        let expelled = self
            .step(
                turn,
                "taking an initiator's access away",
                move |lio| match was_let_in {
                    true => Ok(()),
                    false => lio.expel(&name, &initiator),
                },
            )
            .await;
        // The turn is held until the record is written.
        let put = match expelled {
            Ok((_turn, ())) => self.put(&before).await,
            Err(error) => Err(error),
        };
        if let Err(error) = put {
            tracing::warn!(name = %before.name, %error, "the record of a refused connection stays");
        }
    }

    pub(super) async fn disconnect(
        &self,
        mut turn: Turn,
        name: ExportName,
        asking: Asking,
        force: bool,
    ) -> Result<(), TargetError> {
        let mut record;
        (turn, record) = self.known(turn, &name).await?;
        asking.check(&record)?;
        if !force {
            turn = self.logged_out(turn, &name, &asking.initiator).await?;
            // Others had their turns meanwhile.
            (turn, record) = self.known(turn, &name).await?;
            asking.check(&record)?;
        }
        let initiator = asking.initiator;
        let (export, gone) = (name, initiator.clone());
        let (_turn, ()) = self
            .step(turn, "taking an initiator's access away", move |lio| {
                lio.expel(&export, &gone)?;
                if lio.initiators(&export)?.is_empty() {
                    lio.remove(&export, force)?;
                }
                Ok(())
            })
            .await?;
        record.grants.retain(|grant| grant.initiator != initiator);
        self.put(&record).await
    }

    /// Waits until the initiator has no session; a host that just logged out may have one for a moment. Other calls have their
    /// turns meanwhile.
    async fn logged_out(
        &self,
        mut turn: Turn,
        name: &ExportName,
        initiator: &str,
    ) -> Result<Turn, TargetError> {
        let started = Instant::now();
        loop {
            let (export, who) = (name.clone(), initiator.to_owned());
            let there;
            (turn, there) = self
                .step(turn, "looking at a session", move |lio| {
                    lio.is_logged_in(&export, &who)
                })
                .await?;
            if !there {
                return Ok(turn);
            }
            if started.elapsed() >= LOGOUT_PATIENCE {
                return Err(TargetError::InUse {
                    name: name.clone(),
                    initiators: vec![initiator.to_owned()],
                });
            }
            drop(turn);
            tokio::time::sleep(LOGOUT_POLL).await;
            turn = self.turn().await?;
        }
    }

    /// The initiators that are let in: those on record, and those that the kernel has.
    pub(super) async fn admitted(
        &self,
        turn: Turn,
        name: &ExportName,
    ) -> Result<Vec<String>, TargetError> {
        let (turn, record) = self.known(turn, name).await?;
        let export = name.clone();
        let (_turn, mut all) = self
            .step(turn, "listing initiators", move |lio| {
                lio.initiators(&export)
            })
            .await?;
        all.extend(record.grants.into_iter().map(|grant| grant.initiator));
        all.sort();
        all.dedup();
        Ok(all)
    }

    pub(super) async fn remove(
        &self,
        turn: Turn,
        name: ExportName,
        force: bool,
    ) -> Result<Turn, TargetError> {
        let export = name.clone();
        let (turn, ()) = self
            .step(turn, "removing a target", move |lio| {
                lio.remove(&export, force)
            })
            .await?;
        self.put(&ExportRecord {
            name,
            grants: Vec::new(),
        })
        .await?;
        Ok(turn)
    }

    pub(super) async fn record(
        &self,
        name: &ExportName,
    ) -> Result<Option<ExportRecord>, TargetError> {
        let record = self.records.get(name).await;
        record.map_err(|source| TargetError::Records {
            name: name.to_string(),
            source,
        })
    }

    pub(super) async fn all_records(&self) -> Result<Recorded, TargetError> {
        let records = self.records.all().await;
        records.map_err(|source| TargetError::Records {
            name: "every export".into(),
            source,
        })
    }

    /// Writes a record; one without grants is removed.
    pub(super) async fn put(&self, record: &ExportRecord) -> Result<(), TargetError> {
        let written = if record.grants.is_empty() {
            self.records.remove(&record.name).await
        } else {
            self.records.put(record).await
        };
        written.map_err(|source| TargetError::Records {
            name: record.name.to_string(),
            source,
        })
    }
}

/// Makes a target and lets the one in that asks.
fn make(lio: &Lio, source: &ExportSource, grant: &Grant, all: &[Grant]) -> Result<(), TargetError> {
    lio.ensure(&source.name, &source.device)?;
    lio.admit(&source.name, grant)?;
    // One that had to be made anew knows nobody: those who were let in before are let in again.
    all.iter()
        .try_for_each(|grant| lio.admit(&source.name, grant))
}
