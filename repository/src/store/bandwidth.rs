//! Limits on bytes per second, which can be changed while transfers run.
//!
//! A request waits before it is sent until those before it have had their time at the limit, in the order in which
//! they came; then it goes at the speed of the line. So a limit holds over spans longer than one part or range.

use std::{
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, Notify},
    time::Instant,
};

/// Limits on what is sent to a store and received from it. Clones share the limits: keep one to change them later, give
/// one to each store that is to stay below them together.
#[derive(Debug, Clone, Default)]
pub struct Bandwidth {
    up: Arc<Pace>,
    down: Arc<Pace>,
}

impl Bandwidth {
    /// No limits yet.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// Sets the most that is sent, in bytes per second, also for those that wait already.
    pub fn set_upload(&self, bytes_per_second_max: Option<NonZeroU64>) {
        self.up.set(bytes_per_second_max);
    }

    /// Sets the most that is received, in bytes per second, also for those that wait already.
    pub fn set_download(&self, bytes_per_second_max: Option<NonZeroU64>) {
        self.down.set(bytes_per_second_max);
    }

    /// How many requests wait for their turn to send something.
    #[must_use]
    pub fn uploads_waiting(&self) -> u64 {
        self.up.waiting.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes may be sent and so many received. A caller that goes away uses nothing up.
    pub(crate) async fn take(&self, bytes_up: u64, bytes_down: u64) {
        self.up.take(bytes_up).await;
        self.down.take(bytes_down).await;
    }

    /// Counts bytes that came without having been announced: those that follow wait for them.
    pub(crate) fn received(&self, bytes: u64) {
        self.down.use_up(bytes);
    }
}

/// One direction.
#[derive(Debug)]
struct Pace {
    /// Whether there is a limit: without one nobody takes a lock.
    is_limited: AtomicBool,
    state: Mutex<State>,
    changed: Notify,
    /// How many wait.
    waiting: AtomicU64,
    /// Those who wait stand in line for it; tokio's is first come, first served.
    turn: Turn<()>,
}

#[derive(Debug)]
struct State {
    rate: Option<NonZeroU64>,
    /// When all bytes that were let through have had their time.
    free_at: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            is_limited: AtomicBool::new(false),
            state: Mutex::new(State {
                rate: None,
                free_at: Instant::now(),
            }),
            changed: Notify::new(),
            waiting: AtomicU64::new(0),
            turn: Turn::new(()),
        }
    }
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, rate: Option<NonZeroU64>) {
        let mut state = self.state();
        let now = Instant::now();
        // What is owed are bytes; how long they take changes with the rate.
        let owed = state.free_at.saturating_duration_since(now);
        let scaled = match (state.rate, rate) {
            (Some(old), Some(new)) => {
                let factor = u128::from(old.get()) * owed.as_nanos() / u128::from(new.get());
                nanoseconds(factor)
            }
            _ => Duration::ZERO,
        };
        state.free_at = now + scaled;
        state.rate = rate;
        self.is_limited.store(rate.is_some(), Ordering::Relaxed);
        drop(state);
        self.changed.notify_waiters();
    }

    async fn take(&self, bytes: u64) {
        if bytes == 0 || !self.is_limited.load(Ordering::Relaxed) {
            return;
        }
        let _counted = Waiting::one_more(&self.waiting);
        let _turn = self.turn.lock().await;
        loop {
            // Listening before looking: a change in between is not missed.
            let changed = self.changed.notified();
            let wait = {
                let state = self.state();
                match state.rate {
                    None => return,
                    Some(_) => state.free_at.saturating_duration_since(Instant::now()),
                }
            };
            if wait.is_zero() {
                self.use_up(bytes);
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }

    fn use_up(&self, bytes: u64) {
        let mut state = self.state();
        if let Some(rate) = state.rate {
            let time = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
            state.free_at = state.free_at.max(Instant::now()) + nanoseconds(time);
        }
    }
}

/// Counts somebody who waits, until this is dropped.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn one_more(waiting: &'a AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// At most a day: no transfer waits longer for another one, whatever the rate.
fn nanoseconds(count: u128) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    u64::try_from(count).map_or(DAY, |count| Duration::from_nanos(count).min(DAY))
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    fn rate(bytes_per_second: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(bytes_per_second)
    }

    /// No second passes here: an hour's worth of bytes is let through, and what comes after it waits or does not.
    #[tokio::test]
    async fn a_limit_holds_over_many_requests() {
        let bandwidth = Bandwidth::unlimited();
        bandwidth.set_upload(rate(1_000));
        // What comes down has no limit.
        bandwidth.take(3_600_000, 1 << 30).await;
        let mut waiting: Vec<_> = (0..5)
            .map(|_| Box::pin(bandwidth.take(50_000, 1 << 30)))
            .collect();
        for request in &mut waiting {
            assert!(poll!(request).is_pending());
        }
        assert_eq!(bandwidth.uploads_waiting(), 5);
        bandwidth.take(0, 1 << 30).await;
        // A caller that goes away uses nothing up.
        waiting.truncate(4);
        assert_eq!(bandwidth.uploads_waiting(), 4);
        bandwidth.set_upload(None);
        futures::future::join_all(waiting).await;
        assert_eq!(bandwidth.uploads_waiting(), 0);
        bandwidth.take(u64::MAX, 0).await;
    }

    #[tokio::test]
    async fn those_that_wait_see_a_new_limit_at_once() {
        let bandwidth = Bandwidth::unlimited();
        bandwidth.set_download(rate(1));
        bandwidth.take(0, 3_600).await;
        let start = Instant::now();
        let mut waiting = Box::pin(bandwidth.take(0, 1_000));
        assert!(poll!(&mut waiting).is_pending(), "it has an hour to wait");
        // What is owed takes a tenth of a second now.
        bandwidth.set_download(rate(36_000));
        assert!(poll!(&mut waiting).is_pending());
        waiting.await;
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(90), "{took:?}");
        assert!(took < Duration::from_secs(60), "{took:?}");
        bandwidth.set_download(None);
        bandwidth.set_download(rate(1));
        bandwidth.received(3_600);
        let mut waiting = Box::pin(bandwidth.take(0, 1));
        assert!(
            poll!(&mut waiting).is_pending(),
            "what came unannounced counts too"
        );
        bandwidth.set_download(None);
        waiting.await;
    }
}
