//! A process that can be told from every other one, also after the one that started it has died.

use std::{fmt, fs, io, str::FromStr, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::run::TERM_GRACE;

/// Names the boot of the system: a number and a time may both come again after the next one.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How often the end of a process is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The leader of a process group, as [`Command`](crate::Command) starts each one: its number, and what tells it from others that
/// had or will have that number. As text: the boot, the number, and the time since the boot at which it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    boot: String,
    pid: i32,
    /// In clock ticks.
    started: u64,
}

/// Text that is no process.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no process")]
pub struct NoProcess(String);

impl Process {
    /// The one that has this number now.
    ///
    /// # Errors
    /// If there is none, or `/proc` does not tell.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        let (_, started) = stat(pid)?;
        let boot = fs::read_to_string(BOOT_ID)?.trim().to_owned();
        Ok(Self { boot, pid, started })
    }

    /// Whether it has not ended. One that only waits for being reaped has.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let is_this_boot = fs::read_to_string(BOOT_ID).is_ok_and(|boot| boot.trim() == self.boot);
        is_this_boot
            && stat(self.pid).is_ok_and(|(state, started)| {
                started == self.started && !matches!(state, 'Z' | 'X')
            })
    }

    /// Asks it and its group to end, kills what does not, and waits for its end. Whether it has ended, or had before.
    pub async fn stop(&self) -> bool {
        if !self.is_running() {
            return true;
        }
        let group = Pid::from_raw(self.pid);
        let _ = killpg(group, Signal::SIGTERM);
        self.ends_soon().await;
        // Also those of the group that outlived it: as long as there is one, nobody else gets the number.
        let _ = killpg(group, Signal::SIGKILL);
        self.ends_soon().await
    }

    async fn ends_soon(&self) -> bool {
        let ended = async {
            while self.is_running() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(TERM_GRACE, ended).await.is_ok()
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.boot, self.pid, self.started)
    }
}

impl FromStr for Process {
    type Err = NoProcess;

    fn from_str(text: &str) -> Result<Self, NoProcess> {
        let mut words = text.split(' ');
        let parsed = (|| {
            let process = Self {
                boot: words.next().filter(|boot| !boot.is_empty())?.to_owned(),
                // Neither the first process nor a group of ours.
                pid: words.next()?.parse().ok().filter(|pid| *pid > 1)?,
                started: words.next()?.parse().ok()?,
            };
            words.next().is_none().then_some(process)
        })();
        parsed.ok_or_else(|| NoProcess(text.to_owned()))
    }
}

/// State and time of start of a process, from proc_pid_stat(5): fields 3 and 22. The second may hold anything, also brackets.
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
    let told = fields.and_then(|mut fields| {
        let state = fields.next()?.chars().next()?;
        Some((state, fields.nth(18)?.parse().ok()?))
    });
    told.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood")))
}
