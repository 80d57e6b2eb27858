//! File systems that are frozen here, and what became of that. Their numbers are those of the order.
//!
//! A thread freezes them, one after the other, and may hang in one. Each is thawed by whoever comes second: what is frozen by the time
//! that it is over is thawed by the caller, and what is frozen after that by the thread.

use std::{
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::libc::{EBUSY, EINVAL};

use super::{FileSystem, Order};

/// How often it is looked, while they are being frozen, whether the manager has died.
const LISTEN_EVERY: Duration = Duration::from_millis(5);
/// How often thawing is tried, and the pause between: nobody else will.
const THAW_ATTEMPTS: u32 = 100;
const THAW_PAUSE: Duration = Duration::from_millis(50);

/// What came of freezing.
pub(super) enum Froze {
    All,
    /// One could not be.
    Failed(usize, io::Error),
    /// The deadline came first.
    Late,
    /// The manager has died, or gave it up.
    GivenUp,
}

/// The file systems of one order. When this is dropped, nothing is frozen that was frozen here.
pub(super) struct Frozen<F: FileSystem> {
    shared: Arc<Shared<F>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<F> {
    all: Vec<(usize, Mutex<F>)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Places of those that we froze, in this order.
    ours: Vec<usize>,
    /// Places of those that somebody else froze, who is expected to keep them so.
    theirs: Vec<usize>,
    /// Nothing is to be frozen any more.
    is_over: bool,
}

impl<F: FileSystem> Frozen<F> {
    pub(super) fn new(all: Vec<(usize, F)>) -> Self {
        let all = all.into_iter().map(|(which, fs)| (which, Mutex::new(fs)));
        Self {
            shared: Arc::new(Shared {
                all: all.collect(),
                state: Mutex::default(),
            }),
            thread: Mutex::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.all.is_empty()
    }

    /// Freezes them, unless the deadline or the manager's end comes first.
    pub(super) fn freeze(&self, orders: &Receiver<Order>, deadline: Instant) -> Froze {
        if self.is_empty() {
            return Froze::All;
        }
        let (done, ended) = mpsc::channel();
        let shared = self.shared.clone();
        let thread = thread::spawn(move || {
            // Nobody listens any more when it is late.
            let _ = done.send(shared.freeze());
        });
        *locked(&self.thread) = Some(thread);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match ended.recv_timeout(left.min(LISTEN_EVERY)) {
                Ok(Ok(())) => return Froze::All,
                Ok(Err((which, error))) => return Froze::Failed(which, error),
                Err(RecvTimeoutError::Disconnected) => return Froze::GivenUp,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Froze::Late,
                Err(RecvTimeoutError::Timeout) => {}
            }
            match orders.try_recv() {
                Err(TryRecvError::Empty) => {}
                Ok(_) | Err(TryRecvError::Disconnected) => return Froze::GivenUp,
            }
        }
    }

    /// Those that somebody else froze.
    pub(super) fn foreign(&self) -> Vec<usize> {
        let state = locked(&self.shared.state);
        let which = |place: &usize| self.shared.all[*place].0;
        state.theirs.iter().map(which).collect()
    }

    /// Thaws what was frozen here, the last one first. `Some` with one that was not frozen any more, or cannot be thawed.
    pub(super) fn thaw(&self) -> Option<(usize, Option<io::Error>)> {
        let (ours, theirs) = {
            let mut state = locked(&self.shared.state);
            state.is_over = true;
            (mem::take(&mut state.ours), mem::take(&mut state.theirs))
        };
        let mut lost = None;
        for place in ours.into_iter().rev() {
            let (which, fs) = &self.shared.all[place];
            match thaw_patiently(&mut *locked(fs)) {
                Ok(true) => {}
                Ok(false) => lost = Some((*which, None)),
                Err(error) => lost = Some((*which, Some(error))),
            }
        }
        // Only while somebody keeps it frozen is it refused.
        for place in theirs {
            let (which, fs) = &self.shared.all[place];
            let mut fs = locked(fs);
            if fs.freeze().is_ok() {
                let _ = thaw_patiently(&mut *fs);
                lost = Some((*which, None));
            }
        }
        lost
    }
}

impl<F: FileSystem> Drop for Frozen<F> {
    fn drop(&mut self) {
        let _ = self.thaw();
        // One that hangs in a freeze thaws when that is done: nobody else would.
        let thread = locked(&self.thread).take();
        let _ = thread.map(JoinHandle::join);
    }
}

impl<F: FileSystem> Shared<F> {
    fn freeze(&self) -> Result<(), (usize, io::Error)> {
        for (place, (which, fs)) in self.all.iter().enumerate() {
            if locked(&self.state).is_over {
                return Ok(());
            }
            let mut fs = locked(fs);
            let frozen = fs.freeze();
            let mut state = locked(&self.state);
            match frozen {
                Ok(()) if state.is_over => {
                    drop(state);
                    let _ = thaw_patiently(&mut *fs);
                    return Ok(());
                }
                Ok(()) => state.ours.push(place),
                Err(error) if error.raw_os_error() == Some(EBUSY) => state.theirs.push(place),
                Err(error) => return Err((*which, error)),
            }
        }
        Ok(())
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it was frozen until now.
fn thaw_patiently(fs: &mut impl FileSystem) -> io::Result<bool> {
    let mut attempt = 1;
    loop {
        match fs.thaw() {
            Ok(()) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(EINVAL) => return Ok(false),
            Err(error) if attempt >= THAW_ATTEMPTS => return Err(error),
            Err(_) => thread::sleep(THAW_PAUSE),
        }
        attempt += 1;
    }
}
