//! Runs external commands: the only place where Stockpot starts a process.
//!
//! Every command gets an absolute program path from a fixed list of directories, `LC_ALL=C`, an otherwise empty
//! environment, a process group of its own and a deadline. What it prints is kept up to a bound. When the
//! deadline passes, the group is asked to stop (SIGTERM) and then killed; when the future is dropped it
//! is killed at once, unless it is [`gentle`](Command::gentle). Secrets go through [`Command::stdin`], never through an argument.
//!
//! ```no_run
//! # async fn f() -> Result<(), stockpot_command::CommandError> {
//! use stockpot_command::Command;
//! let report = Command::new("lvs").package("lvm2").args(["--reportformat", "json"]).run().await?;
//! println!("{}", report.stdout_text());
//! # Ok(())
//! # }
//! ```

mod conversation;
mod error;
mod process;
mod program;
mod run;

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    pin::Pin,
    time::Duration,
};

pub use conversation::Conversation;
pub use error::{CommandError, Exit};
pub use process::Process;
pub use program::{SEARCH_DIRECTORIES, find_program};
use zeroize::Zeroizing;

/// How long a command may take when nothing else is said.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// How much of a command's standard output is accepted when nothing else is said, in bytes.
pub const DEFAULT_OUTPUT_LIMIT_BYTES: usize = 16 << 20;

/// A command to be run once.
pub struct Command {
    program: OsString,
    package: Option<&'static str>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Zeroizing<Vec<u8>>>,
    deadline: Duration,
    output_limit_bytes: usize,
    stdout_sink: Option<Sink>,
    gentle: bool,
    note: Option<Note>,
}

/// Writes down which process a command is.
type Note = Box<dyn FnOnce(Process) -> Noting + Send>;
type Noting = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Where standard output goes when it is not kept.
type Sink = Box<dyn tokio::io::AsyncWrite + Send + Unpin>;

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error, trimmed, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// Standard output as text, invalid UTF-8 replaced.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Command {
    /// A command without arguments. A name is looked for in [`SEARCH_DIRECTORIES`], an absolute path is taken as it is.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            package: None,
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            deadline: DEFAULT_DEADLINE,
            output_limit_bytes: DEFAULT_OUTPUT_LIMIT_BYTES,
            stdout_sink: None,
            gentle: false,
            note: None,
        }
    }

    /// Names the Debian package that holds the program, for the message when it is missing.
    #[must_use]
    pub fn package(mut self, package: &'static str) -> Self {
        self.package = Some(package);
        self
    }

    /// Adds an argument. Arguments appear in logs and errors: never a secret.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments. Arguments appear in logs and errors: never a secret.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable in the command's environment, which holds `PATH` and `LC_ALL` otherwise.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the command reads on its standard input (nothing otherwise). Wiped from memory afterwards; never logged.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(Zeroizing::new(bytes.into()));
        self
    }

    /// How long it may take; [`DEFAULT_DEADLINE`] otherwise.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How much standard output is accepted, in bytes; [`DEFAULT_OUTPUT_LIMIT_BYTES`] otherwise.
    #[must_use]
    pub fn output_limit_bytes(mut self, limit: usize) -> Self {
        self.output_limit_bytes = limit;
        self
    }

    /// Passes standard output on while the command runs, however much it is, and keeps none of it. The sink is shut down
    /// at the end; one that takes no more ends the command, by a closed pipe.
    #[must_use]
    pub fn stdout_into(
        mut self,
        sink: impl tokio::io::AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        self.stdout_sink = Some(Box::new(sink));
        self
    }

    /// Never kills it: a dropped future sends SIGTERM only, and the deadline waits longer for the answer to that.
    /// For programs that must not be stopped half-way, such as LVM's, which hold SIGTERM off while devices are suspended.
    #[must_use]
    pub fn gentle(mut self) -> Self {
        self.gentle = true;
        self
    }

    /// Runs nothing of it before `note` has written down which process it is, and nothing at all if that fails or this process dies
    /// before: a shell waits for a word of ours, and then becomes the program. So whoever finds the note after a crash can
    /// [stop](Process::stop) what was left. For commands that are run to their end.
    #[must_use]
    pub fn noted_by<F>(mut self, note: impl FnOnce(Process) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        self.note = Some(Box::new(|process| Box::pin(note(process))));
        self
    }

    /// Runs it to its end; anything but exit code 0 is an error.
    ///
    /// # Errors
    /// [`CommandError::Failed`] with the exit and the end of stderr, and those of [`output`](Self::output).
    pub async fn run(self) -> Result<Output, CommandError> {
        let text = self.to_string();
        let output = self.output().await?;
        if output.exit == Exit::Code(0) {
            Ok(output)
        } else {
            Err(CommandError::Failed {
                command: text,
                exit: output.exit,
                stderr: output.stderr,
            })
        }
    }

    /// Runs it to its end, whatever its exit code is.
    ///
    /// # Errors
    /// If it could not be started, overran its deadline or printed too much.
    pub async fn output(self) -> Result<Output, CommandError> {
        run::run(self).await
    }

    /// Starts it, to be talked to line by line while it runs. No deadline, and no killing: see [`Conversation`].
    ///
    /// # Errors
    /// If it could not be started.
    pub fn converse(self) -> Result<Conversation, CommandError> {
        Conversation::start(&self)
    }
}

/// Program and arguments as one line; no environment, no standard input.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.to_string_lossy())?;
        for arg in &self.args {
            let arg = arg.to_string_lossy();
            if arg.is_empty() || arg.contains(char::is_whitespace) {
                write!(f, " {arg:?}")?;
            } else {
                write!(f, " {arg}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self})")
    }
}
