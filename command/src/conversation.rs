//! A process that is talked to, line by line, while it runs.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Take},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{Command, CommandError, program::find_program, run::prepare};

/// How much it may say in all, in bytes.
const SAID_BYTES_MAX: u64 = 1 << 20;

/// A process that is talked to. Dropping this closes its standard input, which tells it to end; it is never killed, and lives on
/// if this process dies. What it writes to standard error goes where ours goes.
#[derive(Debug)]
pub struct Conversation {
    command: String,
    /// Reaped by the runtime once it has ended.
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<Take<ChildStdout>>>,
}

impl Conversation {
    pub(crate) fn start(command: &Command) -> Result<Self, CommandError> {
        let text = command.to_string();
        let Some(path) = find_program(&command.program) else {
            return Err(CommandError::Missing {
                program: command.program.to_string_lossy().into_owned(),
                package: command.package,
            });
        };
        tracing::debug!(command = %text, "converse");
        let failed = |source| CommandError::Start {
            command: text.clone(),
            source,
        };
        let mut child = prepare(command, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        Ok(Self {
            command: text,
            _child: child,
            stdin,
            lines: BufReader::new(stdout.take(SAID_BYTES_MAX)).lines(),
        })
    }

    /// Says one line, which must not hold a line feed.
    ///
    /// # Errors
    /// [`CommandError::Wait`] when it does not listen any more.
    pub async fn say(&mut self, line: &str) -> Result<(), CommandError> {
        let bytes = format!("{line}\n").into_bytes();
        let said = async {
            self.stdin.write_all(&bytes).await?;
            self.stdin.flush().await
        };
        said.await.map_err(|source| CommandError::Wait {
            command: self.command.clone(),
            source,
        })
    }

    /// What it says next; `None` when it has ended. May be dropped and called again without losing a line.
    ///
    /// # Errors
    /// [`CommandError::Wait`].
    pub async fn hear(&mut self) -> Result<Option<String>, CommandError> {
        let heard = self.lines.next_line().await;
        heard.map_err(|source| CommandError::Wait {
            command: self.command.clone(),
            source,
        })
    }
}
