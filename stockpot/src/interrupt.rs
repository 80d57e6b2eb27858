//! Ctrl-C, SIGTERM, and the hang-up of the terminal: the first asks the work to stop cleanly, the second ends the process at once.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Verb;

/// How long work that stops cleanly may take for it.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Signals that come within this are taken for one.
const ONE_WISH: Duration = Duration::from_millis(500);

/// Whether and how the process was asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    token: CancellationToken,
    happened: Arc<AtomicBool>,
    /// When the first signal came.
    first: Arc<OnceLock<Instant>>,
    left: &'static str,
    /// What is said at the first signal.
    first_word: &'static str,
    ends_at_hangup: bool,
}

/// The work was given up because of a signal.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Interrupt {
    pub(crate) fn new(verb: &Verb) -> Self {
        Self {
            token: CancellationToken::new(),
            happened: Arc::new(AtomicBool::new(false)),
            first: Arc::default(),
            left: left_by(verb),
            first_word: first_word(verb),
            ends_at_hangup: ends_at_hangup(verb) && !ignores_hangups(),
        }
    }

    /// The token that goes down every call.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Whether a signal came.
    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }

    /// Waits for work that may be dropped anywhere, until a signal comes.
    ///
    /// # Errors
    /// [`Interrupted`], or what the work says.
    pub(crate) async fn unless<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done,
            () = self.token.cancelled() => Err(Interrupted.into()),
        }
    }

    /// Runs what blocks (a read of a FIFO, say) beside the signals, which end the waiting for it.
    ///
    /// # Errors
    /// As [`unless`](Self::unless).
    pub(crate) async fn unless_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let thread = tokio::task::spawn_blocking(work);
        self.unless(async { thread.await? }).await
    }

    /// Waits for work that stops by itself on a signal, but then no longer than `grace`: `None`.
    pub(crate) async fn within<T>(
        &self,
        grace: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let too_long = async {
            self.token.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = too_long => None,
        }
    }

    /// Starts to listen. Must be called inside the runtime.
    pub(crate) fn listen(&self) {
        let hangup = self.ends_at_hangup.then_some(SignalKind::hangup());
        let others = [SignalKind::interrupt(), SignalKind::terminate()];
        for kind in others.into_iter().chain(hangup) {
            let this = self.clone();
            // Registering fails only where signals do not exist; then the default action stays.
            if let Ok(mut stream) = signal(kind) {
                tokio::spawn(async move {
                    while stream.recv().await.is_some() {
                        if this.happened.swap(true, Ordering::Relaxed) {
                            // `timeout` signals the process and then its group: that is one wish.
                            if this.first.get().is_some_and(|at| at.elapsed() < ONE_WISH) {
                                continue;
                            }
                            remark!("stockpot: stopped at once{}", this.left);
                            std::process::exit(i32::from(crate::EXIT_INTERRUPTED));
                        }
                        let _ = this.first.set(Instant::now());
                        this.token.cancel();
                        remark!("stockpot: {}", this.first_word);
                    }
                });
            }
        }
    }
}

/// Whether a hang-up ends a verb cleanly: it would leave something on this host, and a hang-up means nothing else to it.
fn ends_at_hangup(verb: &Verb) -> bool {
    let s3 = match verb {
        Verb::Backup(command) => command.args.0.as_ref().map(|args| &args.s3),
        Verb::Restore(args) => Some(&args.s3),
        _ => None,
    };
    s3.is_some_and(|s3| s3.limit_file.is_none())
}

/// Whether whoever started the process wants it to outlive the terminal, as `nohup` does (proc_pid_status(5): `SigIgn`, a mask in
/// which SIGHUP is the first bit).
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// What ends at the first signal: what the driver was asked for goes on without whoever watches it.
fn first_word(verb: &Verb) -> &'static str {
    let asks_driver = match verb {
        Verb::Backup(command) => command.args.0.is_none(),
        Verb::Snapshot(_) | Verb::Volume(_) | Verb::Schedule(_) => true,
        _ => false,
    };
    match asks_driver {
        true => "not waited for any longer; what the driver was asked for goes on there",
        false => "stopping cleanly; once more to stop at once",
    }
}

/// What a verb leaves that is stopped at once.
fn left_by(verb: &Verb) -> &'static str {
    match verb {
        Verb::Backup(command) if command.args.0.is_some() => {
            ". A temporary LVM snapshot, if there was one, is removed by the next backup from its volume group; what \
             was sent is used by the next backup of the volume, or goes with a `stockpot prune` seven days later; parts that were open stay \
             until then, or until a lifecycle rule of the bucket aborts them"
        }
        Verb::Restore(_) => {
            ". What was written to the target is no volume; a new file stays beside it as .NAME.stockpot-partial-PID-N \
             and can be removed"
        }
        Verb::Prune(_) => {
            ". The next prune carries on; until it has run, backups may send more than they would"
        }
        Verb::Backup(_)
        | Verb::Snapshots(_)
        | Verb::Verify(_)
        | Verb::Forget(_)
        | Verb::Repository(_)
        | Verb::Serve(_)
        | Verb::Catalog(_)
        | Verb::Export(_)
        | Verb::Pki(_)
        | Verb::Host(_)
        | Verb::Pool(_)
        | Verb::Schedule(_)
        | Verb::Snapshot(_)
        | Verb::Status(_)
        | Verb::Volume(_)
        | Verb::Profile(_)
        | Verb::Completion(_)
        | Verb::Man(_)
        | Verb::QuiesceWatchdog => "",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn interrupt(args: &[&str]) -> Interrupt {
        Interrupt::new(&Cli::try_parse_from(args).unwrap().verb)
    }

    #[test]
    fn what_is_left_is_told_as_it_is() {
        let backup = interrupt(&["stockpot", "backup", "x", "--to", "s3://b"]);
        assert!(backup.left.contains("lifecycle rule"), "{}", backup.left);
        assert!(backup.left.contains("LVM"), "{}", backup.left);
        let asked = interrupt(&["stockpot", "backup", "create", "v", "--force"]);
        assert_eq!(asked.left, "");
        assert!(asked.first_word.contains("goes on"), "{}", asked.first_word);
        assert!(
            !backup.first_word.contains("goes on"),
            "{}",
            backup.first_word
        );
        let restore = interrupt(&["stockpot", "restore", "s3://b", "id", "x"]);
        assert!(restore.left.contains("partial"), "{}", restore.left);
    }

    #[tokio::test]
    async fn work_that_never_ends_is_given_up() {
        let interrupt = interrupt(&["stockpot", "snapshots", "s3://b"]);
        assert_eq!(interrupt.within(GRACE, async { 1 }).await, Some(1));
        interrupt.token().cancel();
        let hangs = std::future::pending::<anyhow::Result<()>>();
        assert!(
            interrupt
                .unless(hangs)
                .await
                .unwrap_err()
                .is::<Interrupted>()
        );
        let hangs = std::future::pending::<()>();
        let grace = Duration::from_millis(20);
        assert_eq!(interrupt.within(grace, hangs).await, None);
    }
}
