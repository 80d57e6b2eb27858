//! What can go wrong in a driver, named by what the caller can do about it.

use std::{borrow::Cow, path::PathBuf};

/// The error of every [`VolumeDriver`](crate::VolumeDriver) call.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The volume or snapshot does not exist. That all of the storage is missing is [`Host`](Self::Host): then nobody can
    /// say what exists.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for, in words (`volume vol-1`).
        what: String,
    },
    /// Something of that name exists, with other properties or made by somebody else.
    #[error("{what} already exists and is not the same: {difference}")]
    AlreadyExists {
        /// What is in the way.
        what: String,
        /// How it differs from what was asked for.
        difference: String,
    },
    /// The request cannot be carried out whatever the state of the storage.
    #[error("{0}")]
    InvalidArgument(String),
    /// The size asked for is outside what the call allows.
    #[error("{0}")]
    OutOfRange(String),
    /// Not enough room; the text carries the figures.
    #[error("{0}")]
    ResourceExhausted(String),
    /// It is attached, mounted or otherwise held, or has something that depends on it.
    #[error("{what} is in use: {by}")]
    InUse {
        /// What cannot be changed.
        what: String,
        /// Who or what holds it.
        by: String,
    },
    /// A snapshot's content is lost: its room for changes ran out. It can be deleted, and nothing else.
    #[error("{what} is void: {why}")]
    Void {
        /// Which snapshot.
        what: String,
        /// How that came about, and what to do.
        why: String,
    },
    /// This driver cannot do that at all.
    #[error("{0} is not supported by this driver")]
    Unsupported(Cow<'static, str>),
    /// The host lacks a program, a module, a permission or the storage itself; the text says which and what to do.
    #[error("this host cannot do that: {0}")]
    Host(String),
    /// An external command failed.
    #[error("{doing}")]
    Command {
        /// What was being done, in words.
        doing: String,
        /// The command's failure.
        #[source]
        source: stockpot_command::CommandError,
    },
    /// The kernel's iSCSI target did not do as it was told.
    #[error("exporting over iSCSI")]
    Target(#[source] Box<crate::target::TargetError>),
    /// The storage is another node's, and that node cannot be asked, or could not do it.
    #[error(transparent)]
    Node(Box<crate::remote::NodeError>),
    /// The operating system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done, in words.
        doing: &'static str,
        /// The file or device it was done to.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A tool or the kernel answered something that cannot be understood.
    #[error("unexpected answer while {doing}: {answer}")]
    Unexpected {
        /// What was being done, in words.
        doing: String,
        /// The answer, shortened.
        answer: String,
    },
}

impl DriverError {
    /// Whether what was asked for may still be done behind: a command took too long, and it is not known whether it will come to
    /// its end. What it may make then is not to be forgotten.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        use stockpot_command::CommandError::Deadline;
        let source = match self {
            Self::Command { source, .. } => source,
            Self::Node(error) => return error.may_go_on(),
            _ => return false,
        };
        matches!(source, Deadline { .. })
    }

    /// A command's failure; a missing program is the host's fault and says so.
    pub(crate) fn command(
        doing: impl Into<String>,
        source: stockpot_command::CommandError,
    ) -> Self {
        match source {
            missing @ stockpot_command::CommandError::Missing { .. } => {
                Self::Host(missing.to_string())
            }
            source => Self::Command {
                doing: doing.into(),
                source,
            },
        }
    }
}
