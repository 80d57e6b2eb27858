//! Starting, feeding, reading and ending one process.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    pin::pin,
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin},
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    Command, Output, Process, Sink,
    error::{CommandError, Exit},
    program::{SEARCH_DIRECTORIES, find_program},
};

/// How long a command may take to end after SIGTERM before it is killed.
pub(crate) const TERM_GRACE: Duration = Duration::from_secs(5);

/// The same for a command that is never killed: how long its end is waited for.
const GENTLE_GRACE: Duration = Duration::from_secs(30);

/// How long output is still read after the command ended: a daemon it left behind may hold the pipe open.
const PIPE_GRACE: Duration = Duration::from_secs(1);

/// How much of the end of standard error is kept, in bytes.
const STDERR_KEPT_BYTES: usize = 16 << 10;

/// What stands before a command that is not to run before it was noted: it waits for a line on standard input, of which it reads no
/// more than that, and ends if there comes none.
const GATE: [&str; 4] = ["/bin/sh", "-c", "read -r _go && exec \"$@\"", "sh"];

pub(crate) async fn run(mut command: Command) -> Result<Output, CommandError> {
    let text = command.to_string();
    let Some(path) = find_program(&command.program) else {
        return Err(CommandError::Missing {
            program: command.program.to_string_lossy().into_owned(),
            package: command.package,
        });
    };
    tracing::debug!(command = %text, "run");
    let mut child = spawn(&command, &path).map_err(|source| CommandError::Start {
        command: text.clone(),
        source,
    })?;
    // Killed with the future, children of its own included; disarmed once the process was waited for.
    let mut group = Group::of(&child, command.gentle);
    let input = note_first(&mut command, &child).await;
    let input = input.map_err(|source| CommandError::Start {
        command: text.clone(),
        source,
    })?;
    let keep = match command.stdout_sink.take() {
        Some(sink) => Keep::Nothing(sink),
        None => Keep::All,
    };
    let mut stdout = Capture::new(keep, command.output_limit_bytes);
    let mut stderr = Capture::new(Keep::Tail, STDERR_KEPT_BYTES);
    let ended = timeout(
        command.deadline,
        drive(&mut child, input, &mut stdout, &mut stderr),
    )
    .await;
    let stderr_text = String::from_utf8_lossy(&stderr.bytes).trim().to_owned();
    let Ok(status) = ended else {
        group.stop(&mut child).await;
        return Err(CommandError::Deadline {
            command: text,
            deadline: command.deadline,
            stderr: stderr_text,
        });
    };
    let status = status.map_err(|source| CommandError::Wait {
        command: text.clone(),
        source,
    })?;
    group.disarm();
    if stdout.overflowed {
        return Err(CommandError::TooMuchOutput {
            command: text,
            limit_bytes: command.output_limit_bytes,
        });
    }
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    };
    Ok(Output {
        exit,
        stdout: stdout.bytes,
        stderr: stderr_text,
    })
}

/// Has the process noted, if it is to be, and says what it gets on its standard input: first the word to go.
async fn note_first(
    command: &mut Command,
    child: &Child,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let input = command.stdin.take();
    let Some(note) = command.note.take() else {
        return Ok(input);
    };
    note(Process::of(child.id().unwrap_or_default())?).await?;
    let input = input.as_deref().map_or(&[][..], Vec::as_slice);
    let mut all = Zeroizing::new(Vec::with_capacity(input.len() + 1));
    all.push(b'\n');
    all.extend_from_slice(input);
    Ok(Some(all))
}

/// Starts the process, in a group of its own.
fn spawn(command: &Command, path: &Path) -> io::Result<Child> {
    let stdin = match command.stdin.is_some() || command.note.is_some() {
        true => Stdio::piped(),
        false => Stdio::null(),
    };
    prepare(command, path)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(!command.gentle)
        .spawn()
}

