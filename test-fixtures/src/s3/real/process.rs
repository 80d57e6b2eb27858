//! A child process that does not outlive its owner, nor the test program.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Owns a child, which a thread of its own started and waits for.
///
/// The kernel is asked to kill the child when the thread that started it ends, so that even a test program that is
/// killed leaves no server behind; the thread must therefore live as long as the child may.
#[derive(Debug)]
pub(super) struct Process {
    running: Arc<AtomicBool>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `program`, with its output in the file `log`.
    pub(super) fn start(
        program: &Path,
        arguments: &[OsString],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> io::Result<Self> {
        let output = File::create(log)?;
        let mut command = command();
        command
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let running = Arc::new(AtomicBool::new(true));
        let (started, start) = channel();
        let (stop, stopped) = channel();
        let seen = Arc::clone(&running);
        let thread = std::thread::Builder::new()
            .name("test-s3-child".into())
            .spawn(move || {
                let child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => return drop(started.send(Err(error))),
                };
                let _owner_waits = started.send(Ok(()));
                watch(child, &stopped);
                seen.store(false, Ordering::Release);
            })?;
        start.recv().map_err(io::Error::other)??;
        Ok(Self {
            running,
            stop,
            thread: Some(thread),
        })
    }

    /// Whether the child has not ended yet.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_by_itself = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Waits until the child ends, or kills it when told to or when its owner is gone.
fn watch(mut child: Child, stopped: &std::sync::mpsc::Receiver<()>) {
    use std::sync::mpsc::RecvTimeoutError::Timeout;
    while stopped.recv_timeout(Duration::from_millis(20)) == Err(Timeout) {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
    }
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::warn!(%error, "a server could not be killed");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server runs beside the test, which no command with a deadline does"
)]
fn command() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command
}
