//! What can go wrong with the catalog.

use std::path::{Path, PathBuf};

/// The error of every catalog call.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file or its folder cannot be made or opened.
    #[error("cannot open the catalog {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Another manager works with it.
    #[error("the catalog in {} is in use by another process: a running `stockpot serve` has to be stopped first", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A newer version of the program made it.
    #[error(
        "the catalog has schema {found}, this version knows up to {known}; use a newer version"
    )]
    Newer {
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file cannot be trusted: the disk, or somebody's hand, has changed it.
    #[error(
        "the catalog {} is damaged ({why}); stop the daemon, and make the catalog again with `stockpot catalog rebuild`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What is asked for does not begin in the status it is in.
    #[error("{what} is {}: it cannot be {} now", state(from), done(to))]
    Transition {
        /// Kind and id.
        what: String,
        /// Its status.
        from: &'static str,
        /// The status that it would get.
        to: &'static str,
    },
    /// The database refused.
    #[error("the catalog cannot be read or written")]
    Database(#[source] rusqlite::Error),
    /// A row holds what this program never writes.
    #[error("the catalog's {table} has an unusable {column}: {value}")]
    Row {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What it holds, shortened.
        value: String,
    },
    /// Its thread is gone: the program is ending, or a call made it panic.
    #[error("the catalog is closed")]
    Closed,
}

/// A status in a sentence.
fn state(status: &'static str) -> &'static str {
    match status {
        "error" => "in error",
        "pending" => "under way",
        other => other,
    }
}

/// What would be done with something, by the status that it would get.
fn done(status: &'static str) -> &'static str {
    match status {
        "creating" => "made",
        "restoring" => "restored",
        "in-use" => "attached",
        "available" => "detached",
        "backing-up" => "backed up",
        "extending" => "grown",
        "deleting" | "deleted" => "deleted",
        "cancelling" | "cancelled" => "cancelled",
        "pending" => "uploaded",
        other => other,
    }
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl CatalogError {
    /// The same, with the file's name where it is about damage.
    pub(super) fn of_damage(self, file: &Path) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let why = match self {
            Self::Damaged { why, .. } => why,
            Self::Database(rusqlite::Error::SqliteFailure(error, text))
                if matches!(error.code, DatabaseCorrupt | NotADatabase) =>
            {
                text.unwrap_or_else(|| error.to_string())
            }
            other => return other,
        };
        Self::Damaged {
            path: file.to_owned(),
            why,
        }
    }

    /// Whether the same call may succeed a little later: a full disk, one that does not answer, somebody who reads the file. What a
    /// rule of the tables refuses, and what is damaged, stays as it is.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        use rusqlite::ErrorCode::{ConstraintViolation, DatabaseCorrupt, NotADatabase, Unknown};
        matches!(
            self,
            Self::Database(rusqlite::Error::SqliteFailure(error, _))
                if !matches!(error.code, ConstraintViolation | DatabaseCorrupt | NotADatabase | Unknown)
        )
    }

    /// Whether a unique name or id was taken. A status that does not follow is another thing.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(
            self,
            Self::Database(rusqlite::Error::SqliteFailure(error, _))
                if error.code == rusqlite::ErrorCode::ConstraintViolation
                    && error.extended_code != rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER
        )
    }
}
