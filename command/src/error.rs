//! How a command can end badly.

use std::{fmt, time::Duration};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed.
    #[error("program {program} was not found{}", .package.map(|p| format!(" (Debian package {p})")).unwrap_or_default())]
    Missing {
        /// Its name.
        program: String,
        /// The package that holds it, where the caller said.
        package: Option<&'static str>,
    },
    /// It could not be started.
    #[error("cannot start {command}")]
    Start {
        /// Program and arguments.
        command: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// It ran and failed.
    #[error("{command}: {exit}{}", if .stderr.is_empty() { String::new() } else { format!(": {}", .stderr) })]
    Failed {
        /// Program and arguments.
        command: String,
        /// How it ended.
        exit: Exit,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// It did not end in time and was stopped.
    #[error("{command}: stopped after {} s without an end{}", .deadline.as_secs_f32(), if .stderr.is_empty() { String::new() } else { format!(": {}", .stderr) })]
    Deadline {
        /// Program and arguments.
        command: String,
        /// The time that it was given.
        deadline: Duration,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// It printed more than was agreed.
    #[error("{command}: printed more than {limit_bytes} bytes")]
    TooMuchOutput {
        /// Program and arguments.
        command: String,
        /// The bound.
        limit_bytes: usize,
    },
    /// Its end could not be waited for.
    #[error("cannot wait for {command}")]
    Wait {
        /// Program and arguments.
        command: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl CommandError {
    /// What the command wrote to stderr, where it got as far.
    #[must_use]
    pub fn stderr(&self) -> &str {
        match self {
            Self::Failed { stderr, .. } | Self::Deadline { stderr, .. } => stderr,
            _ => "",
        }
    }

    /// How the command ended, where it ended by itself.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::Failed { exit, .. } => Some(*exit),
            _ => None,
        }
    }
}
