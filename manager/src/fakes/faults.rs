//! What goes wrong, and when.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What happens at the call chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and has done nothing.
    Fail,
    /// It is done, and fails all the same.
    DoneThenFail,
    /// It is done, and storage does not say so: it may still be at it.
    DoneUnanswered,
    /// It never returns and has done nothing, as if the process was killed before it.
    Hang,
    /// It is done and never returns, as if the process was killed after it.
    DoneThenHang,
    /// It waits until [`Faults::clear`], and is done then.
    Wait,
}

/// Counts calls and lets one of them go wrong. Shared by all fakes of a test.
#[derive(Debug)]
pub struct Faults {
    plan: Mutex<Plan>,
    hit: watch::Sender<Option<&'static str>>,
    cleared: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    chosen: Option<(u64, Fault)>,
    broken: Option<&'static str>,
    held: Option<&'static str>,
    failing_once: Option<&'static str>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            plan: Mutex::default(),
            hit: watch::Sender::new(None),
            cleared: watch::Sender::new(()),
        }
    }
}

impl Faults {
    /// Counts from here; the `number`-th call, from 1, goes wrong.
    pub fn choose(&self, number: u64, fault: Fault) {
        self.hit.send_replace(None);
        *self.lock() = Plan {
            chosen: Some((number, fault)),
            ..Plan::default()
        };
    }

    /// Every call of this name fails.
    pub fn break_call(&self, name: &'static str) {
        self.lock().broken = Some(name);
    }

    /// The next call of this name fails.
    pub fn fail_once(&self, name: &'static str) {
        self.lock().failing_once = Some(name);
    }

    /// Every call of this name waits until [`Faults::clear`], and is done then.
    pub fn hold_call(&self, name: &'static str) {
        self.hit.send_replace(None);
        self.lock().held = Some(name);
    }

    /// Nothing goes wrong any more. Returns the name of the call that did.
    pub fn clear(&self) -> Option<&'static str> {
        {
            let mut plan = self.lock();
            (plan.chosen, plan.held) = (None, None);
        }
        self.cleared.send_replace(());
        *self.hit.borrow()
    }

    /// Whether the call that goes wrong is one that gets no answer.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.lock().chosen, Some((_, Fault::DoneUnanswered)))
    }

    /// Waits until nothing goes wrong any more.
    async fn cleared(&self) {
        let mut cleared = self.cleared.subscribe();
        let is_wrong = || {
            let plan = self.lock();
            plan.chosen.is_some() || plan.held.is_some()
        };
        while is_wrong() {
            let _ = cleared.changed().await;
        }
    }

    /// Waits until the call chosen goes wrong.
    pub async fn happened(&self) -> &'static str {
        let mut hit = self.hit.subscribe();
        let seen = hit.wait_for(Option::is_some).await;
        seen.ok().and_then(|name| *name).unwrap_or_default()
    }

    fn next(&self, name: &'static str) -> Option<Fault> {
        let mut plan = self.lock();
        plan.calls += 1;
        if plan.broken == Some(name) {
            return Some(Fault::Fail);
        }
        if plan.failing_once == Some(name) {
            plan.failing_once = None;
            return Some(Fault::Fail);
        }
        if plan.held == Some(name) {
            self.hit.send_replace(Some(name));
            return Some(Fault::Wait);
        }
        let (number, fault) = plan.chosen?;
        (plan.calls == number).then(|| {
            self.hit.send_replace(Some(name));
            fault
        })
    }

    /// Makes a call, or what is to happen instead.
    pub(super) async fn call<T, E>(
        &self,
        name: &'static str,
        error: impl FnOnce(&'static str) -> E,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match self.next(name) {
            None => work.await,
            Some(Fault::Fail) => Err(error(name)),
            Some(Fault::DoneThenFail | Fault::DoneUnanswered) => {
                work.await?;
                Err(error(name))
            }
            Some(Fault::Wait) => {
                self.cleared().await;
                work.await
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::DoneThenHang) => {
                work.await?;
                std::future::pending().await
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
