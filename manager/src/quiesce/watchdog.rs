//! The other process: it freezes, and it thaws, whatever becomes of the manager.
//!
//! The manager tells it over a pipe, a line of JSON each, what to freeze, when, and when to thaw. It thaws too when the
//! deadline passes, and when the pipe closes because the manager has died. File systems are opened before the first one is frozen,
//! and from then on it writes nothing but its answers, into the other pipe.
//!
//! Some file systems are frozen by the cut itself. Those it watches: every millisecond it asks to remove a file that is not
//! there, which changes nothing, and waits as long as any writer would.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, Write},
    os::unix::fs::OpenOptionsExt,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc::{EBUSY, EINVAL, O_NONBLOCK},
    sys::signal::{SigSet, Signal},
    unistd::{UnlinkatFlags, syncfs, unlinkat},
};
use serde::{Deserialize, Serialize};

use super::ioctl;

/// How long the manager may take from one order to the next while nothing is frozen.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Pause between looks at whether writers wait.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often thawing is tried, and the pause between: nobody else will.
const THAW_ATTEMPTS: u32 = 100;
const THAW_PAUSE: Duration = Duration::from_millis(50);

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
pub(super) trait FileSystem {
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
    let mut frozen = Frozen::default();
    for (which, wanted) in file_systems.iter().enumerate() {
        let opened = open(wanted).and_then(|mut fs| {
            fs.sync()?;
            Ok(fs)
        });
        match opened {
            Ok(fs) => frozen.all.push((wanted.mode, fs)),
            Err(error) => return answer(failed(which, &error)),
        }
    }
    answer(Answer::Prepared);
    let Ok(Order::Freeze { deadline_ms }) = orders.recv_timeout(IDLE_MAX) else {
        return;
    };
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(deadline_ms);
    if let Err((which, error)) = frozen.freeze() {
        let _ = frozen.thaw();
        return answer(failed(which, &error));
    }
    answer(Answer::Frozen {
        foreign: frozen.foreign.clone(),
    });
    let until = frozen.wait(orders, deadline);
    let lost = frozen.thaw();
    let frozen_us = match frozen.is_ours() {
        true => micros(begun.elapsed()),
        false => micros(frozen.longest_wait),
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

/// File systems, and which of them are frozen.
struct Frozen<F> {
    all: Vec<(Mode, F)>,
    /// By us, in this order.
    ours: Vec<usize>,
    /// By somebody else, who is expected to keep them so.
    foreign: Vec<usize>,
    /// The longest that one that is only watched held writers off.
    longest_wait: Duration,
}

impl<F> Default for Frozen<F> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            ours: Vec::new(),
            foreign: Vec::new(),
            longest_wait: Duration::ZERO,
        }
    }
}

impl<F: FileSystem> Frozen<F> {
    fn is_ours(&self) -> bool {
        self.all.iter().any(|(mode, _)| *mode == Mode::Freeze)
    }

    fn freeze(&mut self) -> Result<(), (usize, io::Error)> {
        for (which, (mode, fs)) in self.all.iter_mut().enumerate() {
            if *mode == Mode::Watch {
                continue;
            }
            match fs.freeze() {
                Ok(()) => self.ours.push(which),
                Err(error) if error.raw_os_error() == Some(EBUSY) => self.foreign.push(which),
                Err(error) => return Err((which, error)),
            }
        }
        Ok(())
    }

    /// Waits, and looks meanwhile how long those that the cut freezes keep a writer waiting.
    fn wait(&mut self, orders: &Receiver<Order>, deadline: Instant) -> Until {
        let has_deadline = self.is_ours();
        let watches = self.all.iter().any(|(mode, _)| *mode == Mode::Watch);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if has_deadline && left.is_zero() {
                return Until::Deadline;
            }
            let pause = match (watches, has_deadline) {
                (true, _) => LOOK_EVERY,
                (false, true) => left,
                (false, false) => IDLE_MAX,
            };
            match orders.recv_timeout(pause) {
                Ok(Order::Thaw) => return Until::Told,
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return Until::Gone,
                Err(RecvTimeoutError::Timeout) => {}
            }
            for (mode, fs) in &mut self.all {
                if *mode == Mode::Watch {
                    let begun = Instant::now();
                    fs.wait_as_a_writer();
                    self.longest_wait = self.longest_wait.max(begun.elapsed());
                }
            }
        }
    }

    /// Thaws what was frozen here, the last one first. `Some` with one that was not frozen any more, or cannot be thawed.
    fn thaw(&mut self) -> Option<(usize, Option<io::Error>)> {
        let mut lost = None;
        for which in self.ours.drain(..).rev() {
            match thaw_patiently(&mut self.all[which].1) {
                Ok(true) => {}
                Ok(false) => lost = Some((which, None)),
                Err(error) => lost = Some((which, Some(error))),
            }
        }
        // Only while somebody keeps it frozen is it refused.
        for which in &self.foreign {
            let fs = &mut self.all[*which].1;
            if fs.freeze().is_ok() {
                let _ = thaw_patiently(fs);
                lost = Some((*which, None));
            }
        }
        lost
    }
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