/// What every process gets, whatever becomes of its streams.
pub(crate) fn prepare(command: &Command, path: &Path) -> tokio::process::Command {
    let mut argv: Vec<&OsStr> = Vec::new();
    if command.note.is_some() {
        argv.extend(GATE.map(OsStr::new));
    }
    argv.push(path.as_os_str());
    argv.extend(command.args.iter().map(OsString::as_os_str));
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that runs commands"
    )]
    let mut process = tokio::process::Command::new(argv[0]);
    process
        .args(&argv[1..])
        .env_clear()
        .env("PATH", SEARCH_DIRECTORIES.join(":"))
        .env("LC_ALL", "C")
        .envs(command.env.iter().map(|(k, v)| (k, v)))
        .current_dir("/")
        .process_group(0);
    process
}

/// Feeds and reads the child until it ends.
async fn drive(
    child: &mut Child,
    input: Option<Zeroizing<Vec<u8>>>,
    stdout: &mut Capture,
    stderr: &mut Capture,
) -> std::io::Result<std::process::ExitStatus> {
    let passed_on = matches!(stdout.keep, Keep::Nothing(_));
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut pipes = pin!(async {
        tokio::join!(feed(stdin, input), stdout.fill(out), stderr.fill(err));
    });
    let mut drained = false;
    let status = loop {
        tokio::select! {
            () = &mut pipes, if !drained => drained = true,
            status = child.wait() => break status?,
        }
    };
    if !drained && passed_on {
        // Whoever takes it may be slow, and needs all of it; the deadline stands.
        pipes.await;
    } else if !drained {
        let _ = timeout(PIPE_GRACE, pipes).await;
    }
    Ok(status)
}

/// Writes the input and closes the pipe. A child that does not read all of it is no error: its exit code tells.
async fn feed(stdin: Option<ChildStdin>, input: Option<Zeroizing<Vec<u8>>>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        let _ = stdin.write_all(&input).await;
        let _ = stdin.shutdown().await;
    }
}

/// Which part of a stream is kept when it is longer than the limit.
enum Keep {
    All,
    Tail,
    /// It is passed on.
    Nothing(Sink),
}

/// A bounded copy of one of the child's streams; what is too much is read and dropped, so the child never blocks.
struct Capture {
    keep: Keep,
    limit_bytes: usize,
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Capture {
    fn new(keep: Keep, limit_bytes: usize) -> Self {
        Self {
            keep,
            limit_bytes,
            bytes: Vec::new(),
            overflowed: false,
        }
    }

    async fn fill(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            if let Keep::Nothing(sink) = &mut self.keep {
                if sink.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            } else {
                self.push(&buffer[..n]);
            }
        }
        if let Keep::Nothing(sink) = &mut self.keep {
            // A reader that has gone knows that it did not get the end.
            let _ = sink.shutdown().await;
        }
    }

    fn push(&mut self, more: &[u8]) {
        match self.keep {
            Keep::Nothing(_) => {}
            Keep::All if self.bytes.len() + more.len() > self.limit_bytes => self.overflowed = true,
            Keep::All => self.bytes.extend_from_slice(more),
            Keep::Tail => {
                self.bytes.extend_from_slice(more);
                let excess = self.bytes.len().saturating_sub(self.limit_bytes);
                self.bytes.drain(..excess);
            }
        }
    }
}

/// The child's process group, signalled when this is dropped before the child was waited for.
struct Group {
    leader: Option<Pid>,
    gentle: bool,
}

impl Group {
    fn of(child: &Child, gentle: bool) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            leader: id.map(Pid::from_raw),
            gentle,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.leader {
            let _ = killpg(group, signal);
        }
    }

    fn disarm(&mut self) {
        self.leader = None;
    }

    /// Asks the group to end, kills it if it does not (and may be), and reaps the child.
    async fn stop(&mut self, child: &mut Child) {
        self.signal(Signal::SIGTERM);
        let grace = if self.gentle {
            GENTLE_GRACE
        } else {
            TERM_GRACE
        };
        if timeout(grace, child.wait()).await.is_err() && !self.gentle {
            self.signal(Signal::SIGKILL);
            // A process in an uninterruptible wait cannot be reaped now; the runtime does it later.
            let _ = timeout(TERM_GRACE, child.wait()).await;
        }
        self.disarm();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(if self.gentle {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        });
    }
}
