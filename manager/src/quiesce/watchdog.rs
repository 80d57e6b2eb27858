//! The other process: it freezes, and it thaws, whatever becomes of the manager.
//!
//! The manager tells it over a pipe, a line of JSON each, what to freeze, when, and when to thaw. It thaws too when the
//! deadline passes, and when the pipe closes because the manager has died. File systems are opened before the first one is frozen,
//! and from then on it writes nothing but its answers, into the other pipe.
//!
//! A freeze waits until all that is in memory is written, which on a slow disk may be long. So another thread asks for it ([`frozen`]),
//! and this one keeps the deadline and the pipe in sight: what is frozen already is thawed then, and what is frozen late at once.
//!
//! Some file systems are frozen by the cut itself. Those it watches: every millisecond a thread asks to remove a file that is
//! not there, which changes nothing, and waits as long as any writer would.

mod frozen;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, Write},
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc::O_NONBLOCK,
    sys::signal::{SigSet, Signal},
    unistd::{UnlinkatFlags, syncfs, unlinkat},
};
use serde::{Deserialize, Serialize};

use self::frozen::{Froze, Frozen};
use super::ioctl;

/// How long the manager may take from one order to the next while nothing is frozen.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Pause between looks at whether writers wait.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What the manager says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub(super) enum Order {
    /// Opens file systems, and writes out what is in memory so that freezing is quick.
    Prepare {
        /// They are frozen in this order.
        file_systems: Vec<Wanted>,
    },
    /// Freezes them.
    Freeze {
        /// How long they may be frozen.
        deadline_ms: u64,
    },
    /// Thaws them, and ends.
    Thaw,
}

/// What is to be done with a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// Anything on it.
    pub(super) path: String,
    pub(super) mode: Mode,
}

/// Who freezes a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// This process.
    Freeze,
    /// The cut; here it is only measured.
    Watch,
}

/// What the manager is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(super) enum Answer {
    /// All are open.
    Prepared,
    /// All are frozen; these by somebody else.
    Frozen { foreign: Vec<usize> },
    /// One could not be; none is frozen any more.
    Failed { which: usize, problem: String },
    /// All were frozen until now.
    Thawed { frozen_us: u64 },
    /// They were thawed at the deadline.
    Late { frozen_us: u64 },
    /// Somebody else thawed this one meanwhile; now all are thawed.
    Lost { which: usize, frozen_us: u64 },
}

/// A file system that can be frozen.
pub(super) trait FileSystem: Send + 'static {
    /// Writes out what is in memory.
    fn sync(&mut self) -> io::Result<()>;
    /// Holds writers off; `EBUSY` if somebody else does.
    fn freeze(&mut self) -> io::Result<()>;
    /// Lets them go on; `EINVAL` if they are not held off.
    fn thaw(&mut self) -> io::Result<()>;
    /// Returns when a writer would.
    fn wait_as_a_writer(&mut self);
}

/// One that is mounted.
struct Mounted {
    file: File,
    /// Of a file that is not there.
    nothing: String,
}

impl Mounted {
    fn open(wanted: &Wanted) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(&wanted.path)?;
        Ok(Self {
            file,
            nothing: format!(".stockpot-{}", ulid::Ulid::generate()),
        })
    }
}

impl FileSystem for Mounted {
    fn sync(&mut self) -> io::Result<()> {
        Ok(syncfs(&self.file)?)
    }

    fn freeze(&mut self) -> io::Result<()> {
        ioctl::freeze(&self.file)
    }

    fn thaw(&mut self) -> io::Result<()> {
        ioctl::thaw(&self.file)
    }

    fn wait_as_a_writer(&mut self) {
        // It fails, always: after the kernel has waited until the file system may be written to.
        let _ = unlinkat(
            &self.file,
            self.nothing.as_str(),
            UnlinkatFlags::NoRemoveDir,
        );
    }
}

/// Does what the manager says on standard input until that closes. The program calls this before it starts anything else.
pub fn watchdog() {
    // Who stops a service stops all its processes; this one ends when the manager has.
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        signals.add(signal);
    }
    // Fails for no set that can be made.
    let _ = signals.thread_block();
    let (heard, orders) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(order) = order else { return };
            if heard.send(order).is_err() {
                return;
            }
        }
    });
    let mut stdout = io::stdout();
    attend(&orders, Mounted::open, |answer| {
        let text = serde_json::to_string(&answer).expect("words and numbers are JSON");
        // A manager that has died needs no answer.
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    });
}

/// Follows the manager's orders. When this returns, nothing is frozen that was frozen here.
pub(super) fn attend<F: FileSystem>(
    orders: &Receiver<Order>,
    open: impl Fn(&Wanted) -> io::Result<F>,
    mut answer: impl FnMut(Answer),
) {
    let Ok(Order::Prepare { file_systems }) = orders.recv_timeout(IDLE_MAX) else {
        return;
    };
    let mut wanted_frozen = Vec::new();
    let mut watched = Vec::new();
    for (which, wanted) in file_systems.iter().enumerate() {
        let opened = open(wanted).and_then(|mut fs| {
            fs.sync()?;
            Ok(fs)
        });
        match (opened, wanted.mode) {
            (Ok(fs), Mode::Freeze) => wanted_frozen.push((which, fs)),
            (Ok(fs), Mode::Watch) => watched.push(fs),
            (Err(error), _) => return answer(failed(which, &error)),
        }
    }
    answer(Answer::Prepared);
    let Ok(Order::Freeze { deadline_ms }) = orders.recv_timeout(IDLE_MAX) else {
        return;
    };
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(deadline_ms);
    // Whatever comes: it is not left before all is thawed, also what is frozen late.
    let frozen = Frozen::new(wanted_frozen);
    let is_frozen = match frozen.freeze(orders, deadline) {
        Froze::All => true,
        Froze::Failed(which, error) => {
            let _ = frozen.thaw();
            return answer(failed(which, &error));
        }
        Froze::Late => false,
        Froze::GivenUp => return,
    };
    let watched: Vec<Watch> = watched.into_iter().map(Watch::start).collect();
    let until = match is_frozen {
        true => {
            answer(Answer::Frozen {
                foreign: frozen.foreign(),
            });
            wait(orders, (!frozen.is_empty()).then_some(deadline))
        }
        false => Until::Deadline,
    };
    let lost = frozen.thaw();
    let longest = watched.iter().map(Watch::longest).max();
    let frozen_us = match frozen.is_empty() {
        false => micros(begun.elapsed()),
        true => micros(longest.unwrap_or_default()),
    };
    match (until, lost) {
        (Until::Deadline, _) => answer(Answer::Late { frozen_us }),
        (Until::Gone, _) => {}
        (Until::Told, Some((which, None))) => answer(Answer::Lost { which, frozen_us }),
        (Until::Told, Some((which, Some(error)))) => answer(failed(which, &error)),
        (Until::Told, None) => answer(Answer::Thawed { frozen_us }),
    }
}

/// What ended a freeze.
enum Until {
    Told,
    Deadline,
    /// The manager has died, or gave it up.
    Gone,
}

/// Waits until there is nothing more to wait for.
fn wait(orders: &Receiver<Order>, deadline: Option<Instant>) -> Until {
    let told = match deadline {
        Some(deadline) => orders.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        None => orders.recv().map_err(RecvTimeoutError::from),
    };
    match told {
        Ok(Order::Thaw) => Until::Told,
        Ok(_) | Err(RecvTimeoutError::Disconnected) => Until::Gone,
        Err(RecvTimeoutError::Timeout) => Until::Deadline,
    }
}

/// Looks how long a file system that the cut freezes keeps a writer waiting. In a thread of its own: that may be long.
struct Watch(Arc<Mutex<Waits>>);

#[derive(Debug, Default)]
struct Waits {
    longest: Duration,
    /// When the wait that lasts began.
    since: Option<Instant>,
    is_over: bool,
}

impl Watch {
    fn start(mut fs: impl FileSystem) -> Self {
        let waits = Arc::new(Mutex::new(Waits::default()));
        let noted = waits.clone();
        let note = move |change: &dyn Fn(&mut Waits)| {
            let mut waits = noted.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut waits);
            waits.is_over
        };
        thread::spawn(move || {
            loop {
                let begun = Instant::now();
                note(&|waits| waits.since = Some(begun));
                fs.wait_as_a_writer();
                let waited = begun.elapsed();
                let is_over = note(&|waits| {
                    waits.since = None;
                    waits.longest = waits.longest.max(waited);
                });
                if is_over {
                    return;
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        Self(waits)
    }

    /// The longest wait until now; it looks no more.
    fn longest(&self) -> Duration {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.is_over = true;
        let lasting = waits.since.map(|since| since.elapsed());
        waits.longest.max(lasting.unwrap_or_default())
    }
}

fn failed(which: usize, error: &io::Error) -> Answer {
    Answer::Failed {
        which,
        problem: error.to_string(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
